"""`python -m planner.evidence.gate`: recompute the errors of every published row and fail where a class is worse than the committed record.

The record (``data/gate.json``, written by `planner.evidence.report`) holds each class's held-out median error and coverage with a tolerance:
how far the figure moves when whole groups of rows (source, model, accelerator, method) are drawn again with replacement. Nothing random
enters a prediction, so that an unchanged planner reproduces the record exactly; the tolerance says from where on a change is more than luck
of which runs were published. It is bounded, so that a class of few groups is guarded too.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from planner.evidence.folds import group_of
from planner.evidence.rows import DATA
from planner.evidence.score import GROUPINGS, NOMINAL, QUANTITIES, Scored
from planner.evidence.verdicts import verdicts

BASELINE: Final = DATA / "gate.json"
MIN_ROWS: Final = 10
"""Rows from which a class's median error is guarded."""
MIN_ROWS_COVERAGE: Final = 30
"""Rows from which the share inside the intervals is guarded."""
DRAWS: Final = 400
LEVEL: Final = 0.95
ERROR_BOUNDS: Final = (0.003, 0.25)
"""Least tolerance of a median error, for rounding of the record; the most, as a share of the error itself."""
COVERAGE_BOUNDS: Final = (0.01, 0.05)
MAX_FALSE_FITS: Final = 0.01
AUC_SLACK: Final = 0.003


@dataclass(frozen=True, slots=True)
class Failure:
    """One class that got worse: what was measured, the record, and the limit that it passed."""

    quantity: str
    grouping: str
    name: str
    figure: str
    now: float
    before: float
    limit: float

    def __str__(self) -> str:
        return f"{self.quantity}, {self.grouping} {self.name}: {self.figure} {self.now:.2%}, was {self.before:.2%}, limit {self.limit:.2%}"


@dataclass(frozen=True, slots=True)
class _Class:
    errors: np.ndarray
    inside: np.ndarray
    groups: np.ndarray

    @property
    def median(self) -> float:
        return float(np.median(self.errors))

    @property
    def coverage(self) -> float | None:
        known = self.inside[~np.isnan(self.inside)]
        return float(known.mean()) if known.size >= MIN_ROWS_COVERAGE else None


def _classes(scored: Sequence[Scored], quantity: str) -> dict[str, _Class]:
    """Members of every class with enough rows, by "grouping/class"."""
    ratio, covered = QUANTITIES[quantity]
    keys: dict[str, Callable[[Scored], str]] = {"all": lambda s: "all rows", **GROUPINGS}
    members: dict[str, list[Scored]] = {}
    for s in scored:
        if ratio(s) is not None:
            for grouping, key in keys.items():
                members.setdefault(f"{grouping}/{key(s)}", []).append(s)
    found = {}
    for name, rows in sorted(members.items()):
        if len(rows) >= MIN_ROWS:
            errors = np.array([abs((ratio(s) or 0.0) - 1) for s in rows])
            inside = np.array([np.nan if (c := covered(s)) is None else float(c) for s in rows])
            _, groups = np.unique([group_of(s.row) for s in rows], return_inverse=True)
            found[name] = _Class(errors, inside, groups)
    return found


def _tolerances(found: _Class, name: str) -> tuple[float, float | None]:
    """One-sided bootstrap of the median error upwards and of the coverage downwards, over groups."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    places = [np.flatnonzero(found.groups == g) for g in range(int(found.groups.max()) + 1)]
    medians, shares = [], []
    for _ in range(DRAWS):
        drawn = np.concatenate([places[i] for i in random.integers(0, len(places), len(places))])
        medians.append(float(np.median(found.errors[drawn])))
        inside = found.inside[drawn]
        shares.append(float(np.nanmean(inside)) if not np.isnan(inside).all() else np.nan)
    up = float(np.quantile(medians, LEVEL)) - found.median
    error = float(np.clip(up, ERROR_BOUNDS[0], max(ERROR_BOUNDS[0], ERROR_BOUNDS[1] * found.median)))
    if found.coverage is None:
        return error, None
    down = found.coverage - float(np.nanquantile(shares, 1 - LEVEL))
    return error, float(np.clip(down, *COVERAGE_BOUNDS))


def baseline(held_out: Sequence[Scored]) -> dict[str, Any]:
    """The record to commit: of held-out rows whose coverage was judged by other folds (`planner.evidence.report.judged`)."""
    document: dict[str, Any] = {}
    for quantity in QUANTITIES:
        entries = {}
        for name, found in _classes(held_out, quantity).items():
            error, share = _tolerances(found, f"{quantity}/{name}")
            entry = {"n": int(found.errors.size), "median": round(found.median, 5), "tolerance": round(error, 5)}
            if found.coverage is not None and share is not None:
                entry |= {"coverage": round(found.coverage, 5), "coverage_tolerance": round(share, 5)}
            entries[name] = entry
        document[quantity] = entries
    said = verdicts(held_out)
    document["fit"] = {key: None if said[key] is None else round(said[key], 5) for key in ("auc", "false_fits")}
    return document


def failures(held_out: Sequence[Scored], record: Mapping[str, Any]) -> list[Failure]:
    """Classes that are worse than the record by more than their tolerance; a class that vanished counts as worse."""
    found: list[Failure] = []
    for quantity in QUANTITIES:
        classes = _classes(held_out, quantity)
        for path, entry in record[quantity].items():
            grouping, _, name = path.partition("/")
            now = classes.get(path)
            if now is None:
                if grouping != "stack":  # a row may be given to another stack; its source and device stay
                    found.append(Failure(quantity, grouping, name, "rows predicted", 0, entry["n"], MIN_ROWS))
                continue
            limit = entry["median"] + entry["tolerance"]
            if now.median > limit:
                found.append(Failure(quantity, grouping, name, "median error", now.median, entry["median"], limit))
            if "coverage" in entry and now.coverage is not None:
                least = entry["coverage"] - entry["coverage_tolerance"]
                if now.coverage < min(least, NOMINAL):  # an interval that held too many may hold fewer
                    found.append(Failure(quantity, grouping, name, "in interval", now.coverage, entry["coverage"], least))
    found += _verdict_failures(verdicts(held_out), record["fit"])
    return found


def _verdict_failures(said: Mapping[str, Any], record: Mapping[str, Any]) -> list[Failure]:
    found = []
    if record["auc"] is not None and said["auc"] is not None and said["auc"] < record["auc"] - AUC_SLACK:
        found.append(Failure("fit", "all", "all rows", "area under the curve", said["auc"], record["auc"], record["auc"] - AUC_SLACK))
    if record["false_fits"] is not None and said["false_fits"] is not None:
        limit = max(MAX_FALSE_FITS, record["false_fits"])
        if said["false_fits"] > limit:
            found.append(Failure("fit", "all", "all rows", "said to fit and ran out", said["false_fits"], record["false_fits"], limit))
    return found


def committed() -> dict[str, Any]:
    """The committed record."""
    record: dict[str, Any] = json.loads(BASELINE.read_text(encoding="utf-8"))
    return record


def recomputed() -> list[Scored]:
    """Every shipped row, held out, predicted now."""
    from planner.evidence import fit
    from planner.evidence.report import judged
    from planner.evidence.rows import rows

    return judged(fit.held_out(rows(), fit.fold_values()))


def main() -> int:
    """Print what got worse; 1 when something did."""
    found = failures(recomputed(), committed())
    for failure in found:
        print(f"worse: {failure}")
    record = committed()
    print(f"{len(found)} of {sum(len(record[q]) for q in QUANTITIES)} classes are worse than the record beyond noise")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
