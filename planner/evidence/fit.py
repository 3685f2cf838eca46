"""`python -m planner.evidence.fit`: fit a few physical constants to the measured runs, and the intervals to what is left.

Constants are those of ``planner/estimate/data/constants.json`` that name a prior. Each is sought by golden section on the rows that
it moves, one after the other, minimising robust log errors plus the distance from its prior; rows of one group weigh as its square
root. What is reported and what makes the intervals are errors on folds that took no part. With ``--intervals`` the constants stay and
only the intervals are made again; with ``--write`` the fitted values replace the shipped ones.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from planner.catalog.accelerators import find_accelerator
from planner.errors import PlanError
from planner.estimate import constants as engine_constants
from planner.estimate import uncertainty
from planner.evidence import intervals
from planner.evidence.folds import FOLDS, fold_of, group_of
from planner.evidence.predict import Predictor
from planner.evidence.rows import Row, rows
from planner.evidence.score import Scored, score

CONSTANTS: Final = Path(engine_constants.__file__).with_name("data") / "constants.json"
PER_GROUP: Final = 8
"""Rows of one group that take part in the search; a sweep of hundreds of layouts says little more than eight of them."""
HUBER: Final = 0.15
"""Log error from which a row pulls with constant force: a few runs are off for reasons that no constant explains."""
GOLDEN: Final = (math.sqrt(5) - 1) / 2
STEPS: Final = 7
ROUNDS: Final = 2


@dataclass(frozen=True, slots=True)
class Prior:
    """What a constant is believed to be before the rows are seen: median, and the standard deviation of its logarithm."""

    median: float
    spread: float


def priors() -> dict[str, Prior]:
    """Constants that may be fitted: entries of ``constants.json`` with `prior` and `prior_spread`."""
    table = json.loads(CONSTANTS.read_text(encoding="utf-8"))
    return {
        name: Prior(float(entry["prior"]), float(entry["prior_spread"]))
        for name, entry in table.items()
        if isinstance(entry, dict) and "prior" in entry and "prior_spread" in entry
    }


@contextmanager
def constants(values: Mapping[str, float]) -> Iterator[None]:
    """The engine with other values of some constants."""
    table = engine_constants._table()
    before = {name: dict(table[name]) for name in values}
    for name, value in values.items():
        table[name] = {**table[name], "value": value}
    try:
        yield
    finally:
        table.update(before)


def sample(table: Sequence[Row], per_group: int = PER_GROUP) -> list[Row]:
    """At most `per_group` rows with a time of each group, spread over the group's order."""
    groups: dict[str, list[Row]] = {}
    for row in table:
        if "time" in row.target_set:
            groups.setdefault(group_of(row), []).append(row)
    chosen: list[Row] = []
    for members in groups.values():
        step = max(1, len(members) // per_group)
        chosen += members[::step][:per_group]
    return chosen


def loss(scored: Sequence[Scored], values: Mapping[str, float], beliefs: Mapping[str, Prior]) -> float:
    """Robust mean log error of time, groups by the square root of their rows, plus half the squared distance from the priors."""
    groups: dict[str, list[float]] = {}
    for s in scored:
        if s.tokens_ratio is not None:
            error = abs(math.log(s.tokens_ratio)) / HUBER
            groups.setdefault(group_of(s.row), []).append(error**2 / 2 if error < 1 else error - 0.5)
    total = sum(sum(errors) / math.sqrt(len(errors)) for errors in groups.values())
    distance = sum((math.log(values[name] / beliefs[name].median) / beliefs[name].spread) ** 2 / 2 for name in values)
    return total + distance


def search(table: Sequence[Row], start: Mapping[str, float], beliefs: Mapping[str, Prior], rounds: int = ROUNDS) -> dict[str, float]:
    """Coordinate descent: every constant in turn by golden section within two standard deviations of its prior, on the rows that it can move."""
    values = dict(start)
    for _ in range(rounds):
        for name, prior in beliefs.items():
            moved = [row for row in table if moves(name, row)]
            if not moved:
                continue
            middle, reach = math.log(prior.median), 2 * prior.spread

            def objective(log_value: float, name: str = name, moved: list[Row] = moved) -> float:
                trial = values | {name: math.exp(log_value)}
                with constants(trial):
                    return loss(_scored(moved), trial, beliefs)

            values[name] = math.exp(golden_section(objective, middle - reach, middle + reach))
    return values


def golden_section(objective: Callable[[float], float], low: float, high: float, steps: int = STEPS) -> float:
    """Minimum of a unimodal function on [low, high] by golden section (Kiefer 1953)."""
    inner, outer = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_inner, at_outer = objective(inner), objective(outer)
    for _ in range(steps):
        if at_inner <= at_outer:
            high, outer, at_outer = outer, inner, at_inner
            inner = high - GOLDEN * (high - low)
            at_inner = objective(inner)
        else:
            low, inner, at_inner = inner, outer, at_outer
            outer = low + GOLDEN * (high - low)
            at_outer = objective(outer)
    return (low + high) / 2


def moves(name: str, row: Row) -> bool:
    """Whether a constant can change a row's time: `sustained_<architecture>` only rows of that architecture, overlap only several accelerators."""
    if name.startswith("sustained_"):
        try:
            arch = find_accelerator(row.gpu).arch if row.gpu else ""
        except PlanError:
            return False
        return arch.lower().replace(" ", "_") == name.removeprefix("sustained_")
    if name.startswith(("overlap", "fsdp")):
        return (row.gpus or 1) > 1
    return True


def _scored(table: Sequence[Row]) -> list[Scored]:
    predictor = Predictor()
    return [score(row, predictor.predict(row)) for row in table]


def cross_validate(table: Sequence[Row], beliefs: Mapping[str, Prior]) -> tuple[dict[str, float], list[dict[str, float]], list[Scored]]:
    """Values from all rows, values of each fold from the other folds' rows, and every row predicted with the values of its own fold."""
    start = {name: prior.median for name, prior in beliefs.items()}
    chosen = sample(table)
    final = search(chosen, start, beliefs)
    by_fold = [search([row for row in chosen if fold_of(row) != fold], final, beliefs, rounds=1) for fold in range(FOLDS)]
    held_out: dict[str, Scored] = {}
    for fold, values in enumerate(by_fold):
        members = [row for row in table if fold_of(row) == fold]
        with constants(values):
            held_out |= {s.row.id: s for s in _scored(members)}
    return final, by_fold, [held_out[row.id] for row in table]


def write_intervals(held_out: Sequence[Scored], path: Path = uncertainty.DATA) -> dict[str, Any]:
    """Make ``uncertainty.json`` from held-out predictions; returns what was written."""
    made = {kind: intervals.table(intervals.residuals(held_out, kind)) for kind in ("time", "memory")}
    document = made | {"generated": datetime.now(UTC).date().isoformat(), "rows": len(held_out)}
    path.write_text(json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    return document


def write_constants(values: Mapping[str, float], by_fold: Sequence[Mapping[str, float]], path: Path = CONSTANTS) -> None:
    """Put fitted values into ``constants.json``, each with its spread between folds."""
    table = json.loads(path.read_text(encoding="utf-8"))
    for name, value in values.items():
        folds = [fold[name] for fold in by_fold]
        entry = table[name]
        entry["value"] = float(f"{value:.4g}")
        entry["folds"] = [float(f"{min(folds):.4g}"), float(f"{max(folds):.4g}")]
    path.write_text(json.dumps(table, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Fit, print what was found, and write what the arguments ask for."""
    table, beliefs = rows(), priors()
    if "--intervals" in arguments or not beliefs:
        held_out = _scored(table)
    else:
        values, by_fold, held_out = cross_validate(table, beliefs)
        for name, value in values.items():
            folds = ", ".join(f"{fold[name]:.4g}" for fold in by_fold)
            print(f"{name}: {value:.4g} (prior {beliefs[name].median:.4g}; folds {folds})")
        errors = np.array([abs(s.tokens_ratio - 1) for s in held_out if s.tokens_ratio is not None])
        print(f"held out: {errors.size} rows, median {np.median(errors):.1%}, 90 % {np.quantile(errors, 0.9):.1%}")
        if "--write" in arguments:
            write_constants(values, by_fold)
    document = write_intervals(held_out)
    for kind in ("time", "memory"):
        print(f"{kind}: {len(document[kind]['classes'])} classes, {document[kind]['held_out_coverage']:.1%} of held-out rows inside")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
