"""Many pipelines of one schedule at once: the engine's simulation, played wave by wave.

What a stage does, and in which order, does not depend on how long it takes. The order is read from one simulation; events that wait for
nothing of the same wave are then timed together, for any number of pipelines, with the same arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.estimate.pipeline import awaited, rounds, simulate

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
MOST_ELEMENTS: Final = 2**22
"""Ends of events that are kept at once, times pipelines: 32 MiB."""


class Waiting(NamedTuple):
    """Pipelines of a cell that wait to be simulated. key: equal for equal pipelines · forward, backward: seconds of each chunk of each
    stage, numbers or a column · between: the same of a tensor's travel · steps: micro batches · chunks: model chunks of a stage."""

    key: object
    forward: list[Any]
    backward: list[Any]
    between: Any
    steps: Indices
    chunks: int


class Wave(NamedTuple):
    """Events that can be timed together. task: row of the durations · before: event before on the same stage · needed: event of another place
    that must be done · travels: whether its result comes from another stage."""

    events: Indices
    task: Indices
    before: Indices
    needed: Indices
    travels: NDArray[np.bool_]


@lru_cache(maxsize=512)
def waves(stages: int, chunks: int, shown: int) -> tuple[int, tuple[Wave, ...]]:
    """Number of events, and the waves of a schedule. Event 0 stands for the start."""
    spans = simulate([1.0] * stages, [1.0] * stages, shown, chunks=chunks).spans
    last = stages * chunks - 1
    index: dict[tuple[str, int, int], int] = {}
    latest = [0] * stages
    level = [0]
    rows: list[list[tuple[int, int, int, int, bool]]] = []
    for number, (stage, (kind, chunk, batch), _, _) in enumerate(spans, start=1):
        place = chunk * stages + stage
        awaits = awaited(kind, place, batch, last)
        needed = 0 if awaits is None else index[awaits]
        at = max(level[latest[stage]], level[needed])
        level.append(at + 1)
        if at == len(rows):
            rows.append([])
        travels = awaits is not None and awaits[1] != place
        task = stage * chunks + chunk + (stages * chunks if kind == "B" else 0)
        rows[at].append((number, task, latest[stage], needed, travels))
        index[kind, place, batch] = latest[stage] = number
    found = tuple(Wave(*(np.array(column) for column in zip(*row, strict=True))) for row in rows)
    return len(spans) + 1, found


def ends(forward: Floats, backward: Floats, between: Floats, micro: int, chunks: int) -> Floats:
    """Time from the first forward to the last backward of many pipelines [s].

    forward, backward: seconds of one micro batch in every chunk of every stage, chunks × pipelines · between: seconds that a tensor travels,
    of each pipeline · micro: micro batches · chunks: model chunks of a stage. Equals `simulate(…).total` of each.
    """
    stages = len(forward) // chunks
    shown, group = rounds(micro, stages, chunks)
    total = _ends(forward, backward, between, shown, chunks)
    if micro > shown:
        total += (micro - shown) * (total - _ends(forward, backward, between, shown - group, chunks)) / group
    return total


def _ends(forward: Floats, backward: Floats, between: Floats, shown: int, chunks: int) -> Floats:
    """The same of as many micro batches as are simulated."""
    count, played = waves(len(forward) // chunks, chunks, shown)
    pipelines = forward.shape[1]
    most = max(1, MOST_ELEMENTS // count)
    found = np.empty(pipelines)
    for start in range(0, pipelines, most):
        part = slice(start, start + most)
        durations = np.vstack([forward[:, part], backward[:, part]])
        done = np.zeros((count, durations.shape[1]))
        travel: Any = between[part]
        for wave in played:
            ready = done[wave.needed] + wave.travels[:, None] * travel
            done[wave.events] = np.maximum(done[wave.before], ready) + durations[wave.task]
        found[part] = done.max(axis=0)
    return found


def totals(waiting: Iterable[Waiting]) -> dict[object, Floats]:
    """Time of the pipelines of every key [s]: rows as in the columns given, one column for each number of micro batches."""
    groups: dict[tuple[int, int], dict[object, Waiting]] = {}
    for one in waiting:
        groups.setdefault((len(one.forward), one.chunks), {})[one.key] = one
    found: dict[object, Floats] = {}
    for (_, chunks), members in groups.items():
        rows = {key: _Rows(one) for key, one in members.items()}
        for key, one in members.items():
            found[key] = np.empty((rows[key].inverse.size, one.steps.size))
        for micro in sorted({n for one in members.values() for n in one.steps.tolist()}):
            asking = [key for key, one in members.items() if micro in one.steps]
            forward, backward, between = (
                np.concatenate([getattr(rows[key], name) for key in asking], axis=-1) for name in ("forward", "backward", "between")
            )
            answers = np.split(ends(forward, backward, between, micro, chunks), np.cumsum([rows[key].between.size for key in asking])[:-1])
            for key, answer in zip(asking, answers, strict=True):
                found[key][:, members[key].steps == micro] = answer[rows[key].inverse][:, None]
    return found


class _Rows:
    """Different pipelines of a request, chunks × pipelines, and which of them each row of the cell is."""

    def __init__(self, one: Waiting) -> None:
        columns = np.broadcast_arrays(one.between, *one.forward, *one.backward)
        table = np.stack([np.asarray(column, dtype=np.float64).ravel() for column in columns])
        different, self.inverse = np.unique(table, axis=1, return_inverse=True)
        stages = len(one.forward)
        self.between, self.forward, self.backward = different[0], different[1 : stages + 1], different[stages + 1 :]
