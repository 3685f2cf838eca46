"""Find the best: what the user offers and asks, a search in a process of its own with progress and cancel, and its answer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import streamlit as st

from planner import units
from planner.catalog import accelerators
from planner.errors import PlanError
from planner.estimate.result import Estimate
from planner.run import Run, parse_run
from planner.search import Constraints
from planner.search.backwards import seconds_until
from planner.summary import degrees, global_batch
from planner.ui import comparing, estimates, frame, search_queue, texts
from planner.ui.address import CHOICES
from planner.ui.language import _

JOB, ANSWER = "search_job", "search_answer"
PATIENCE: Final = {20.0: "20 s", 60.0: "1 min", 240.0: "4 min"}
"""Longest time of a search [s]; beyond it the answer is of what was looked at, and says how much was not."""
MOST_COUNTS: Final = 64
LOST: Final = ["search", "", "ended without an answer: a fault of Plumbline, or no memory was left", "Offer less, and please report it."]
WITHDRAWN: Final = ["search", "", "was cancelled before its turn came", "Press Find to ask again."]
KEEP: Final = "session"


@dataclass(frozen=True)
class Job:
    """A search: its folder, and its place among those of all sessions."""

    folder: Path
    ticket: search_queue.Ticket

    def before(self) -> int:
        """Searches of other sessions that come first; 0 once it runs."""
        return search_queue.QUEUE.before(self.ticket)

    def progress(self) -> tuple[float, int]:
        """Share that was looked at, and configurations evaluated."""
        try:
            said = json.loads((self.folder / "progress.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return 0.0, 0
        return float(said["share"]), int(said["evaluated"])

    def answer(self) -> dict[str, Any] | None:
        """The answer once there is one; that of a process that died says so."""
        ended = self.ticket.ended
        try:
            found: dict[str, Any] = json.loads((self.folder / "result.json").read_text(encoding="utf-8"))
            return found
        except (OSError, ValueError):
            return {"error": WITHDRAWN if self.ticket.withdrawn else LOST} if ended else None

    def stop(self) -> None:
        """Ask for the answer of what was looked at so far."""
        (self.folder / "stop").touch()
        if self.ticket.process is None:
            search_queue.QUEUE.withdraw(self.ticket)


def counts_of(text: str) -> tuple[int, ...]:
    """Numbers of GPUs of "1-64" (powers of two and the ends) or "1, 2, 12".

    Errors: `PlanError` for what is no number, for an empty range and for too many.
    """
    found: set[int] = set()
    for part in text.split(","):
        if not part.strip():
            continue
        first, dash, last = part.strip().replace("–", "-").partition("-")
        low = units.parse_count(first.strip(), "how many")
        high = units.parse_count(last.strip(), "how many") if dash else low
        if high < low:
            raise PlanError("how many", part.strip(), "is an empty range", f"Write {high}-{low}.")
        found |= {low, high} | {2**i for i in range(high.bit_length()) if low <= 2**i <= high}
    if not found:
        raise PlanError("how many", text, "names no number of GPUs", "Write 1-64, or 8, 16, 32.")
    if len(found) > MOST_COUNTS:
        raise PlanError("how many", text, f"are more than {MOST_COUNTS} numbers", "Write a range such as 1-64.")
    return tuple(sorted(found))


def limits_of(run: Run, deadline: str, budget: float | None, margin: float | None, least: int | None, most: int | None, objective: str | None) -> Constraints:
    """Constraints of what was written. Errors: `PlanError` for limits that nothing can satisfy."""
    limits = Constraints(
        deadline=seconds_until(deadline) if deadline.strip() else None,
        budget=budget,
        min_batch=least,
        max_batch=most,
        margin=None if margin is None else margin / 100,
        objective=objective,  # type: ignore[arg-type]
    )
    limits.check(run)
    return limits


def begin(run: Run, lists: dict[str, Any], limits: Constraints, patience: float, profile: Any) -> Job:
    """Start a search."""
    folder = Path(tempfile.mkdtemp(prefix="plumbline-search-"))
    request = {
        "run": run.model_dump(mode="json", exclude_unset=True),
        "lists": lists,
        "limits": {name: getattr(limits, name) for name in ("deadline", "budget", "min_batch", "max_batch", "margin", "objective")},
        "patience": patience,
        "profile": None if profile is None else profile.model_dump(mode="json"),
    }
    (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    root = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "planner.ui.search_worker", str(folder)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": paths},
        )  # fmt: skip

    return Job(folder, search_queue.QUEUE.enter(start))


def show(current: frame.Current) -> None:
    """The section of the Compare page."""
    with st.container(border=True):
        st.subheader(_("Find the best"), anchor=False, icon=":material/search:")
        st.caption(
            _("Looks at every micro batch, accumulation, checkpointing, sharding and degree on what you offer, and answers with what nothing else beats.")
        )
        asked = _form(current)
        job: Job | None = st.session_state.get(JOB)
        if asked is not None and job is None:
            st.session_state.pop(ANSWER, None)
            job = st.session_state[JOB] = begin(current.run, asked[0], asked[1], asked[2], current.profile)

        @st.fragment(run_every=0.5 if job is not None else None, key="search_live")
        def live() -> None:
            if job is None:
                return
            before, answer = job.before(), job.answer()
            if answer is not None:
                if job.ticket.process is not None:
                    job.ticket.process.wait()
                shutil.rmtree(job.folder, ignore_errors=True)
                st.session_state.pop(JOB, None)
                st.session_state[ANSWER] = answer
                st.rerun()
            share, evaluated = job.progress()
            with st.container(horizontal=True, vertical_alignment="center"):
                st.progress(min(1.0, share), text=_(f"{evaluated:,} configurations" if not before else f"Waits for {before} of other sessions"))
                st.button(_("Cancel"), key="search_cancel", icon=":material/stop:", on_click=job.stop, help=_("Keeps what was found so far."))

        live()
        answer = st.session_state.get(ANSWER)
        if answer is not None and job is None:
            _answer(answer, current)


def _form(current: frame.Current) -> tuple[dict[str, Any], Constraints, float] | None:
    """What is on offer and what is asked, once Find is pressed and all of it makes sense."""
    run, own = current.run, comparing.own_gpu(current.estimate.run)
    names = [part.name for part in accelerators()]
    grid = st.grid(4, min_column_width=200)
    with grid.cell():
        start = [own] if own in names else []
        gpus = st.multiselect(_("GPUs on offer"), names, default=start, key="find_gpus", persist_state=KEEP, placeholder=_("The plan's own"))
    with grid.cell():
        hint = "1-64 tries the powers of two and both ends; 8, 12 tries these."
        counts = st.text_input(_("How many"), "1-16", key="find_counts", persist_state=KEEP, help=_(hint))
    with grid.cell():
        methods = st.multiselect(
            _("Methods allowed"), list(CHOICES["method"]), key="find_methods", persist_state=KEEP, placeholder=_("The plan's own"),
            format_func=lambda name: _(CHOICES["method"][name]),
        )  # fmt: skip
    with grid.cell():
        objective = st.selectbox(
            _("Best by"), ["", "time", "cost", "energy"], key="find_objective", persist_state=KEEP,
            format_func=lambda name: _(name.capitalize() if name else "As the limits suggest"), help=_("Cost where only a deadline is set, else time."),
        )  # fmt: skip
    with grid.cell():
        deadline = st.text_input(_("Deadline"), key="find_deadline", persist_state=KEEP, placeholder=_("24h, or Friday 18:00"))
    with grid.cell():
        budget = st.number_input(_("Budget [USD]"), value=None, key="find_budget", persist_state=KEEP, placeholder=_("none"))
    with grid.cell():
        margin = st.number_input(
            _("Memory to stay free [%]"), value=None, key="find_margin", persist_state=KEEP, placeholder=_("as the error asks"),
            help=_("Left empty, the whole 90 % interval of the peak must fit."),
        )  # fmt: skip
    with grid.cell():
        usual = str(global_batch(current.estimate.run))
        least = st.number_input(_("Least global batch"), value=None, step=1, key="find_least", persist_state=KEEP, placeholder=usual)
    with grid.cell():
        most = st.number_input(_("Largest global batch"), value=None, step=1, key="find_most", persist_state=KEEP, placeholder=_("any"))
    with grid.cell():
        patience = st.selectbox(_("At most"), list(PATIENCE), index=1, key="find_patience", persist_state=KEEP, format_func=lambda s: _(PATIENCE[s]))
    with grid.cell():
        offload = st.toggle(_("Offloading too"), key="find_offload", persist_state=KEEP, help=_("States on the host: slower, and more to look at."))
    pressed = st.button(_("Find"), key="find", type="primary", icon=":material/search:", disabled=JOB in st.session_state)
    try:
        limits = limits_of(run, deadline, budget, margin, least, most, objective or None)
        lists: dict[str, Any] = {"gpus": gpus, "counts": counts_of(counts), "methods": [_method(run, name) for name in methods]}
        if not offload:
            lists["offload"] = ["none"]
    except PlanError as error:
        frame.show_error(error)
        return None
    return (lists, limits, patience) if pressed else None


def _method(run: Run, name: str) -> dict[str, Any]:
    """A method as a run file has it."""
    own: dict[str, Any] = run.method.model_dump(mode="json", exclude_unset=True)
    other: dict[str, Any] = comparing.method_change(run, name).get("method", own)
    return other


def _answer(answer: dict[str, Any], current: frame.Current) -> None:
    """The best, what nothing beats, and why others were not chosen."""
    if "error" in answer:
        field, value, problem, fix = answer["error"]
        frame.show_error(PlanError(field, value, problem, fix))
        return
    speed = answer["evaluated"] / answer["seconds"] if answer["seconds"] else 0.0
    if answer["best"] is None:
        st.warning("\n".join(f"- {texts.plain(line)}" for line in answer["reasons"]), title=_("Nothing meets these limits"), icon=":material/search_off:")
    else:
        st.markdown("\n".join(f"- {texts.plain(line)}" for line in answer["reasons"]))
        runs, best = [], answer["best"]
        known: list[tuple[Run, Estimate]] = []
        for mapping in [best, *(other for other in answer["pareto"] if other != best)]:
            run = parse_run(mapping)
            profile = current.profile if current.profile is not None and run.hardware.gpu in (None, current.profile.accelerator_name) else None
            one = estimates.estimated(run, profile)
            if not isinstance(one, PlanError):
                runs.append(run)
                known.append((run, one))
        size, unit = comparing.time_unit([one.total_time_s if one.total_time_s is not None else one.step_time_s for _run, one in known])
        st.dataframe(
            [_line(one, run is runs[0], size) for run, one in known], hide_index=True, placeholder="–", key="find_table",
            column_config={
                "hardware": st.column_config.TextColumn("GPUs", width="medium"),
                "time": st.column_config.NumberColumn(
                    _(f"Time [{unit}]"), format="%.3g", help=_("Of the whole run, or of one step where the run says no data.")
                ),
                "cost": st.column_config.NumberColumn(_("Cost [$]"), format="%.2f"),
                "energy": st.column_config.NumberColumn(_("Energy [kWh]"), format="%.3g"),
                "memory": st.column_config.NumberColumn(_("Memory [GiB]"), format="%.1f"),
                "batch": st.column_config.NumberColumn(_("Batch")),
                "how": st.column_config.TextColumn(_("Configuration"), width="large"),
                "use": st.column_config.ButtonColumn(
                    "", type="tertiary", key="find_use", on_click=comparing.use, args=("find_use", runs), help=_("This row becomes the plan.")
                ),
            },
            alt=_("The best configuration, then those that no other beats in time, cost, energy and risk"),
        )  # fmt: skip
    st.caption(_(f"{answer['evaluated']:,} configurations in {units.format_seconds(answer['seconds'])} ({units.significant(speed, 2)} a second)."))
    for line in answer["left_out"]:
        st.caption(texts.plain(line))


def _line(one: Estimate, best: bool, size: float) -> dict[str, Any]:
    time = one.total_time_s if one.total_time_s is not None else one.step_time_s
    return {
        "use": f":material/check: {_('Use')}",
        "hardware": f"{'★ ' if best else ''}{one.run.hardware.gpus} × {one.details['accelerator']}",
        "time": None if time is None else time / size,
        "cost": one.cost_usd,
        "energy": one.energy_kwh,
        "memory": one.peak_reserved_bytes / units.GIB,
        "batch": global_batch(one.run),
        "how": _(degrees(one)),
    }

