"""What one rank of a run computes: its share of the states, its part of the model, and ranks that do the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from planner.errors import PlanError
from planner.estimate.arrays import least, most
from planner.estimate.memory import Moment
from planner.estimate.offload import Offload
from planner.estimate.parallel import rows_of
from planner.estimate.pipeline import in_flight
from planner.estimate.resolve import Resolved
from planner.estimate.schedules import Waiting, schedule_of, waiting
from planner.estimate.stages import Stage
from planner.estimate.states import Detail, Shares, gathers, memory_of, replicas
from planner.estimate.update import trained_parameters, update_step
from planner.workload import Setting, Workload, trace
from planner.workload.methods import adapt
from planner.workload.optimizers import Step, Trained
from planner.workload.precision import QUANTIZED
from planner.workload.scaled import cached_weights
from planner.workload.split import Split, local


@dataclass(frozen=True)
class RankClass:
    """Ranks that do the same: one kind of pipeline stage. away: saved tensors that went to the host [bytes]."""

    stage: Stage
    trained: tuple[Trained, ...]
    step: Step
    moments: list[Moment]
    detail: Detail
    away: float

    @property
    def workload(self) -> Workload:
        """Of one micro step on one of the ranks."""
        return self.stage.workload


def rank_class(r: Resolved, stage: Stage, offload: Offload) -> RankClass:
    """What one kind of pipeline stage keeps, updates and reaches in memory."""
    workload, shares = stage.workload, shares_of(r)
    trained = trained_parameters(workload)
    check_trained_types(trained)
    step = rank_step(r, workload, trained, shares)
    moments, detail, away = memory_of(r, workload, trained, step, shares, offload, waiting_of(r, stage))
    return RankClass(stage, trained, step, moments, detail, away)


def rank_step(r: Resolved, workload: Workload, trained: Sequence[Trained], shares: Shares) -> Step:
    """The optimizer's step on one rank's share."""
    step = whole_step(r, trained, expert_spread(r, shares)).share(shares.optimizer)
    return replace(step, moved=step.moved + cached_weights(workload)[1])


def expert_spread(r: Resolved, shares: Shares) -> float:
    """How many times an expert's share is that of another parameter: experts are spread over fewer replicas than the rest, or over none."""
    if r.stack.experts_apart:
        return float(1.0 / shares.optimizer)
    return float(min(r.run.parallel.ep, 1.0 / shares.optimizer))


def whole_step(r: Resolved, trained: Sequence[Trained], spread: float) -> Step:
    """The optimizer's step on all states of a stage, of which experts count `spread` times."""
    return update_step(r, [t._replace(times=t.times * spread) if t.parameter.expert else t for t in trained], 1.0)


def waiting_of(r: Resolved, stage: Stage) -> list[Waiting]:
    """What the stage keeps beside the running micro batch, at most."""
    p = r.run.parallel
    if p.pp == 1:
        return []
    schedule, micro = schedule_of(p), r.run.batch.accumulation
    return [w for i in stage.indices for w in waiting(schedule, i, p.pp, stage.shares, micro)]


def waiting_batches(r: Resolved, stage: Stage) -> float:
    """Micro batches beside the running one whose activations the stage keeps at most, of a 1f1b or interleaved schedule.

    The accumulation may be an array.
    """
    p, flying = r.run.parallel, 0.0
    if p.pp == 1:
        return flying
    micro, shares = r.run.batch.accumulation, stage.cut(p.virtual_pp)[0]
    for i in stage.indices:
        flying = most(flying, _waiting_blocks(i, p.pp, shares, micro))
    return flying


def _waiting_blocks(rank: int, ranks: int, shares: tuple[float, ...], micro: Any) -> Any:
    if len(shares) == 1:
        return in_flight(rank, ranks, 1, micro) - 1
    if isinstance(micro, np.ndarray):
        return np.array([_waiting_blocks(rank, ranks, shares, int(m)) for m in micro.ravel()]).reshape(micro.shape)
    return max(w.blocks for w in waiting("interleaved", rank, ranks, shares, micro))


def whole_model(r: Resolved, length: int) -> Workload:
    """The undivided model on the micro batch of one replica."""
    setting = replace(setting_of(r, length), arch=r.arch, adaptation=r.adaptation, split=Split())
    return trace(setting, r.head, r.run.activation_checkpointing)


def check_trained_types(trained: Sequence[Trained]) -> None:
    """Weights stored in 8 bits or fewer take no gradient."""
    for parameter, *_ in trained:
        if parameter.dtype in QUANTIZED:
            raise PlanError(
                "precision.weights",
                parameter.dtype,
                f"cannot be trained, and the method trains {parameter.name}",
                "Use a 16- or 32-bit precision, or a method that leaves the base frozen, such as qlora.",
            )


def setting_of(r: Resolved, length: int) -> Setting:
    """What the layers need to know; length: tokens of a sequence, for stacks that take text."""
    checkpointing = r.run.activation_checkpointing
    seq = length if r.run.batch.seq_len is not None else 0  # 0 where no stack takes text
    sharded = gathers(r)
    recompute = checkpointing == "selective" and r.stack.selective == "attention"
    batch = r.run.batch
    p = r.run.parallel
    split = Split(p.tp, p.sequence_parallel, p.cp, p.ep, p.cp_kind or "ring", rows_of(p))
    arch = local(r.arch, split)
    adaptation = r.adaptation if arch is r.arch else adapt(r.run.method, arch)
    setting = Setting(arch, adaptation, r.formats, r.stack, batch.micro, seq, r.attention, recompute, sharded, batch)
    checkpoints = r.run.checkpoints
    return replace(
        setting,
        split=split,
        checkpoint_every=checkpoints.every,
        checkpoint_keep=checkpoints.keep or (),
        fused_mixers=r.fused_mixers,
        processor=r.profile.synchronous,
    )


def shares_of(r: Resolved) -> Shares:
    """Fractions that one rank keeps under the run's sharding."""
    dp, sharding = replicas(r), r.run.parallel.sharding
    group = dp
    if sharding == "hsdp" and r.topology is not None:
        group = least(dp, max(1, r.topology.gpus_per_node // r.run.parallel.tp))
    part = 1.0 / group
    return Shares(
        weights=part if sharding in ("zero3", "hsdp") else 1.0,
        gradients=part if sharding in ("zero2", "zero3", "hsdp") else 1.0,
        optimizer=part if sharding in ("zero1", "zero2", "zero3", "hsdp") else 1.0,
    )

