"""Saved work on screen: the store of this server, the button that saves, and what the Saved page does with what is chosen."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import streamlit as st
from pydantic import ValidationError

from planner import units
from planner.device import DeviceProfile
from planner.errors import PlanError, shorten
from planner.estimate.result import Estimate
from planner.estimate.verdict import FITS
from planner.evidence import own
from planner.files import data_folder
from planner.run import Run, parse_run
from planner.search.compare import Compared, compare
from planner.ui import changes as inputs
from planner.ui import estimates, measuring, state, texts
from planner.ui.language import _

if TYPE_CHECKING:
    from planner.store import Entry, Store

KIND_LABELS: Final = {"plan": "Plans", "profile": "Profiles", "probe": "Probes", "log": "Logs"}
MOST: Final = 12
"""Plans compared at once."""
UNDO, NOTE = "saved_undo", "saved_note"


@st.cache_resource(show_spinner=False, ttl=3600)
def store() -> Store:
    """The store of this server, opened once; what it needs is loaded then and not when the app starts. Raises `PlanError`."""
    from planner.store import open_store

    return open_store()


def save_button(run: Run, now: Estimate, broken: bool) -> None:
    """In the sidebar: keep the plan under a name. A database that fails is said here and nowhere else."""
    with st.popover(_("Save plan"), icon=":material/bookmark:", type="tertiary", key="save_popover"):
        if broken:
            st.caption(_("The inputs cannot be planned yet; there is nothing to save."))
            return
        model, gpu = texts.short_model(str(now.details["model"]["name"])), now.details["accelerator"] or "own device"
        otherwise = f"{model} on {run.hardware.gpus} × {gpu}"
        st.text_input(_("Name"), key="save_name", placeholder=_(otherwise), max_chars=200)
        st.text_input(_("Tags"), key="save_tags", placeholder=_("team, draft"), max_chars=400)
        st.button(_("Save"), key="save_now", type="primary", on_click=_save, args=(run, now, otherwise))
        if (note := st.session_state.pop("save_note", None)) is not None:
            kind, text = note
            (st.success if kind == "done" else st.error)(_(text))


def _save(run: Run, now: Estimate, otherwise: str) -> None:
    from planner.store.plans import save_plan

    name = str(st.session_state.get("save_name") or "").strip() or otherwise
    try:
        kept = save_plan(store(), name, run, now, tags=_tags(st.session_state.get("save_tags")))
        st.session_state["save_note"] = ("done", f"Saved as {texts.plain(kept.name)}.")
    except PlanError as error:
        st.session_state["save_note"] = ("failed", texts.plain(str(error)))


def _tags(text: Any) -> list[str]:
    return [tag.strip() for tag in str(text or "").split(",")]


def gather() -> None:
    """Profiles and probes that were measured on this machine come into the store, once each; a team sees them in its PostgreSQL."""
    _gathered(_changed(), id(store()))


def _changed() -> tuple[tuple[str, int], ...]:
    """What the measured files were when they were last written."""
    files = [data_folder() / own.FILE, *(one.path for one in measuring.saved())]
    return tuple((str(file), file.stat().st_mtime_ns) for file in files if file.exists())


@st.cache_resource(max_entries=4, show_spinner=False)
def _gathered(files: tuple[tuple[str, int], ...], _store: int) -> None:
    for one in measuring.saved():
        if (profile := one.profile) is not None:
            store().keep("profile", profile.name, profile.model_dump(mode="json"), words=f"{profile.accelerator_name or ''} {profile.source}")
    for probe in own.rows():
        if probe.origin == "log":
            continue  # the audit of it stands there
        row = probe.row
        figures = {"step_time_s": statistics.median(probe.steps), "peak_reserved_bytes": probe.reserved_bytes or probe.allocated_bytes}
        name = f"{texts.short_model(row.get('model') or 'Model')} on {probe.accelerator or probe.device}, {probe.date[:10]}"
        words = " ".join(filter(None, (row.get("model"), row.get("method"), probe.accelerator, probe.device)))
        store().keep("probe", name, probe.model_dump(mode="json"), figures=figures, words=words)


def use_profile(entry: str) -> None:
    """A saved profile becomes the device that plans stand on."""
    try:
        profile = DeviceProfile.model_validate(store().document(entry).document)
        st.session_state[measuring.IN_USE] = profile
        st.session_state[NOTE] = (f"Plans stand on {profile.name} now.", [])
    except ValidationError as error:
        st.session_state[NOTE] = (f"This profile cannot be read: {shorten(error.errors()[0]['msg'])}.", [])
    except PlanError as error:
        st.session_state[NOTE] = (str(error), [])


def rows(found: Sequence[Entry]) -> list[dict[str, Any]]:
    """Lines of the list."""
    return [
        {
            "name": one.name,
            "kind": one.kind,
            "verdict": _(FITS[one.figures["fits"]]) if one.kind == "plan" and one.figures.get("fits", 0) in FITS else _of_log(one),
            "time": _(_took(one.figures)),
            "cost": one.figures.get("cost_usd"),
            "memory": None if (peak := one.figures.get("peak_reserved_bytes")) is None else peak / units.GIB,
            "tags": list(one.tags),
            "changed": one.changed,
            "revision": one.revision,
        }
        for one in found
    ]


def _of_log(one: Entry) -> str:
    """How a run went by its log, against its plan."""
    return _(str(one.figures.get("verdict") or "")) if one.kind == "log" else ""


def _took(figures: dict[str, Any]) -> str:
    """Time of the whole run, or of a step where that is all that is known."""
    if figures.get("total_time_s"):
        return units.format_seconds(figures["total_time_s"])
    return f"{units.format_seconds(figures['step_time_s'])} a step" if figures.get("step_time_s") else ""


def open_plan(entry: str) -> None:
    """A saved plan becomes the plan, and what has changed since it was saved is noted."""
    from planner.store.plans import changes, plan_of

    try:
        saved = store().document(entry)
        run = plan_of(saved)
        inputs.set_run(run)
        now = estimates.planned(run)
        st.session_state[NOTE] = (f"“{store().get(entry).name}” is the plan now.", changes(saved.figures, now))
    except PlanError as error:
        st.session_state[NOTE] = (str(error), [])


def open_log(entry: str) -> None:
    """The run of an audited log becomes the plan, as it ran, and what was found is noted."""
    try:
        document = store().document(entry).document
        inputs.set_run(parse_run(document.get("ran")))
        st.session_state[NOTE] = (f"“{store().get(entry).name}” is the plan now, as it ran.", [str(document.get("why") or "")])
    except PlanError as error:
        st.session_state[NOTE] = (str(error), [])


def overwrite(entry: str, name: str, run: Run, now: Estimate) -> None:
    """The plan of the sidebar becomes the newest revision of an entry."""
    from planner.store.plans import save_plan

    _noted(lambda: save_plan(store(), name, run, now, entry=entry), f"“{name}” has the present plan as its newest revision.")


def describe(entry: str) -> None:
    """Name and tags from their inputs."""

    def change() -> None:
        name = str(st.session_state.get(f"saved_name_{entry}") or "").strip()
        if name and name != store().get(entry).name:
            store().rename(entry, name)
        store().tag(entry, _tags(st.session_state.get(f"saved_tags_{entry}")))

    _noted(change, "Changed.")


def delete(chosen: Sequence[str]) -> None:
    """Delete, and offer the way back."""
    if _noted(lambda: store().delete(chosen), f"Deleted {len(chosen)}."):
        st.session_state[UNDO] = tuple(chosen)


def restore(chosen: Sequence[str]) -> None:
    """Bring back what was deleted."""
    _noted(lambda: store().restore(chosen), f"Brought back {len(chosen)}.")
    st.session_state.pop(UNDO, None)


def _noted(act: Any, said: str) -> bool:
    """Do something to the store and note how it went."""
    st.session_state.pop(UNDO, None)
    try:
        act()
    except PlanError as error:
        st.session_state[NOTE] = (str(error), [])
        return False
    st.session_state[NOTE] = (said, [])
    return True


def compared(chosen: Sequence[Entry]) -> tuple[tuple[Compared, ...], list[str]]:
    """Saved plans estimated now and ranked, and a sentence on each that cannot be."""
    from planner.store.plans import plan_of

    known: list[tuple[str, Estimate]] = []
    problems: list[str] = []
    for one in chosen[:MOST]:
        try:
            found = estimates.estimated(plan_of(store().document(one.id)), None)
        except PlanError as error:
            found = error
        if isinstance(found, PlanError):
            problems.append(f"{one.name} cannot be planned: {found.field} {found.problem}.")
        else:
            name = one.name if one.name not in {name for name, _estimate in known} else f"{one.name} ({one.id[:6]})"
            known.append((name, found))
    if len(chosen) > MOST:
        problems.append(f"{len(chosen) - MOST} more are left out: {MOST} at a time.")
    return (compare(known) if len(known) > 1 else ()), problems


def as_file(entry: str) -> str:
    """The newest document of an entry, for download: of a plan its run file."""
    newest = store().document(entry).document
    return json.dumps(newest.get("run", newest), indent=2, ensure_ascii=False)


def same_as_now(entry: Entry, run: Run) -> bool:
    """Whether a saved plan is the plan of the sidebar."""
    from planner.store.plans import plan_of

    try:
        return state.values_of(plan_of(store().document(entry.id))) == state.values_of(run)
    except PlanError:
        return False
