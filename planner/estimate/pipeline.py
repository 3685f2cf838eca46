"""Pipeline schedules, simulated: when every stage works on which micro batch, and when it waits. The orders are those of `schedules`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any

import numpy as np

from planner.estimate.arrays import least, most
from planner.estimate.schedules import Work, order_of, place_of, warm_up

EXACT_ROUNDS = 4
"""Micro batches beyond this many times the stages repeat a steady state, whose length is that of the last round simulated."""


@dataclass(frozen=True)
class Timeline:
    """total: from the first forward to the last backward [s] · busy: work of each stage [s] · spans: (stage, work, start, end) of
    what was simulated · steady: seconds added for micro batches beyond those · chunks: of a stage · schedule: its name · micro: batches in all."""

    total: float
    busy: tuple[float, ...]
    spans: tuple[tuple[int, Work, float, float], ...]
    steady: float = 0.0
    chunks: int = 1
    schedule: str = "1f1b"
    micro: int = 1

    @property
    def bubble(self) -> float:
        """Share of the time in which the busiest stage waits."""
        return 1.0 - max(self.busy) / self.total


@dataclass(frozen=True)
class Passes:
    """Seconds of one micro batch in each chunk of each stage, [stage][chunk] [s].

    backward: all of it · weights: its part that makes the gradients of weights.
    """

    forward: tuple[tuple[float, ...], ...]
    backward: tuple[tuple[float, ...], ...]
    weights: tuple[tuple[float, ...], ...]


def in_flight(stage: int, stages: int, chunks: int, micro: Any) -> Any:
    """Micro batches whose activations a stage keeps at most, in units of whole stages (1f1b, or interleaved with `chunks` > 1).

    micro: may be an array.
    """
    if chunks == 1:
        return least(micro, stages - stage)
    if isinstance(micro, np.ndarray):
        return np.array([in_flight(stage, stages, chunks, int(m)) for m in micro.ravel()]).reshape(micro.shape)
    return min(micro * chunks, warm_up("interleaved", stage, stages, chunks, micro) + 1) / chunks


def simulate(
    forward: Sequence[float],
    backward: Sequence[float],
    micro: int,
    *,
    chunks: int = 1,
    between: float = 0.0,
    schedule: str | None = None,
    weights: Sequence[float] | None = None,
) -> Timeline:
    """Run the schedule of `micro` micro batches, each stage's chunks alike.

    forward, backward: seconds of one micro batch in each stage (all its chunks) [s] · chunks: model chunks per stage ·
    between: seconds that a tensor travels between stages [s] · schedule: its name, 1f1b or interleaved when left out · weights: the part of
    backward that makes the gradients of weights, half of it when left out [s]. Seconds may be arrays: many pipelines of one schedule at once.
    """
    later = [b / 2 for b in backward] if weights is None else weights

    def cut(seconds: Sequence[float]) -> tuple[tuple[float, ...], ...]:
        return tuple((s / chunks,) * chunks for s in seconds)

    return play(schedule or ("interleaved" if chunks > 1 else "1f1b"), Passes(cut(forward), cut(backward), cut(later)), micro, between)


def rounds(micro: int, stages: int, chunks: int) -> tuple[int, int]:
    """Micro batches that are simulated, and those of one round: the others repeat the last round."""
    every = max(1, micro // stages)
    if every <= EXACT_ROUNDS:
        return micro, micro // every
    if chunks > 1 and micro % every == 0:  # chunks take turns in groups of a round
        return EXACT_ROUNDS * (micro // every), micro // every
    return micro - (every - EXACT_ROUNDS) * stages, stages


def awaited(kind: str, place: int, batch: int, last: int) -> tuple[str, int, int] | None:
    """What must be done before a forward or backward of a chunk: (kind, place, micro batch). Places count chunks along the model."""
    if kind == "F":
        return ("F", place - 1, batch) if place else None
    return ("F", place, batch) if place == last else ("B", place + 1, batch)


def play(schedule: str, passes: Passes, micro: int, between: float = 0.0) -> Timeline:
    """Run a schedule over stages whose chunks may differ."""
    stages, chunks = len(passes.forward), len(passes.forward[0])
    work = [sum(f) + sum(b) for f, b in zip(passes.forward, passes.backward, strict=True)]
    shown, group = rounds(micro, stages, chunks)
    arrays = any(isinstance(s, np.ndarray) for s in (*work, between))
    run = _play if arrays else _played
    total, spans = run(schedule, passes, shown, between)
    steady: Any = 0.0
    if micro > shown:
        before, _ = run(schedule, passes, shown - group, between)
        steady = (micro - shown) * (total - before) / group
    return Timeline(total + steady, tuple(micro * w for w in work), spans, steady, chunks, schedule, micro)


def _play(
    schedule: str, passes: Passes, shown: int, between: float
) -> tuple[float, tuple[tuple[int, Work, float, float], ...]]:
    """End of the last of `shown` micro batches [s], and when each was worked on."""
    stages, chunks = len(passes.forward), len(passes.forward[0])
    orders = [order_of(schedule, stage, stages, chunks, shown) for stage in range(stages)]
    places = [[place_of(schedule, stage, chunk, stages) for chunk in range(chunks)] for stage in range(stages)]
    owner = {place: stage for stage, held in enumerate(places) for place in held}
    seconds = [
        {
            "F": passes.forward[stage],
            "B": passes.backward[stage],
            "I": tuple(b - w for b, w in zip(passes.backward[stage], passes.weights[stage], strict=True)),
            "W": passes.weights[stage],
        }
        for stage in range(stages)
    ]
    forwards: list[dict[int, float]] = [{} for _ in range(stages * chunks)]
    backwards: list[dict[int, float]] = [{} for _ in range(stages * chunks)]
    spans: list[tuple[int, Work, float, float]] = []
    clock, position, last = [0.0] * stages, [0] * stages, stages * chunks - 1
    left = sum(map(len, orders))
    while left:
        moved = False
        for stage in range(stages):
            order, at = orders[stage], position[stage]
            while at < len(order):
                kind, chunk, batch = work = order[at]
                place = places[stage][chunk]
                ready: float | None = 0.0
                if kind == "F":
                    source = place - 1
                    if place:
                        ready = forwards[source].get(batch)
                elif kind == "W":
                    source, ready = place, backwards[place].get(batch)
                elif place == last:
                    source, ready = place, forwards[place].get(batch)
                else:
                    source, ready = place + 1, backwards[place + 1].get(batch)
                if ready is None:
                    break
                if (kind != "F" or place) and owner[source] != stage:
                    ready = ready + between
                start = most(clock[stage], ready)
                end = start + seconds[stage][kind][chunk]
                clock[stage] = end
                if kind == "F":
                    forwards[place][batch] = end
                elif kind != "W":
                    backwards[place][batch] = end
                spans.append((stage, work, start, end))
                at += 1
                left -= 1
                moved = True
            position[stage] = at
        if not moved:
            raise RuntimeError(f"the {schedule} schedule of {stages} stages and {shown} micro batches waits for itself")
    return reduce(most, clock), tuple(spans)


_played = lru_cache(maxsize=256)(_play)
