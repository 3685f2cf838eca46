"""A finished run beside its plan: how far off we were, what explains it, what to change."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from planner.advise import FITS_WORDS, apply, suggest
from planner.device.profile import DeviceProfile
from planner.errors import PlanError
from planner.estimate.engine import estimate
from planner.estimate.result import Estimate
from planner.evidence.agreement import Verdict, agreement, unsteady
from planner.logs.certain import corrections
from planner.logs.judge import Judged, Measured, Status, differs, judge
from planner.logs.record import Record
from planner.logs.seen import Seen, seen
from planner.logs.shortage import shortage
from planner.logs.signs import signs
from planner.logs.steps import MEANS, Steps
from planner.logs.trials import Trial, inside, trials
from planner.run import Run
from planner.units import format_bytes, format_percent, format_rate, format_seconds

FAR: Final = 5.0
"""Measured over planned, or the reverse, from which the plan is likely of another machine or another run."""
SHOWN: Final = 300
"""Entries of the course of step times that are kept for a chart."""


class Model(BaseModel):
    """A part of an audit."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Log(Model):
    """A log that was read."""

    source: str
    reader: str
    entries: int
    digest: str
    notes: tuple[str, ...] = ()


class Figure(Model):
    """One figure of both. error: planned over measured, less one; interval: 90 % of the plan."""

    name: str
    label: str
    unit: str
    measured: float
    planned: float | None
    interval: tuple[float, float] | None = None
    error: float | None = None
    within: bool | None = None
    measured_text: str
    planned_text: str
    where: str = ""


class Finding(Model):
    """What was tested, or seen. status: explains, in part, does not, or seen in the log."""

    key: str
    title: str
    status: Status
    sentence: str
    step_time_s: float | None = None
    peak_bytes: float | None = None
    seconds: float | None = Field(None, description="Of a step, that it accounts for.")
    remedy: str = ""
    change: dict[str, Any] = Field(default_factory=dict)


class Proposal(Model):
    """What to change. target: the plan, so that it is of what ran, or the run, so that it is as planned. change: of the plan, by dotted path."""

    title: str
    target: str
    sentence: str
    change: dict[str, Any] = Field(default_factory=dict)


class Shortfall(Model):
    """An out-of-memory message and the plan."""

    verdict: str
    sentence: str
    tried_bytes: float | None
    allocated_bytes: float | None
    total_bytes: float | None
    needed_bytes: float | None
    planned_bytes: float
    phase: str
    causes: tuple[Finding, ...]


class Audit(Model):
    """The answer. planned: the run as planned · ran: with what the log is certain of · steps: of the log, for charts (step, seconds)."""

    verdict: Verdict
    why: str
    planned: Run
    ran: Run
    model: str
    device: str
    basis: str
    logs: tuple[Log, ...]
    figures: tuple[Figure, ...]
    corrections: tuple[Finding, ...]
    findings: tuple[Finding, ...]
    proposals: tuple[Proposal, ...]
    shortage: Shortfall | None = None
    steps: tuple[tuple[int, float], ...] = ()
    step_samples_s: tuple[float, ...] = Field((), exclude=True)
    step_means: str = ""
    step_count: int = 0
    kept: str | None = None
    notes: tuple[str, ...] = ()


