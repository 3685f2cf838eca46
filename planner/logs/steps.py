"""Seconds of a step from a log: what a steady step takes, and what the first steps and pauses took beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any, Final, Literal

import numpy as np

from planner.logs.record import Point, Record

Means = Literal["logged", "clock", "rate", "mean"]
MEANS: Final[dict[str, str]] = {
    "logged": "seconds of a step as the log says them",
    "clock": "time between entries over the steps between them",
    "rate": "tokens or samples of a planned step over the rate that the log says",
    "mean": "time of the whole run over its steps: first steps and pauses are in it",
}
SLOW_START: Final = 1.1
"""First entries this much slower than later ones are warming up: compilation, autotuning, caches, allocation."""
WARMING: Final = 0.2
"""Share of the entries that may be; at least one, where there are three or more."""
PAUSE: Final = 1.5
"""An entry this much slower than the others holds a pause."""
BESIDE: Final = 1.05
"""The same where an evaluation or a checkpoint stands in it."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Some steps in a row. seconds: of one of them · beside: whether an evaluation or a checkpoint stands among them."""

    where: str
    steps: int
    seconds: float
    step: int | None
    beside: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """What stood between steps. seconds: beyond the steps themselves [s] · kind: evaluation, checkpoint, or unknown."""

    where: str
    seconds: float
    kind: str


@dataclass(frozen=True)
class Steps:
    """Steady steps of a log, and the rest.

    low, median, high: quartiles of a steady step [s] · samples: every steady entry's seconds of a step · count: steps they stand for ·
    means: how the seconds were had · warm: entries that warmed up, and what they took beyond steady ones [s] · series: all entries, for a chart.
    """

    low: float
    median: float
    high: float
    samples: tuple[float, ...]
    count: int
    means: Means
    where: str
    warm_steps: int = 0
    warm_seconds: float = 0.0
    pauses: tuple[Pause, ...] = ()
    series: tuple[Interval, ...] = ()

    @property
    def wall(self) -> float:
        """All of the time that the entries tell of [s]."""
        return sum(one.seconds * one.steps for one in self.series)

    @property
    def paused(self) -> float:
        """Time of all pauses [s]."""
        return sum(one.seconds for one in self.pauses)


def steps_of(record: Record, tokens: float | None, samples: float | None, gpus: int) -> Steps | None:
    """Seconds of a step of a log; None where it says nothing of time.

    Arguments
    ---------
    tokens, samples: of one planned step, all ranks, for logs that say rates alone · gpus: accelerators of the run.
    """
    points = [point for point in record.points if point.kind != "device"]
    tries: tuple[tuple[Means, Iterator[Interval]], ...] = (
        ("logged", _logged(points)), ("clock", _clocked(points)), ("rate", _rated(points, tokens, samples, gpus)),
    )  # fmt: skip
    for means, intervals in tries:
        if found := list(intervals):
            return steady(found, means)
    return _mean(record)


def _logged(points: Sequence[Point]) -> Iterator[Interval]:
    last: int | None = None
    beside = False
    for point in points:
        if point.kind != "train":
            beside = True
            continue
        if (seconds := point.values.get("step_s")) is not None and seconds > 0:
            yield Interval(point.where, _between(last, point.step), seconds, point.step, beside)
            beside = False
        last = point.step if point.step is not None else last


def _clocked(points: Sequence[Point]) -> Iterator[Interval]:
    timed = [(i, p) for i, p in enumerate(points) if p.kind == "train" and p.time_s is not None and p.step is not None and "loss" in p.values]
    for (i, before), (j, after) in pairwise(timed):
        assert before.time_s is not None and after.time_s is not None and before.step is not None and after.step is not None
        steps, seconds = after.step - before.step, after.time_s - before.time_s
        if steps > 0 and 0 < seconds / steps < 1e5:
            yield Interval(after.where, steps, seconds / steps, after.step, any(p.kind != "train" for p in points[i:j]))


def _rated(points: Sequence[Point], tokens: float | None, samples: float | None, gpus: int) -> Iterator[Interval]:
    last: int | None = None
    beside = False
    for point in points:
        if point.kind != "train":
            beside = True
            continue
        v = point.values
        whole = (
            (tokens, v.get("tokens_per_s_per_gpu", 0.0) * gpus), (tokens, v.get("tokens_per_s", 0.0)), (samples, v.get("samples_per_s", 0.0)),
        )  # fmt: skip
        seconds = next((amount / rate for amount, rate in whole if amount and rate > 0), None)
        if seconds is not None and seconds < 1e5:
            yield Interval(point.where, _between(last, point.step), seconds, point.step, beside)
            beside = False
        last = point.step if point.step is not None else last


def _between(last: int | None, step: int | None) -> int:
    return max(1, step - (last or 0)) if step is not None else 1


def _mean(record: Record) -> Steps | None:
    """The whole run over its steps, less the evaluations that it says."""
    facts = {name: value for name, value in record.facts.items() if isinstance(value, float)}
    count, seconds = facts.get("global_step", 0.0), facts.get("train_seconds") or facts.get("wall_seconds")
    if not count and facts.get("steps_per_s") and seconds:
        count = facts["steps_per_s"] * seconds
    if not count or not seconds:
        return None
    pauses = tuple(Pause(p.where, p.values["pause_s"], "evaluation") for p in record.points if p.kind == "evaluation" and p.values.get("pause_s"))
    clean = seconds - sum(pause.seconds for pause in pauses)
    one = (clean if clean > 0 else seconds) / count
    return Steps(one, one, one, (one,), int(count), "mean", "the whole run", pauses=pauses, series=(Interval("the whole run", int(count), one, int(count)),))


def steady(intervals: Sequence[Interval], means: Means) -> Steps:
    """Divide entries into those that warm up, those that hold a pause, and the steady ones."""
    known = [one for one in intervals if not one.beside] or list(intervals)
    middle = median(one.seconds for one in (known[len(known) // 5 :] or known))
    most = max(1, int(WARMING * len(intervals))) if len(intervals) > 2 else 0
    warm = 0
    while warm < most and intervals[warm].seconds > SLOW_START * middle:
        warm += 1
    later = intervals[warm:]
    kept = [one for one in later if one.seconds <= (BESIDE if one.beside else PAUSE) * middle]
    kept = kept or list(later)
    held = [one for one in later if one not in kept]
    seconds = np.array([one.seconds for one in kept])
    weights = np.array([one.steps for one in kept], dtype=float)
    low, mid, high = (_quantile(seconds, weights, q) for q in (0.25, 0.5, 0.75))
    pauses = tuple(
        Pause(one.where, max(0.0, (one.seconds - mid) * one.steps), "evaluation or checkpoint" if one.beside else "unknown") for one in held
    )
    places = kept[0].where if len(kept) == 1 else f"{kept[0].where} to {kept[-1].where}"
    return Steps(
        low, mid, high, tuple(seconds.tolist()), int(weights.sum()), means, places,
        warm_steps=sum(one.steps for one in intervals[:warm]),
        warm_seconds=sum(max(0.0, one.seconds - mid) * one.steps for one in intervals[:warm]),
        pauses=pauses, series=tuple(intervals),
    )  # fmt: skip


def _quantile(values: Any, weights: Any, q: float) -> float:
    """A quantile of weighted values; of equal weights the usual one."""
    order = np.argsort(values)
    ordered, heavy = values[order], weights[order]
    if np.all(heavy == heavy[0]):
        return float(np.quantile(ordered, q))
    places = (np.cumsum(heavy) - heavy / 2) / heavy.sum()
    return float(np.interp(q, places, ordered))
