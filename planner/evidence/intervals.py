"""90 % intervals by class of run, from residuals on rows that were not used, and a check of how many such rows they hold.

A class's range is the 5 % and 95 % quantile of log(measured / predicted). Small classes are drawn towards the wider class above them in
proportion to the rows that they lack. The distance of the quantiles from the median is then stretched or shortened, by one factor for
each kind of model, one for each training stack with enough rows in it and one for each most specific class, until the intervals hold 90 % of the rows
of folds that did not make them.
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
_OUTSIDE: Final = MIN_ROWS * (FOLDS - 1) // FOLDS
"""Rows that a class with just enough of them has left where one fold is kept out."""
PARTS: Final = ("mixtures", "encoders", "varying lengths")
_STRETCHES: Final = np.geomspace(0.6, 2.0, 40)
"""Not beyond twice: where a few groups of rows agree with each other but not with the model, no stretch holds the next group."""

_LEAF_STRETCHES: Final = np.geomspace(0.3, 2.0, 40)

Ranges = dict[str, tuple[float, float, int, float]]
"""Per class: low and high of log(measured / predicted), number of rows, median absolute percentage error."""


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


def choose(ranges: Ranges, classes: Sequence[str]) -> tuple[float, float] | None:
    """Log range of the most specific class with enough rows outside of a fold."""
    return next((ranges[name][:2] for name in classes if name in ranges and ranges[name][2] >= _OUTSIDE), None)


def residuals(scored: Sequence[Scored], kind: Kind) -> list[Residual]:
    """Residuals of one kind: time (the inverse of the ratio of rates) or memory; without rows that contradict their own columns."""
    found = []
    for s in scored:
        ratio = s.tokens_ratio if kind == "time" else (1 / s.memory_ratio if s.memory_ratio else None)
        if ratio is not None and not contradicts(s.row, "tokens" if kind == "time" else "memory"):
            found.append(Residual(classes_of(s, kind), float(np.log(ratio)), fold_of(s.row), s.row.source_group))
    return found


def class_ranges(members: Sequence[Residual], stretch: float, known: Ranges | None = None) -> Ranges:
    """Ranges of all classes of the rows at a stretch; those that are known stay as they are."""
    by_class: dict[str, list[float]] = {}
    parents: dict[str, str | None] = {}
    for residual in members:
        for name, parent in zip(residual.classes, (*residual.classes[1:], None), strict=True):
            by_class.setdefault(name, []).append(residual.value)
            parents[name] = parent
    tail = (1 - NOMINAL) / 2
    ranges: Ranges = dict(known or {})
    for name in sorted(by_class, key=lambda n: _depth(n, parents)):
        if known and name in known:
            continue
        values = np.array(by_class[name])
        low, middle, high = (float(q) for q in np.quantile(values, (tail, 0.5, 1 - tail)))
        low, high = middle - stretch * (middle - low), middle + stretch * (high - middle)
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


def _held(members: Sequence[Residual], by_fold: Sequence[Ranges]) -> list[bool]:
    """Whether each row that has a class lies in its interval; by_fold: for each fold, ranges that its rows had no part in."""
    inside: list[bool] = []
    for fold, ranges in enumerate(by_fold):
        chosen = ((choose(ranges, r.classes), r.value) for r in members if r.fold == fold)
        inside += [span[0] <= value <= span[1] for span, value in chosen if span is not None]
    return inside


def coverage(members: Sequence[Residual], stretch: float) -> list[bool]:
    """Whether each row lies in the interval that the other folds' rows make for it."""
    return _held(members, [class_ranges([r for r in members if r.fold != fold], stretch) for fold in range(FOLDS)])


def calibrate(members: Sequence[Residual]) -> tuple[float, float]:
    """Stretch of the quantiles at which held-out coverage is nearest to 90 %, and that coverage."""
    reached = [
        (abs(c - NOMINAL), float(stretch), c)
        for stretch in _STRETCHES
        if (held := coverage(members, float(stretch))) and (c := sum(held) / len(held))
    ]
    if not reached:
        return 1.0, float("nan")
    _, stretch, share = min(reached)
    return stretch, share


def part_of(classes: Sequence[str]) -> str:
    """Kind of model or data whose classes stand apart; the stretch is set for each, so that one that is predicted badly widens no other."""
    return next((part for part in PARTS if part in classes[-1]), "")


def family_of(classes: Sequence[str]) -> str:
    """Training stack, or its family, that the most specific class names; "" where it names none."""
    first = classes[0].split(" · ")[0]
    return first if len(classes) > 1 and not any(first in name.split(" · ") for name in classes[-1:]) else ""


def _families(members: Sequence[Residual]) -> dict[str, list[Residual]]:
    """Rows of each stack that has enough of them to be judged apart."""
    found: dict[str, list[Residual]] = {}
    for r in members:
        found.setdefault(family_of(r.classes), []).append(r)
    return {family: rows for family, rows in sorted(found.items()) if family and len(rows) >= 1.5 * MIN_ROWS}