def audit(run: Run, records: Sequence[Record], profile: DeviceProfile | None = None) -> Audit:
    """Set logs of one run beside its plan.

    Arguments
    ---------
    run: the plan · records: logs of it, of any number of formats (a trainer's and nvidia-smi's, say) · profile: of the device, for the plan.

    Errors: PlanError for a run that cannot be planned, and for logs that say nothing that a plan says.
    """
    first = estimate(run, profile)
    found = seen(records, *_step(first), first.run.hardware.gpus)
    ran, plan, changed, notes = _as_it_ran(run, first, found, profile)
    if changed:  # rates of a log are of the batch that ran
        found = seen(records, *_step(plan), plan.run.hardware.gpus)
    steps = found.steps
    if steps is None and found.oom is None and found.allocated is None and found.reserved is None and found.telemetry is None:
        named = records[0].source if records else ""
        raise PlanError("log", named, "says neither time nor memory", "Give a log with steps, or with the device's telemetry beside it.")
    shown = list(signs(plan, found))
    data = next((sign.seconds for sign in shown if sign.key == "data" and sign.seconds), 0.0)
    measured = Measured(
        None if steps is None or steps.median - data <= 0 else steps.median - data, found.allocated or found.reserved, reserved=found.allocated is None
    )
    off = differs(measured, plan)
    estimates = _estimates(ran, list(trials(plan, found)), profile) if off or found.oom else []
    judged = sorted((judge(trial, plan, e, measured) for trial, e in estimates), key=lambda one: one.distance) if off else []
    findings = [Finding(status="seen", **dataclasses.asdict(sign)) for sign in shown]
    findings += sorted((_tested(one, measured) for one in judged), key=lambda one: ("explains", "in part", "does not").index(one.status))
    short = None if found.oom is None else _shortfall(ran, plan, found, estimates)
    verdict, why = _verdict(first, plan, steps, bool(changed))
    return Audit(
        verdict=verdict, why=why, planned=run, ran=ran, model=str(plan.details["model"]["name"]), device=_device(plan, profile),
        basis=plan.basis, logs=tuple(Log(source=r.source, reader=r.reader, entries=len(r.points), digest=r.digest, notes=r.notes) for r in records),
        figures=tuple(_figures(plan, found)), corrections=tuple(changed), findings=tuple(findings),
        proposals=tuple(_proposals(ran, plan, changed, findings, short, profile)), shortage=short, steps=_course(steps),
        step_samples_s=() if steps is None else steps.samples, step_means="" if steps is None else steps.means,
        step_count=0 if steps is None else steps.count, notes=tuple(notes),
    )  # fmt: skip


def _device(plan: Estimate, profile: DeviceProfile | None) -> str:
    """Name of the device that the plan is for."""
    measured_on = profile.conditions.device if profile is not None and profile.conditions is not None else None
    return str(plan.details.get("accelerator") or measured_on or "own device")


def _step(plan: Estimate) -> tuple[float | None, float]:
    """Tokens and samples of a planned step."""
    batch = plan.run.batch
    return plan.details.get("tokens_per_step"), float(batch.micro * batch.accumulation * int(plan.details.get("dp") or 1))


def _as_it_ran(run: Run, plan: Estimate, found: Seen, profile: DeviceProfile | None) -> tuple[Run, Estimate, list[Finding], list[str]]:
    """The run with what the log is certain of, its plan, and what was changed; what cannot be planned stays as it was and is said."""
    changed: list[Finding] = []
    notes: list[str] = []
    for correction in corrections(plan, found):
        text = f"{correction.why[:1].upper()}{correction.why[1:]}"
        if profile is not None and "hardware.gpu" in correction.change:
            notes.append(f"{text}; the plan stands on the profile that was given.")
            continue
        try:
            next_run = apply(run, correction.change)
            next_plan = estimate(next_run, profile)
        except PlanError as error:
            notes.append(f"{correction.title} ({correction.why}) cannot be planned: {error.field} {error.problem}.")
            continue
        if plan.step_time_s and next_plan.step_time_s:
            text += f": a step is planned to take {format_seconds(next_plan.step_time_s)} in place of {format_seconds(plan.step_time_s)}"
        changed.append(
            Finding(key="ran", title=correction.title, status="seen", sentence=text + ".", step_time_s=next_plan.step_time_s, change=correction.change)
        )
        run, plan = next_run, next_plan
    return run, plan, changed, notes


def _estimates(run: Run, tried: Sequence[Trial], profile: DeviceProfile | None) -> list[tuple[Trial, Estimate]]:
    """Estimates of trials; one that cannot be planned is no way that the run can have gone."""
    found = []
    for trial in tried:
        try:
            found.append((trial, estimate(apply(run, trial.change), profile)))
        except PlanError:
            continue
    return found


