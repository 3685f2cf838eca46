"""Handing a plan over: its report, its lock, the files that start it, a comparison, and a file that is opened as the plan."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import streamlit as st
import yaml

from planner import estimate
from planner.device import DeviceProfile
from planner.errors import PlanError, shorten
from planner.launch import FORMATS, Launch, launch
from planner.lock import changes, lock_in, lock_of, lock_text, pinned
from planner.report import EXPORTERS, Comparison, Subject, subject_of
from planner.run import Run, parse_run, plain_loader
from planner.search.constraints import Objective
from planner.ui import changes as widgets
from planner.ui import estimates, frame, texts
from planner.ui.language import _

NOTE: Final = "handed_note"
"""Key of the session: (what was opened or why not, what has changed since it was written)."""
MOST: Final = 8
"""Plans in one comparison report: a column of a page each."""
MAX_BYTES: Final = 2 * 2**20


def open_file() -> None:
    """The uploaded plan.lock, JSON report or run file becomes the plan; Undo is in the sidebar."""
    file = st.session_state.get("handed_file")
    if file is None:
        return
    try:
        run, moved = read(file.getvalue())
        widgets.set_run(run)
        st.session_state[NOTE] = (f"{file.name} is the plan now.", moved)
    except PlanError as error:
        st.session_state[NOTE] = (f"{file.name} cannot be opened: {error}", ())


def read(content: bytes) -> tuple[Run, tuple[str, ...]]:
    """The run of a file's content, and what has changed since it was locked. Raises `PlanError`."""
    if len(content) > MAX_BYTES:
        raise PlanError("file", f"{len(content):,} bytes", "is larger than 2 MiB", "Write the report anew, or open its run file.")
    try:
        text = content.decode("utf-8-sig")
        document: Any = json.loads(text) if text.lstrip().startswith("{") else yaml.load(text, Loader=plain_loader())  # noqa: S506
    except (UnicodeDecodeError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise PlanError("file", "", f"is not valid JSON or YAML ({shorten(error, 120)})", "Take a plan.lock, a JSON report or a run file.") from None
    lock = lock_in(document)
    if lock is None:
        return parse_run(document), ()
    run, moved = pinned(lock)
    try:
        now = changes(lock, estimates.planned(run))
    except PlanError as error:
        return run, (f"It cannot be computed today: {error.field} {error.problem}.",)
    return run, tuple(one.text for one in (*now, *moved))


def show_note() -> None:
    """What was opened, and what has changed."""
    if (note := st.session_state.pop(NOTE, None)) is not None:
        said, moved = note
        lines = [texts.plain(said), *(f"- {texts.plain(line)}" for line in moved[: frame.LINES])]
        st.info("\n".join(lines), icon=":material/info:", title=_("Since it was written, this has changed") if moved else None)


def report_of(current: frame.Current, name: str) -> bytes:
    """The plan's report in a format, made once. Raises `PlanError` where the format needs a package that is not installed."""
    one = current.estimate
    return _report(estimates.run_key(current.run), estimates.profile_key(current.profile), f"{one.basis} {one.step_time_s}", name, current)


@st.cache_data(max_entries=40, show_spinner=False)
def _report(run: str, device: str, stands_on: str, name: str, _current: frame.Current) -> bytes:
    return EXPORTERS[name].render(subject_of(_current.run, _current.estimate, _current.profile))


def lock_content(current: frame.Current) -> str:
    """The plan's lock as a file."""
    return lock_text(lock_of(current.run, current.estimate, current.profile))


def launch_section(current: frame.Current) -> None:
    """Choose a format, see what it cannot express, download its files."""
    st.subheader(_("Start it"), anchor=False, help=_("The plan as the files that start it, for the software that you use."))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox(_("Software"), list(FORMATS), key="launch_format", format_func=lambda key: FORMATS[key].label, width=320)
        try:
            made = launch(current.estimate, name)
        except PlanError as error:
            made = None
            problem = error
        if made is not None:
            content, file = bundle(made)
            st.download_button(
                _("Download"), content, file, "application/zip" if file.endswith(".zip") else "text/plain",
                key="launch_download", icon=":material/download:", on_click="ignore",
            )  # fmt: skip
    if made is None:
        st.info(texts.plain(problem.fix), title=texts.plain(f"{FORMATS[name].label} cannot start this plan: {problem.field} {problem.problem}"))
        return
    st.code(made.command, language=None, wrap_lines=True)
    if made.missing:
        st.markdown(_(f"**{texts.plain(FORMATS[name].label)} does not express:**\n" + "\n".join(f"- {texts.plain(line)}" for line in made.missing)))
    else:
        st.caption(_("Everything that the plan says is expressed."))
    for note in made.notes:
        st.caption(texts.plain(note))
    for part in made.files:
        with st.expander(texts.plain(part.name)):
            st.code(part.text[: texts.PREVIEW], language=_language(part.name), wrap_lines=True, height=420)
    st.caption(_(f"Settings after {texts.plain(FORMATS[name].reference)}."))


def bundle(made: Launch) -> tuple[bytes, str]:
    """A format's files for download: one as it is, several in an archive."""
    if len(made.files) == 1:
        return made.files[0].text.encode(), made.files[0].name
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in made.files:
            archive.writestr(zipfile.ZipInfo(file.name, (2000, 1, 1, 0, 0, 0)), file.text)
    return out.getvalue(), f"plan-{made.format}.zip"


def _language(name: str) -> str | None:
    return {"py": "python", "sh": "sh", "json": "json", "yaml": "yaml", "yml": "yaml", "toml": "toml", "slurm": "sh"}.get(name.rpartition(".")[2])


def comparison_button(plans: Sequence[tuple[str, Run]], profile: DeviceProfile | None, objective: Objective, key: str) -> None:
    """Download a comparison of plans as one report. plans: the first is the baseline; those beyond `MOST` are left out, and it is said."""
    shown = list(plans)[:MOST]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox(_("Report of these plans"), list(EXPORTERS), key=f"{key}_format", format_func=lambda one: EXPORTERS[one].label, width=260)
        st.download_button(
            _("Download"), partial(comparison, shown, profile, objective, name), f"plumbline-comparison.{EXPORTERS[name].ending}", EXPORTERS[name].mime,
            key=f"{key}_download", icon=":material/download:", on_click="ignore",
        )  # fmt: skip
    if len(plans) > MOST:
        st.caption(_(f"The report holds the baseline and the best of the rest, {MOST} in all."))


def comparison(plans: Sequence[tuple[str, Run]], profile: DeviceProfile | None, objective: Objective, name: str) -> bytes:
    """A comparison report, made when it is asked for. A measured profile is of the first plan's accelerator alone."""
    first = plans[0][1].hardware.gpu
    subjects = []
    for label, run in plans:
        own = profile if run.hardware.gpu == first else None
        subjects.append(Subject(estimate(run, own), (), run, own, None, label))
    return EXPORTERS[name].many(Comparison(tuple(subjects), objective))
