"""What configurations of one trace share: its pipeline stages, and everything about them that hardware and ranks do not change.

Every question is answered by the engine's own formulas, with arrays where configurations differ, and kept: the walk over live tensors does not
know how many micro steps follow, the time of a block does not know the optimizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.estimate.arrays import Several
from planner.estimate.memory import COMPONENTS, Persistent
from planner.estimate.ranks import check_trained_types, expert_spread, setting_of, waiting_batches, whole_step
from planner.estimate.resolve import Resolved
from planner.estimate.shape import Shape
from planner.estimate.stages import Stage, stages_of
from planner.estimate.states import Holdings, Shares, gradient_bytes_of
from planner.estimate.time import Clock, Ranks, StepTime, chunk_seconds, micro_step
from planner.estimate.update import trained_parameters
from planner.search.crest import Crest
from planner.search.schedules import Waiting
from planner.workload.optimizers import Step, Trained
from planner.workload.scaled import cached_weights

Floats = NDArray[np.float64]


class Live(NamedTuple):
    """Live bytes beyond the books of a step: at most, kept by every waiting micro batch, at the optimizer's step; and what went to the host."""

    peak: Any
    kept: float
    end: Any
    away: float

    def of(self, rows: NDArray[np.int64]) -> Live:
        """The same for some of the groups."""
        peak, end = (value[rows] if isinstance(value, np.ndarray) else value for value in (self.peak, self.end))
        return Live(peak, self.kept, end, self.away)


class Beat(NamedTuple):
    """Micro step of one stage: its ledger, seconds forward, and seconds backward with what is recomputed."""

    ledger: StepTime
    forward: Any
    backward: Any


def _key(value: Any) -> object:
    return value.tobytes() if isinstance(value, np.ndarray) else value


@dataclass
class Piece:
    """One kind of pipeline stage. groups: every number of ranks over which gradients may be divided, ascending."""

    stage: Stage
    trained: tuple[Trained, ...]
    holdings: Holdings
    groups: NDArray[np.int64]
    tides: dict[object, Live] = field(default_factory=dict)
    """Live bytes with the books, of cells that were seen."""
    least: dict[bool, tuple[float, float]] = field(default_factory=dict)
    """Passing tensors at the peak at least, and what a forward keeps for its backward [bytes], once walked; by whether they go to the host."""
    _steps: dict[object, Step] = field(default_factory=dict)
    _flying: dict[object, Any] = field(default_factory=dict)
    _live: dict[object, Live] = field(default_factory=dict)
    _beats: dict[object, Beat] = field(default_factory=dict)
    _gradients: float | None = None
    _copied: float | None = None

    def step(self, r: Resolved, shares: Shares, spread: float) -> Step:
        """The optimizer's step on each share of the states."""
        key = (spread, _key(shares.optimizer))
        known = self._steps.get(key)
        if known is None:
            whole = self._steps.get(spread)
            if whole is None:
                whole = self._steps[spread] = whole_step(r, self.trained, spread)
            if self._copied is None:
                self._copied = cached_weights(self.stage.workload)[1]
            step = whole.share(shares.optimizer)
            known = self._steps[key] = replace(step, moved=step.moved + self._copied)
        return known

    def flying(self, key: object, r: Resolved) -> Any:
        """Micro batches beside the running one that the stage keeps at most. key: names schedule and micro steps."""
        if key not in self._flying:
            self._flying[key] = waiting_batches(r, self.stage)
        return self._flying[key]

    def gradients(self, r: Resolved) -> float:
        """Gradients that the optimizer reads, of all shares together [bytes]."""
        if self._gradients is None:
            self._gradients = sum(p.numel * gradient_bytes_of(r, p) * n for p, n, _ in self.trained)
        return self._gradients

    def live(self, persistent: Persistent) -> Live:
        """Live tensors of a step that starts with empty books. Where gradients are divided, all sizes of groups are walked at once."""
        p, rows = persistent, None
        share = p.gradient_share
        if p.sharded_gradients and isinstance(share, np.ndarray):
            rows = np.searchsorted(self.groups, np.rint(1.0 / share).ravel())
            share = 1.0 / self.groups[:, None].view(Several)
        elif not p.sharded_gradients:
            share = 1.0
        key = (p.gradient_bytes, p.present, p.gathered, share if rows is None else None, p.sharded_gradients, p.offloaded)
        known = self._live.get(key)
        if known is None:
            books = (0.0,) * len(COMPONENTS)
            walk = Crest(self.stage.workload, replace(p, books=books, gradient_share=share))
            walk.run()
            self.least[p.offloaded] = walk.passing, max(0.0, sum(walk.kept))
            known = self._live[key] = Live(walk.highest, sum(walk.kept), sum(walk.live), walk.offloaded)
        return known if rows is None else known.of(rows)

    def beat(self, device: object, clock: Clock, ranks: Ranks) -> Beat:
        """Time of one micro step. device: names clock and topology."""
        sharded = ranks.sharding in ("zero3", "hsdp") and ranks.several
        key = (device, (ranks.sharding, _key(ranks.dp)) if sharded else None)
        known = self._beats.get(key)
        if known is None:
            ledger = micro_step(self.stage.workload, clock, ranks)
            spans = ledger.spans
            known = self._beats[key] = Beat(ledger, spans["forward"], spans["recompute"] + spans["backward"])
        return known