def _tested(one: Judged, measured: Measured) -> Finding:
    """A trial as a sentence with its arithmetic."""
    says, was = [], []
    if one.step is not None and measured.step is not None:
        says.append(format_seconds(one.step))
        was.append(format_seconds(measured.step))
    if measured.peak is not None:
        says.append(format_bytes(one.peak))
        was.append(format_bytes(measured.peak))
    return Finding(
        key=one.trial.key, title=one.trial.title, status=one.status,
        sentence=f"With {one.trial.name} the plan says {' and '.join(says)}; measured {' and '.join(was)}.",
        step_time_s=one.step, peak_bytes=one.peak, remedy=one.trial.remedy, change=one.trial.change,
    )  # fmt: skip


def _verdict(first: Estimate, plan: Estimate, steps: Steps | None, corrected: bool) -> tuple[Verdict, str]:
    if steps is None or plan.step_time_s is None:
        return "unknown", "There is no step time to compare." if steps is None else "The plan has no step time."
    interval = plan.step_time_interval_s or (plan.step_time_s, plan.step_time_s)
    verdict = agreement(steps.low, steps.median, steps.high, interval)
    off = plan.step_time_s / steps.median - 1
    words = {
        "agrees": "The measured step lies in the plan's interval",
        "faster": "The run was faster than the plan's interval",
        "slower": "The run was slower than the plan's interval",
        "ambiguous": "The steps vary too much to tell"
        if unsteady(steps.low, steps.median, steps.high)
        else "The steps straddle the edge of the plan's interval",
    }
    sentence = f"{words[verdict]}: {format_seconds(steps.median)} measured, {format_seconds(plan.step_time_s)} planned ({off:+.0%})"
    if corrected and first.step_time_s:
        sentence += f", once the plan is of what ran; as written it was {format_seconds(first.step_time_s)} ({first.step_time_s / steps.median - 1:+.0%})"
    if not 1 / FAR < steps.median / plan.step_time_s < FAR:
        sentence += ". So far apart, the log is likely of another run or another machine than the plan"
    return verdict, sentence + "."


def _figures(plan: Estimate, found: Seen) -> list[Figure]:
    figures: list[Figure] = []

    def add(name: str, label: str, unit: str, value: float | None, planned: float | None, text: Any, interval: Any = None, where: str = "") -> None:
        if value is None or value <= 0:
            return
        figures.append(
            Figure(
                name=name, label=label, unit=unit, measured=value, planned=planned, interval=interval, error=None if not planned else planned / value - 1,
                within=None if interval is None else interval[0] <= value <= interval[1], measured_text=text(value), planned_text=text(planned), where=where,
            )
        )  # fmt: skip

    steps, told = found.steps, found.telemetry
    if steps is not None:
        add("step_time_s", "Step", "s", steps.median, plan.step_time_s, format_seconds, plan.step_time_interval_s, f"{steps.where} ({MEANS[steps.means]})")
        tokens = (found.tokens if steps.means != "rate" else None) or float(plan.details.get("tokens_per_step") or 0)
        add("tokens_per_s", "Tokens", "token/s", tokens / steps.median, plan.tokens_per_s, format_rate)
    if found.phases is not None:
        for name, value in zip(("forward", "backward", "optimizer"), found.phases, strict=True):
            extra = plan.total("time/recompute") if name == "backward" else 0.0
            add(f"{name}_s", name.capitalize(), "s", value, plan.total(f"time/{name}") + extra, format_seconds)
    add("peak_memory_bytes", "Allocated peak", "B", found.allocated, plan.peak_memory_bytes, format_bytes)
    add("peak_reserved_bytes", "Reserved peak", "B", found.reserved, plan.peak_reserved_bytes, format_bytes, plan.peak_memory_interval_bytes)
    if told is not None:
        context = float(plan.details.get("context_bytes") or 0.0)
        add("used_bytes", "In use on the device", "B", told.used, plan.peak_reserved_bytes + context, format_bytes, where=told.where)
        add("power_w", "Power", "W", told.power, plan.details.get("board_w"), lambda watts: "–" if watts is None else f"{watts:.0f} W", where=told.where)
        add("utilisation", "Device in use", "1", told.utilisation, None, format_percent, where=told.where)
        add("clock_hz", "Clock under load", "Hz", told.clock, None, lambda hz: "–" if hz is None else f"{hz / 1e6:.0f} MHz", where=told.where)
    return figures


