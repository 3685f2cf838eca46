"""Pipeline schedules, simulated: when every stage works on which micro batch, and when it waits.

gpipe: all forwards, then all backwards (Huang et al. 2019, arXiv:1811.06965). 1f1b: after a warm-up, one forward and one backward in
turn (Narayanan et al. 2019, PipeDream-Flush; 2021, arXiv:2104.04473, fig. 4). interleaved: every stage holds several chunks of layers,
so that the warm-up is as many times shorter (ibid., sec. 2.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from planner.estimate.arrays import least

Work = tuple[str, int, int]
"""("F" or "B", chunk of the stage, micro batch)."""

EXACT_ROUNDS = 6
"""Micro batches beyond this many times the stages repeat a steady state, and are added without being simulated."""


@dataclass(frozen=True)
class Timeline:
    """total: from the first forward to the last backward [s] · busy: work of each stage [s] · spans: (stage, work, start, end) of
    what was simulated · steady: seconds added for micro batches beyond those."""

    total: float
    busy: tuple[float, ...]
    spans: tuple[tuple[int, Work, float, float], ...]
    steady: float = 0.0

    @property
    def bubble(self) -> float:
        """Share of the time in which the busiest stage waits."""
        return 1.0 - max(self.busy) / self.total


def in_flight(stage: int, stages: int, chunks: int, micro: Any) -> Any:
    """Micro batches whose activations a stage keeps at most, in units of whole stages (1f1b, or interleaved with `chunks` > 1)."""
    if chunks == 1:
        return least(micro, stages - stage)
    return least(micro * chunks, _warm_up(stage, stages, chunks, micro) + 1) / chunks


def simulate(
    forward: Sequence[float], backward: Sequence[float], micro: int, *, chunks: int = 1, between: float = 0.0
) -> Timeline:
    """Run the schedule of `micro` micro batches.

    forward, backward: seconds of one micro batch in each stage (all its chunks) [s] · chunks: model chunks per stage ·
    between: seconds that a tensor travels between stages [s].
    """
    return _simulate(tuple(forward), tuple(backward), micro, chunks, between)


@lru_cache(maxsize=256)
def _simulate(
    forward: tuple[float, ...], backward: tuple[float, ...], micro: int, chunks: int, between: float
) -> Timeline:
    stages = len(forward)
    shown = rounds(micro, stages, chunks)
    orders = [_order(stage, stages, chunks, shown) for stage in range(stages)]
    done: dict[tuple[str, int, int], float] = {}
    spans: list[tuple[int, Work, float, float]] = []
    clock, position, last = [0.0] * stages, [0] * stages, stages * chunks - 1
    left = sum(map(len, orders))
    while left:
        moved = False
        for stage in range(stages):
            while position[stage] < len(orders[stage]):
                kind, chunk, batch = orders[stage][position[stage]]
                place = chunk * stages + stage
                needed = awaited(kind, place, batch, last)
                if needed is not None and needed not in done:
                    break
                ready = 0.0 if needed is None else done[needed] + (between if needed[1] != place else 0.0)
                start = max(clock[stage], ready)
                end = start + (forward if kind == "F" else backward)[stage] / chunks
                done[kind, place, batch] = clock[stage] = end
                spans.append((stage, (kind, chunk, batch), start, end))
                position[stage] += 1
                left -= 1
                moved = True
        if not moved:
            raise RuntimeError(f"the schedule of {stages} stages and {shown} micro batches waits for itself")
    slowest = max(f + b for f, b in zip(forward, backward, strict=True))
    steady = (micro - shown) * slowest
    busy = tuple(micro * (f + b) for f, b in zip(forward, backward, strict=True))
    return Timeline(max(clock) + steady, busy, tuple(spans), steady)


def rounds(micro: int, stages: int, chunks: int) -> int:
    """Micro batches that are simulated: the others repeat a steady state. Interleaving works in groups of as many as there are stages."""
    shown = min(micro, EXACT_ROUNDS * stages)
    return shown if chunks == 1 else max(stages, shown // stages * stages)


def awaited(kind: str, place: int, batch: int, last: int) -> tuple[str, int, int] | None:
    """What must be done before a forward or backward of a chunk: (kind, place, micro batch). Places count chunks along the model."""
    if kind == "F":
        return ("F", place - 1, batch) if place else None
    return ("F", place, batch) if place == last else ("B", place + 1, batch)


def _warm_up(stage: int, stages: int, chunks: int, micro: Any) -> Any:
    """Forwards of one chunk before the first backward (Megatron-LM schedules.py)."""
    if chunks == 1:
        return least(micro, stages - stage - 1)
    return least(micro * chunks, (stages - stage - 1) * 2 + (chunks - 1) * stages)


def _order(stage: int, stages: int, chunks: int, micro: int) -> list[Work]:
    """What a stage does, in order."""
    total, warm = micro * chunks, _warm_up(stage, stages, chunks, micro)
    forwards = [_nth(i, stages, chunks, forward=True) for i in range(total)]
    backwards = [_nth(i, stages, chunks, forward=False) for i in range(total)]
    order: list[Work] = [("F", *work) for work in forwards[:warm]]
    for i in range(total - warm):
        order += [("F", *forwards[warm + i]), ("B", *backwards[i])]
    return order + [("B", *work) for work in backwards[total - warm :]]


def _nth(i: int, stages: int, chunks: int, *, forward: bool) -> tuple[int, int]:
    """(chunk, micro batch) of the i-th forward or backward of a stage."""
    group, inside = divmod(i, stages * chunks)
    chunk, offset = divmod(inside, stages)
    if chunks == 1:
        return 0, i
    return (chunk if forward else chunks - 1 - chunk), group * stages + offset
