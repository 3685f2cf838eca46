"""Time of the optimizer step of a run: ranks, their groups and links, and the stage that takes longest."""

from __future__ import annotations

from collections.abc import Sequence

from planner.device.collectives import collective_seconds
from planner.estimate.constants import by_architecture, by_stack
from planner.estimate.ranks import RankClass, shares_of
from planner.estimate.resolve import Resolved
from planner.estimate.schedules import schedule_of
from planner.estimate.states import gradient_bytes_of, replicas
from planner.estimate.time import Clock, Ranks, StepTime, pipeline_time, step_time
from planner.workload.graph import BYTES


def _scaled_rate(r: Resolved) -> float:
    """Rate of fp8 products with one scale per tensor over that of the profile's, which have one per row."""
    scaled = r.formats.scaled
    if scaled is None or scaled.recipe.name not in ("delayed", "current") or r.accelerator is None:
        return 1.0
    return by_architecture("tensor_scaled_rate", r.accelerator.arch, r.accelerator.compute_capability)


def time_of(r: Resolved, classes: Sequence[RankClass], worst: RankClass, length: int) -> StepTime:
    """Time of the step; the optimizer's part is that of the ranks that update most."""
    p, shares, ranks = r.run.parallel, shares_of(r), ranks_of(r, length)

    def gradients(c: RankClass) -> float:
        return sum(q.numel * gradient_bytes_of(r, q) * n for q, n, _ in c.trained) * shares.optimizer

    clock = clock_of(r)
    most = max(classes, key=gradients)
    if p.pp == 1:
        return step_time(worst.workload, clock, ranks, r.run.batch.accumulation, most.step, gradients(most))
    stages = [c.stage for c in classes]
    devices = [(clock, ranks)] * len(stages)
    timing, timeline = pipeline_time(stages, devices, r.run.batch.accumulation, schedule_of(p), most.step, gradients(most))
    timing.timeline = timeline
    return timing


def clock_of(r: Resolved) -> Clock:
    """Times of kernels on the run's device."""
    return Clock(r.profile, r.stack, _scaled_rate(r), attention=str(r.attention))


def ranks_of(r: Resolved, length: int) -> Ranks:
    """How the run's ranks share the work. length: tokens of a sequence."""
    p = r.run.parallel
    outside = p.tp * p.cp
    groups = {"tp": (p.tp, 1), "cp": (p.cp, p.tp), "ep": (p.ep, 1 if p.sequence_parallel else outside)}
    return Ranks(
        replicas(r),
        p.sharding or "none",
        r.topology,
        BYTES[r.formats.graph],
        BYTES[r.formats.gradient],
        stride=p.tp,
        groups=groups,
        between=_between(r, length),
        rank_wait=by_stack("rank_wait_seconds", r.stack.name) if p.pp > 1 else 0.0,
        hand_over=by_stack("hand_over_seconds", r.stack.name),
    )


def _between(r: Resolved, length: int) -> float:
    """Time of a micro batch's hidden states from one pipeline stage to the next [s]."""
    p, batch = r.run.parallel, r.run.batch
    if p.pp == 1 or r.topology is None:
        return 0.0
    size = batch.micro * (length if batch.seq_len is not None else 0) * r.arch.hidden * BYTES[r.formats.compute] / p.cp
    cut = p.tp > 1 and (p.sequence_parallel or r.stack.cuts_sent)
    sent = collective_seconds("send_recv", size / (p.tp if cut else 1), 2, r.topology, stride=p.tp * p.cp * r.run.dp)
    joined = 0.0 if p.sequence_parallel or not cut else collective_seconds("all_gather", size, p.tp, r.topology)
    return sent + joined