def _shortfall(run: Run, plan: Estimate, found: Seen, estimates: Sequence[tuple[Trial, Estimate]]) -> Shortfall:
    assert found.oom is not None
    short = shortage(run, plan, found.oom, estimates)
    return Shortfall(
        verdict=short.verdict, sentence=short.sentence, tried_bytes=found.oom.tried, allocated_bytes=found.oom.allocated, total_bytes=found.oom.total,
        needed_bytes=short.needed, planned_bytes=short.planned, phase=short.phase,
        causes=tuple(
            Finding(key=c.key, title=c.title, status="seen" if c.change is None else "explains", sentence=c.sentence, remedy=c.remedy, change=c.change or {})
            for c in short.causes
        ),
    )  # fmt: skip


def _proposals(
    run: Run, plan: Estimate, changed: Sequence[Finding], findings: Sequence[Finding], short: Shortfall | None, profile: DeviceProfile | None
) -> list[Proposal]:
    """The plan as it ran, the run as it was planned, and what makes it fit."""
    found: list[Proposal] = []
    if changed:
        merged = {path: value for one in changed for path, value in one.change.items()}
        found.append(Proposal(title="Plan what ran", target="plan", sentence=", ".join(one.title for one in changed) + ".", change=merged))
    explained = [one for one in findings if one.status == "explains"] or [one for one in findings if one.status == "in part"][:1]
    for one in (*[cause for cause in (short.causes if short else ()) if cause.change][:2], *explained[:3]):
        found.append(Proposal(title=f"Plan it as it seems to have run: {inside(one.title)}", target="plan", sentence=one.sentence, change=one.change))
        if one.remedy:
            saves = ""
            if one.step_time_s and plan.step_time_s and one.step_time_s > 1.02 * plan.step_time_s:
                saves = f" As planned, a step takes {format_seconds(plan.step_time_s)} in place of {format_seconds(one.step_time_s)}."
            found.append(Proposal(title="Run it as planned", target="run", sentence=one.remedy + saves))
    for one in findings:
        if one.status == "seen" and one.remedy:
            saves = f" It is {format_seconds(one.seconds)} of every step." if one.seconds and one.key == "data" else ""
            found.append(Proposal(title=one.title, target="run", sentence=one.remedy + saves))
        if one.status == "seen" and one.change:
            found.append(Proposal(title=f"Put it into the plan: {inside(one.title)}", target="plan", sentence=one.sentence, change=one.change))
    if short is not None:
        found += [Proposal(title=cause.title, target="run", sentence=cause.remedy) for cause in short.causes if cause.remedy and not cause.change]
        for s in suggest(run, plan, profile, limit=4):
            if s.fits is not False and s.delta_memory_bytes < 0:
                says = f"{format_bytes(s.estimate.peak_reserved_bytes)} planned; it {FITS_WORDS[s.fits]}."
                found.append(Proposal(title=s.title, target="plan", sentence=says, change=s.change))
    known: dict[tuple[str, str], Proposal] = {}
    for proposal in found:
        known.setdefault((proposal.title, proposal.sentence), proposal)
    return list(known.values())


def _course(steps: Steps | None) -> tuple[tuple[int, float], ...]:
    """(step, seconds) of every entry, thinned for a chart."""
    if steps is None or len(steps.series) < 2:
        return ()
    every = -(-len(steps.series) // SHOWN)
    at, found = 0, []
    for place, one in enumerate(steps.series):
        at = one.step if one.step is not None else at + one.steps
        if place % every == 0:
            found.append((at, one.seconds))
    return tuple(found)
