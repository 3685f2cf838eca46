"""90 % intervals by class of run, from residuals on rows that were not used, and a check of how many such rows they hold.

A class's range is the 5 % and 95 % quantile of log(measured / predicted). Small classes are drawn towards the wider class above them in proportion to the rows
that they lack. The level of the quantiles is then raised or lowered until the intervals hold 90 % of the rows of folds that did not make them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from planner.estimate.uncertainty import MIN_ROWS, Kind, class_names
from planner.evidence.folds import FOLDS, fold_of
from planner.evidence.predict import facts_of
from planner.evidence.quirks import contradicts
from planner.evidence.score import NOMINAL, Scored

SHRINKAGE: Final = 40.0
"""Rows at which a class weighs as much as the class above it."""
_LEVELS: Final = np.linspace(0.80, 0.995, 40)


@dataclass(frozen=True, slots=True)
class Residual:
    """One judged row: its classes (most specific first), log(measured / predicted), fold and source."""

    classes: tuple[str, ...]
    value: float
    fold: int
    source: str


def classes_of(scored: Scored, kind: Kind) -> tuple[str, ...]:
    """Classes of a row, the most specific first."""
    return class_names(kind, facts_of(scored.row, scored.prediction))


def choose(ranges: Mapping[str, tuple[float, float, int, float]], classes: Sequence[str]) -> tuple[float, float] | None:
    """Log range of the most specific class with enough rows."""
    return next((ranges[name][:2] for name in classes if name in ranges and ranges[name][2] >= MIN_ROWS), None)


def residuals(scored: Sequence[Scored], kind: Kind) -> list[Residual]:
    """Residuals of one kind: time (the inverse of the ratio of rates) or memory; without rows that contradict their own columns."""
    found = []
    for s in scored:
        ratio = s.tokens_ratio if kind == "time" else (1 / s.memory_ratio if s.memory_ratio else None)
        if ratio is not None and not contradicts(s.row, "tokens" if kind == "time" else "memory"):
            found.append(Residual(classes_of(s, kind), float(np.log(ratio)), fold_of(s.row), s.row.source_group))
    return found


def class_ranges(members: Sequence[Residual], level: float) -> dict[str, tuple[float, float, int, float]]:
    """Per class: low and high of log(measured / predicted) at a level of coverage, number of rows, median absolute percentage error."""
    by_class: dict[str, list[float]] = {}
    parents: dict[str, str | None] = {}
    for residual in members:
        for name, parent in zip(residual.classes, (*residual.classes[1:], None), strict=True):
            by_class.setdefault(name, []).append(residual.value)
            parents[name] = parent
    tail = (1 - level) / 2
    ranges: dict[str, tuple[float, float, int, float]] = {}
    for name in sorted(by_class, key=lambda n: _depth(n, parents)):
        values = np.array(by_class[name])
        low, high = (float(q) for q in np.quantile(values, (tail, 1 - tail)))
        above = ranges.get(parents[name] or "")
        if above is not None:
            weight = values.size / (values.size + SHRINKAGE)
            low, high = weight * low + (1 - weight) * above[0], weight * high + (1 - weight) * above[1]
        ranges[name] = (low, high, int(values.size), float(np.median(np.abs(np.exp(-values) - 1))))
    return ranges


def _depth(name: str, parents: Mapping[str, str | None]) -> int:
    depth, parent = 0, parents.get(name)
    while parent is not None:
        depth, parent = depth + 1, parents.get(parent)
    return depth


def coverage(members: Sequence[Residual], level: float) -> list[bool]:
    """Whether each row lies in the interval that the other folds' rows make for it."""
    inside: list[bool] = []
    for fold in range(FOLDS):
        ranges = class_ranges([r for r in members if r.fold != fold], level)
        for residual in (r for r in members if r.fold == fold):
            chosen = choose(ranges, residual.classes)
            if chosen is not None:
                inside.append(chosen[0] <= residual.value <= chosen[1])
    return inside


def calibrate(members: Sequence[Residual]) -> tuple[float, float]:
    """Level of the quantiles at which held-out coverage is nearest to 90 %, and that coverage."""
    reached = [
        (abs(c - NOMINAL), float(level), c)
        for level in _LEVELS
        if (held := coverage(members, float(level))) and (c := sum(held) / len(held))
    ]
    if not reached:
        return NOMINAL, float("nan")
    _, level, share = min(reached)
    return level, share


def table(members: Sequence[Residual]) -> dict[str, Any]:
    """Classes with enough rows as ratios measured / predicted, for ``uncertainty.json``."""
    level, share = calibrate(members)
    ranges = class_ranges(members, level)
    classes = {
        name: {
            "low": round(float(np.exp(low)), 4),
            "high": round(float(np.exp(high)), 4),
            "n": n,
            "median": round(median, 4),
        }
        for name, (low, high, n, median) in sorted(ranges.items())
        if n >= MIN_ROWS
    }
    return {"classes": classes, "level": round(level, 4), "held_out_coverage": round(share, 4), "rows": len(members)}