def stretches(members: Sequence[Residual]) -> dict[str, float]:
    """Stretch of each part, of each stack with enough rows in it, as "part|stack", and of each most specific class on top of these, as
    "part|stack|class"."""
    at: dict[str, float] = {}
    for part in sorted({part_of(r.classes) for r in members}):
        inside = [r for r in members if part_of(r.classes) == part]
        at[part] = calibrate(inside)[0]
        others = [class_ranges([r for r in inside if r.fold != fold], at[part]) for fold in range(FOLDS)]
        for family, rows in _families(inside).items():
            at[f"{part}|{family}"] = min(
                (abs(_family_coverage(rows, family, float(s), others) - NOMINAL), abs(float(s) - at[part]), float(s)) for s in _STRETCHES
            )[2]
        known = [all_ranges([r for r in inside if r.fold != fold], at) for fold in range(FOLDS)]
        for leaf, rows in _leaves(inside).items():
            at[f"{part}|{family_of(rows[0].classes)}|{leaf}"] = min(
                (abs(_leaf_coverage(rows, leaf, float(s), known) - NOMINAL), abs(float(s) - 1.0), float(s)) for s in _LEAF_STRETCHES
            )[2]
    return at


def _leaves(members: Sequence[Residual]) -> dict[str, list[Residual]]:
    """Rows of each most specific class that has enough of them to be stretched by itself."""
    found: dict[str, list[Residual]] = {}
    for r in members:
        if len(r.classes) > 1:
            found.setdefault(r.classes[0], []).append(r)
    return {leaf: rows for leaf, rows in sorted(found.items()) if len(rows) >= MIN_ROWS}


def _leaf_coverage(rows: Sequence[Residual], leaf: str, stretch: float, known: Sequence[Ranges]) -> float:
    """Share of a class's rows inside the intervals that the other folds make."""
    here = [_stretched([r for r in rows if r.fold != fold], leaf, stretch, ranges) for fold, ranges in enumerate(known)]
    return sum(_held(rows, here)) / len(rows)


def _stretched(rows: Sequence[Residual], leaf: str, stretch: float, ranges: Ranges) -> Ranges:
    """The ranges with that of one class at a stretch of its own, on top of its stack's."""
    if leaf not in ranges or not rows:
        return ranges
    low, high, n, error = ranges[leaf]
    middle = float(np.median([r.value for r in rows]))
    return ranges | {leaf: (middle - stretch * (middle - low), middle + stretch * (high - middle), n, error)}


def _family_coverage(rows: Sequence[Residual], family: str, stretch: float, others: Sequence[Ranges]) -> float:
    """Share of a stack's rows inside the intervals that the other folds make; others: for each fold, ranges of all classes."""
    here = [class_ranges([r for r in rows if r.fold != fold], stretch, _without(known, family)) for fold, known in enumerate(others)]
    return sum(_held(rows, here)) / len(rows)


def _without(ranges: Ranges, family: str) -> Ranges:
    return {name: span for name, span in ranges.items() if name.split(" · ")[0] != family}


def all_ranges(members: Sequence[Residual], at: Mapping[str, float]) -> Ranges:
    """Ranges of all classes, each part at its stretch, and stacks at theirs."""
    ranges: Ranges = {}
    for part in {key.split("|")[0] for key in at}:
        inside = [r for r in members if part_of(r.classes) == part]
        whole = class_ranges(inside, at[part])
        below = [key.split("|") for key in at if key.startswith(f"{part}|")]
        for family in (path[1] for path in below if len(path) == 2):
            rows = [r for r in inside if family_of(r.classes) == family]
            whole = class_ranges(rows, at[f"{part}|{family}"], _without(whole, family))
        for path in (path for path in below if len(path) == 3):
            whole = _stretched([r for r in inside if r.classes[0] == path[2]], path[2], at["|".join(path)], whole)
        ranges |= whole
    # an interval holds its own estimate, also in a class that is off to one side
    return {name: (min(low, 0.0), max(high, 0.0), n, median) for name, (low, high, n, median) in ranges.items()}


def held_out_coverage(members: Sequence[Residual], at: Mapping[str, float]) -> float:
    """Share of rows inside the intervals that other folds make for them."""
    inside = _held(members, [all_ranges([r for r in members if r.fold != fold], at) for fold in range(FOLDS)])
    return sum(inside) / len(inside) if inside else float("nan")


def table(members: Sequence[Residual]) -> dict[str, Any]:
    """Classes with enough rows as ratios measured / predicted, for ``uncertainty.json``."""
    at = stretches(members)
    classes = {
        name: {
            "low": round(float(np.exp(low)), 4),
            "high": round(float(np.exp(high)), 4),
            "n": n,
            "median": round(median, 4),
        }
        for name, (low, high, n, median) in sorted(all_ranges(members, at).items())
        if n >= MIN_ROWS
    }
    share = round(held_out_coverage(members, at), 4)
    shown = {_label(key): round(stretch, 4) for key, stretch in at.items()}
    return {"classes": classes, "stretches": shown, "held_out_coverage": share, "rows": len(members)}


def _label(key: str) -> str:
    """What a stretch is of, in words."""
    part, _, below = key.partition("|")
    return below.rpartition("|")[2] if below.count("|") else " · ".join(filter(None, (part, below))) or "decoders"
