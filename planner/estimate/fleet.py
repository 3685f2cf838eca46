"""A mixed fleet: pipeline stages on accelerators of different kinds, each planned with its own curves and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from planner.device import DeviceProfile
from planner.errors import PlanError
from planner.estimate.assemble import assemble
from planner.estimate.offload import host_bytes, offload_of
from planner.estimate.ranks import RankClass, rank_class, setting_of, shares_of, whole_model
from planner.estimate.resolve import Member, Resolved, resolve
from planner.estimate.result import Estimate
from planner.estimate.schedules import V_SHAPED, schedule_of
from planner.estimate.shape import shape_of
from planner.estimate.stages import stages_of
from planner.estimate.states import gradient_bytes_of
from planner.estimate.step import clock_of, ranks_of
from planner.estimate.time import StepTime, pipeline_time
from planner.run import Group, Run
from planner.units import format_percent

UNEVEN = 0.1
"""Stages that take so much longer than others are worth a warning."""


def estimate_fleet(run: Run, profile: DeviceProfile | None = None) -> Estimate:
    """What a run over several kinds of accelerators takes.

    Memory is that of the stage that is fullest for its own accelerator, time that of the schedule over all. Raises `PlanError` for
    a fleet that cannot be planned stage by stage, with the reason.
    """
    groups = run.hardware.groups or ()
    owners = _owners(run, groups, profile)
    each = [resolve(_alone(run, group)) for group in groups]
    _check(each, groups)
    first = each[0]
    text = first.run.batch.seq_len or 0
    shape = shape_of(first.run, text, first.arch.sample_tokens(first.run.batch) - text)
    if not shape.packed:
        raise PlanError("data.packing", run.data.packing if run.data else "", "is not planned for a mixed fleet", "Use packed.")
    p, offload = first.run.parallel, offload_of(first)
    setting = setting_of(first, shape.longest)
    stages = stages_of(setting, first.head, first.run.activation_checkpointing, p.pp, p.virtual_pp, p.schedule, p.stages)
    classes, homes = list[RankClass](), list[int]()
    for stage in stages:
        for home, r in enumerate(each):
            here = tuple(i for i in stage.indices if owners[i] == home)
            if here:
                classes.append(rank_class(r, replace(stage, indices=here), offload))
                homes.append(home)
    timing = _time(each, classes, homes, shape.timed)
    fullest = max(range(len(classes)), key=lambda i: _fill(each[homes[i]], classes[i]))
    worst, r = classes[fullest], each[homes[fullest]]
    members = tuple(Member(g.gpus / run.hardware.gpus, m.accelerator, m.profile) for g, m in zip(groups, each, strict=True) if m.accelerator)
    hardware = r.run.hardware.model_copy(update={"groups": groups})
    notes = (*r.notes, *_places(each, groups, owners))
    r = replace(r, run=r.run.model_copy(update={"hardware": hardware}), fleet=members, notes=notes)
    host = host_bytes(r, worst.workload, offload, worst.trained, worst.step, shares_of(r).optimizer, worst.away)
    made = assemble(r, whole_model(first, shape.timed), classes, worst, timing, host, shape)
    return made.model_copy(update={"warnings": (*_uneven(timing, owners, each), *made.warnings)})


def _owners(run: Run, groups: Sequence[Group], profile: DeviceProfile | None) -> list[int]:
    """The group of every stage. Raises `PlanError` for a fleet that does not hold whole stages."""
    names = " and ".join(_name(g) for g in groups)
    p, offered = run.parallel, len(groups)
    if profile is not None:
        raise PlanError("hardware.groups", names, "cannot be planned with the profile of one device", "Plan without the profile.")
    if offered > 1 and p.pp == 1:
        raise PlanError(
            "hardware.groups",
            names,
            "would hold copies of one stage, of which the fast ones wait for the slow ones at every exchange",
            f"Use parallel.pp: {offered} or more, so that each kind of accelerator has stages of its own.",
        )
    if run.offload != "none":
        raise PlanError("offload", run.offload, "is not planned for a mixed fleet", "Use none.")
    if p.schedule in V_SHAPED:
        raise PlanError("parallel.schedule", p.schedule, "puts the model's two ends on one accelerator, which a mixed fleet does not plan", "Use 1f1b.")
    size, owners = run.hardware.gpus // p.pp, list[int]()
    for home, group in enumerate(groups):
        if group.gpus % size:
            raise PlanError(
                f"hardware.groups.{home}.gpus",
                group.gpus,
                f"is no whole number of stages of {size} accelerators ({run.hardware.gpus} over pp: {p.pp})",
                f"Use a multiple of {size}, or another parallel.pp.",
            )
        owners += [home] * (group.gpus // size)
    return owners


def _check(each: Sequence[Resolved], groups: Sequence[Group]) -> None:
    """Refuse accelerators that do not run one program together."""
    first = each[0]
    for r, group in zip(each[1:], groups[1:], strict=True):
        vendors = [m.accelerator.vendor if m.accelerator else "" for m in (first, r)]
        if vendors[0] != vendors[1]:
            raise PlanError(
                "hardware.groups",
                f"{_name(groups[0])} and {_name(group)}",
                f"are of {vendors[0]} and {vendors[1]}, whose communication libraries do not join in one run",
                "Use accelerators of one vendor, or plan each part apart.",
            )
        if r.formats != first.formats:
            raise PlanError("precision", "", f"is not the same on {_name(groups[0])} and {_name(group)}", "Name a precision that both have.")
        if r.attention != first.attention:
            raise PlanError("attention", "", f"is not the same on {_name(groups[0])} and {_name(group)}", "Name a kernel that both have.")


def _alone(run: Run, group: Group) -> Run:
    """The run as if all accelerators were of one group."""
    hardware = run.hardware.model_copy(update={"gpu": group.gpu, "groups": None})
    return run.model_copy(update={"hardware": hardware})


def _name(group: Group) -> str:
    return str(group.gpu.get("base")) if isinstance(group.gpu, dict) else group.gpu


def _fill(r: Resolved, c: RankClass) -> float:
    """Share of the usable memory that a class of ranks needs."""
    peak = max(m.total for m in c.moments)
    return peak / (r.usable_memory - c.detail.context) if r.usable_memory else 0.0


def _time(each: Sequence[Resolved], classes: Sequence[RankClass], homes: Sequence[int], length: int) -> StepTime:
    """Time of the step; micro batches travel at the pace of the slowest network."""
    clocks = [(clock_of(r), ranks_of(r, length)) for r in each]
    first = each[0]
    share = shares_of(first).optimizer

    def gradients(c: RankClass) -> float:
        return sum(q.numel * gradient_bytes_of(first, q) * n for q, n, _ in c.trained) * share

    most = max(classes, key=gradients)
    timing, timing_line = pipeline_time(
        [c.stage for c in classes],
        [clocks[home] for home in homes],
        first.run.batch.accumulation,
        schedule_of(first.run.parallel),
        most.step,
        gradients(most),
    )
    timing.timeline = timing_line
    return timing


def _places(each: Sequence[Resolved], groups: Sequence[Group], owners: Sequence[int]) -> list[str]:
    """Which stages stand on what, in sentences."""
    lines = []
    for home, (r, group) in enumerate(zip(each, groups, strict=True)):
        held = [i + 1 for i, owner in enumerate(owners) if owner == home]
        stages = f"Stage {held[0]} stands" if len(held) == 1 else f"Stages {held[0]} to {held[-1]} stand"
        lines.append(f"{stages} on {group.gpus} × {r.accelerator.name if r.accelerator else _name(group)}.")
    return lines


def _uneven(timing: StepTime, owners: Sequence[int], each: Sequence[Resolved]) -> list[str]:
    """Whether one kind of accelerator makes the others wait."""
    if timing.timeline is None:
        return []
    slowest: dict[int, float] = {}
    for stage, busy in enumerate(timing.timeline.busy):
        slowest[owners[stage]] = max(slowest.get(owners[stage], 0.0), busy)
    slow, fast = max(slowest, key=slowest.__getitem__), min(slowest, key=slowest.__getitem__)
    if slowest[slow] < (1 + UNEVEN) * slowest[fast]:
        return []
    names = [m.accelerator.name if m.accelerator else "" for m in each]
    more = format_percent(slowest[slow] / slowest[fast] - 1, 2)
    return [f"Stages on {names[slow]} take {more} longer than those on {names[fast]}: give them fewer layers with parallel.stages."]