@dataclass
class Pieces:
    """Stages of one trace, for memory and, where samples are padded, apart for time."""

    memory: list[Piece]
    timed: list[Piece]
    parts: dict[object, Any] = field(default_factory=dict)
    ledgers: dict[object, StepTime] = field(default_factory=dict)

    def busiest(self, beats: Sequence[Beat]) -> NDArray[np.int64]:
        """Which stage takes longest, in each row."""
        spans = [np.asarray(sum(beat.ledger.spans.values()), dtype=np.float64) for beat in beats]
        found: NDArray[np.int64] = np.argmax(np.stack(np.broadcast_arrays(*spans)).reshape(len(beats), -1), axis=0)
        return found

    def waiting(self, key: object, beats: Sequence[Beat], between: Any, steps: NDArray[np.int64], chunks: int) -> Waiting:
        """What must be simulated to know how long the pipelines of a cell take. key: names equal beats of these pieces."""
        forward: list[Any] = [0.0] * (chunks * sum(len(piece.stage.indices) for piece in self.timed))
        backward = list(forward)
        for piece, beat in zip(self.timed, beats, strict=True):
            there, back, _ = chunk_seconds(beat.ledger, *piece.stage.cut(chunks))
            for i in piece.stage.indices:
                forward[i * chunks : (i + 1) * chunks], backward[i * chunks : (i + 1) * chunks] = there, back
        whole = (id(self), key, chunks, _key(between), steps.tobytes())
        return Waiting(whole, forward, backward, between, steps, chunks)


def pieces_of(r: Resolved, shape: Shape, groups: NDArray[np.int64]) -> Pieces:
    """Trace the stages of a run. Raises `PlanError` for what cannot be divided so."""
    memory = _traced(r, shape.longest, groups)
    return Pieces(memory, memory if shape.packed else _traced(r, shape.timed, groups))


def _traced(r: Resolved, length: int, groups: NDArray[np.int64]) -> list[Piece]:
    p = r.run.parallel
    stages = stages_of(setting_of(r, length), r.head, r.run.activation_checkpointing, p.pp, p.virtual_pp)
    found = []
    for stage in stages:
        trained = trained_parameters(stage.workload)
        check_trained_types(trained)
        found.append(Piece(stage, trained, Holdings(r, stage.workload, trained), groups))
    return found


def spread_of(r: Resolved, shares: Shares) -> float:
    """Spread of experts, the same for all rows of a cell."""
    optimizer = shares.optimizer
    return expert_spread(r, replace(shares, optimizer=float(np.ravel(optimizer)[0])))
