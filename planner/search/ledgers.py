"""Seconds by phase and kind of many configurations: what the engine says of each connection and each busiest stage, put together."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from planner.estimate.ranks import shares_of
from planner.estimate.resolve import Resolved
from planner.estimate.shape import Shape
from planner.estimate.step import ranks_of
from planner.estimate.time import Clock, StepTime, close_step
from planner.search.many import altered, many_of
from planner.search.pieces import Floats, Pieces
from planner.search.space import Cell


class Part:
    """Timing of the rows of a cell that have one kind of machine."""

    def __init__(
        self, clock: Clock, cell: Cell, rows: NDArray[np.bool_], plain: Resolved, shape: Shape, pieces: Pieces, spread: float
    ) -> None:
        sites = tuple(site for site, keep in zip(cell.sites, rows, strict=True) if keep)
        self.rows, self._pieces = rows, pieces
        self._r = r = many_of(altered(plain, sites[0].resolved, plain.run.dp, hardware=sites[0].resolved.run.hardware), sites, cell.steps)
        shares = shares_of(r)
        self._clock, self._ranks = clock, ranks_of(r, shape.timed)
        gradients = [piece.gradients(r) for piece in pieces.memory]
        updated = max(range(len(gradients)), key=gradients.__getitem__)
        self._last = pieces.memory[updated].step(r, shares, spread), gradients[updated] * shares.optimizer
        device = (cell.choice.gpu, r.topology)
        self._beats = [piece.beat(device, self._clock, self._ranks) for piece in pieces.timed]
        sharded = self._ranks.sharding if self._ranks.sharding in ("zero3", "hsdp") else ""
        key = (device, sharded, cell.dp[rows].tobytes())
        self.waiting = pieces.waiting(key, self._beats, self._ranks.between, cell.steps, cell.choice.virtual_pp)

    def ledger(self, total: Floats | None) -> StepTime:
        """Seconds by phase and kind. total: of the pipelines [s], None without stages."""
        row: Any = self._r.run.batch.accumulation
        if total is None:
            timing = _times(self._beats[0].ledger, row)
            close_step(timing, self._pieces.timed[0].stage.workload, self._clock, self._ranks, row, *self._last)
            return timing
        busiest = self._pieces.busiest(self._beats)
        answers = []
        for i in sorted(set(busiest.tolist())):
            beat = self._beats[i]
            timing = _times(beat.ledger, row)
            timing.seconds["overhead", "bubble"] = cast(float, total - row * sum(beat.ledger.spans.values()))
            close_step(timing, self._pieces.timed[i].stage.workload, self._clock, self._ranks, row, *self._last)
            answers.append((busiest == i, timing))
        return answers[0][1] if len(answers) == 1 else chosen(answers, total.shape)


def machines_of(cell: Cell) -> list[NDArray[np.bool_]]:
    """Rows that have the same connections."""
    found: dict[object, list[int]] = {}
    for i, site in enumerate(cell.sites):
        found.setdefault(site.resolved.topology, []).append(i)
    masks = []
    for rows in found.values():
        mask = np.zeros(len(cell.sites), dtype=bool)
        mask[rows] = True
        masks.append(mask)
    return masks


def _times(ledger: StepTime, steps: Any) -> StepTime:
    """Seconds of so many micro steps."""
    result = StepTime()
    for key, value in ledger.seconds.items():
        result.seconds[key] = value * steps
    return result


def joined(parts: list[tuple[NDArray[np.bool_], StepTime]], size: tuple[int, ...]) -> StepTime:
    """One ledger whose rows come from several, each of its own rows."""
    result = StepTime()
    for key in dict.fromkeys(key for _, timing in parts for key in timing.seconds):
        whole: Any = np.zeros(size)
        for rows, timing in parts:
            whole[rows] = timing.seconds.get(key, 0.0)
        result.seconds[key] = whole
    return result


def chosen(answers: list[tuple[NDArray[np.bool_], StepTime]], size: tuple[int, ...]) -> StepTime:
    """One ledger whose elements come from the answer that holds there; a mask of rows stands for all columns."""
    result = StepTime()
    for key in dict.fromkeys(key for _, timing in answers for key in timing.seconds):
        whole: Any = np.zeros(size)
        for mask, timing in answers:
            where = np.broadcast_to(mask if mask.ndim == 2 else mask[:, None], size)
            whole[where] = np.broadcast_to(np.asarray(timing.seconds[key], dtype=np.float64), size)[where]
        result.seconds[key] = whole
    return result
