"""A run that was audited becomes evidence: later plans of it on this machine stand on it, and it is found among the saved work."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from planner.device.profile import DeviceProfile
from planner.errors import PlanError
from planner.estimate.resolve import resolve
from planner.evidence import own
from planner.logs.audit import FAR, Audit

if TYPE_CHECKING:
    from planner.store import Entry, Store

LEAST: Final = {"logged": 0.05, "clock": 0.05, "rate": 0.07, "mean": 0.12}
"""Least half width of the interval of a step that a log says, over its median, by how it was had: a run's steps are not timed one by one, and other
work goes on beside them (a probe's is 0.02)."""
ENOUGH: Final = {"logged": 5, "clock": 5, "rate": 5, "mean": 50}
"""Steps that a log must tell of."""
TWICE: Final = 2.0
MOST: Final = 2000
"""Step times that are kept of one log."""


def evidence(found: Audit, profile: DeviceProfile | None = None) -> tuple[own.Own | None, str]:
    """The run of an audit as a measurement, or None and why not, in a sentence."""
    step = next((figure for figure in found.figures if figure.name == "step_time_s"), None)
    if step is None or not found.step_samples_s:
        return None, "The log says no step time, so no later plan stands on it."
    if found.step_count < ENOUGH[found.step_means]:
        return None, f"{found.step_count} steps are too few for later plans to stand on ({ENOUGH[found.step_means]} from a log as this)."
    if found.shortage is not None:
        return None, "The run ended out of memory; its steps are not kept."
    if step.planned is None or not 1 / FAR < step.measured / step.planned < FAR:
        return None, "It is too far from its plan to be of the same run on the same machine; it is not kept."
    peaks = [figure for figure in found.figures if figure.name in ("peak_memory_bytes", "peak_reserved_bytes") and figure.planned]
    if any(not 1 / TWICE < figure.measured / (figure.planned or 1.0) < TWICE for figure in peaks):
        return None, "Its memory is too far from the plan's to be of the same run; it is not kept."
    if any(one.status == "explains" for one in found.findings if one.change):
        return None, "It seems to have run otherwise than planned; correct the plan first (see the proposals), then audit again to keep it."
    resolved = resolve(found.ran, profile)
    measured_on = profile.conditions.device if profile is not None and profile.conditions is not None else None
    name = None if resolved.accelerator is None else resolved.accelerator.name
    if not measured_on and name is None:
        return None, "The plan names no device that a later plan could be found by."
    memory = {figure.name: figure.measured for figure in found.figures}
    every = -(-len(found.step_samples_s) // MOST)
    row = {"model": found.model, "method": resolved.run.method.name, "source_group": "log", "gpu": name or "", "gpus": str(resolved.run.hardware.gpus)}
    return own.Own(
        key=own.key_of(resolved),
        device=measured_on or name or "",
        accelerator=name,
        steps=found.step_samples_s[::every],
        allocated_bytes=memory.get("peak_memory_bytes"),
        reserved_bytes=memory.get("peak_reserved_bytes"),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        row=row,
        origin="log",
        least=LEAST[found.step_means],
        log=found.logs[0].digest,
        family=own.family_of(resolved),
        run=found.ran.model_dump(mode="json", exclude_unset=True),
    ), ""


def keep(found: Audit, profile: DeviceProfile | None = None) -> tuple[str | None, str]:
    """Add an audited run to the user's own measurements, once. Returns (where it stands, why not). Raises `PlanError` where it cannot be written."""
    measured, why = evidence(found, profile)
    if measured is None:
        return None, why
    if any(row.log == measured.log and row.key == measured.key and row.device == measured.device for row in own.rows()):
        return None, "This log is kept already."
    return str(own.keep(measured)), ""


def save(store: Store, found: Audit, name: str = "") -> Entry:
    """The audit among the saved work, as a log; the same one stands there once. Raises `PlanError`."""
    step = next((figure for figure in found.figures if figure.name == "step_time_s"), None)
    peak = next((figure for figure in found.figures if figure.name == "peak_reserved_bytes"), None)
    said = found.verdict if found.shortage is None else f"out of memory, {found.shortage.verdict}"
    figures = {
        "step_time_s": None if step is None else step.measured, "planned_step_time_s": None if step is None else step.planned,
        "peak_reserved_bytes": None if peak is None else peak.measured, "verdict": said, "model": found.model, "gpu": found.device,
    }  # fmt: skip
    words = " ".join((found.model, found.device, found.verdict, *(log.reader for log in found.logs)))
    title = name or f"{found.model.rpartition('/')[2]} on {found.device}: {found.logs[0].source}"
    return store.keep("log", title, found.model_dump(mode="json", exclude={"kept", "notes"}), figures=figures, words=words)


def keep_both(found: Audit, profile: DeviceProfile | None = None) -> Audit:
    """Keep an audit as evidence and among the saved work; what could not be kept is said in its notes."""
    notes = list(found.notes)
    try:
        where, why = keep(found, profile)
    except PlanError as error:
        where, why = None, str(error)
    if why:
        notes.append(why)
    try:
        from planner.store import open_store

        with open_store() as store:
            save(store, found)
    except ModuleNotFoundError:
        notes.append('It is not among the saved work: that needs SQLAlchemy (pip install "plumbline[save]").')
    except PlanError as error:
        notes.append(f"It is not among the saved work: {error}")
    return found.model_copy(update={"kept": where, "notes": tuple(notes)})
