"""`python -m planner.evidence.fit`: fit a few physical constants to the measured runs, and the intervals to what is left.

The constants are those of `PRIORS`, in ``planner/estimate/data/constants.json``. Each is sought by golden section on the rows that it
moves, one after the other, minimising robust log errors plus the distance from its prior; rows of one group weigh as its square root.
Every fold is fitted again without its rows: errors that are reported as held out, and the intervals, come from those values.
``--only=NAME`` (or ``"--only=NAME [KEY]"``) seeks the named constants alone and leaves the others. With ``--write`` the values replace the shipped ones and the
intervals are made; with ``--intervals`` only the intervals are.
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
from planner.estimate import resolve, uncertainty
from planner.evidence import intervals
from planner.evidence.fit_memory import fold_shares, memory_constants
from planner.evidence.folds import FOLDS, fold_of, group_of
from planner.evidence.mapping import stack_of
from planner.evidence.predict import Predictor
from planner.evidence.rows import DATA, Row, rows
from planner.evidence.score import Scored, score
from planner.evidence.trial import CONSTANTS, changeable, read_folds, write_folds, write_table

FOLD_VALUES: Final = DATA / "folds.json"
PER_GROUP: Final = 6
"""Rows of one group that take part in the search; a sweep of hundreds of layouts says little more than six of them."""
HUBER: Final = 0.15
"""Log error from which a row pulls with constant force: a few runs are off for reasons that no constant explains."""
GOLDEN: Final = (math.sqrt(5) - 1) / 2
STEPS: Final = 6
ROUNDS: Final = 2


@dataclass(frozen=True, slots=True)
class Prior:
    """What a constant is believed to be before the rows are seen.

    median: in the constant's unit. spread: standard deviation of its logarithm. key: entry under `by_stack` or `by_architecture`, "" for the value itself.
    """

    name: str
    key: str
    median: float
    spread: float
    source: str = ""

    @property
    def path(self) -> str:
        """Name of the constant, with its entry."""
        return f"{self.name} [{self.key}]" if self.key else self.name


PRIORS: Final = {
    prior.path: prior
    for prior in (
        Prior(
            "sustained_rate",
            "Ampere 8.0",
            0.85,
            0.10,
            "A100 holds 220 to 270 of 312 TFLOP/s in long runs (ml-engineering @ 744d01e1)",
        ),
        Prior(
            "sustained_rate",
            "Hopper 9.0",
            0.80,
            0.12,
            "H100 SXM throttles under 700 W with random data (He 2024, horace.io/brrr)",
        ),
        Prior("sustained_rate", "Ada Lovelace 8.9", 0.95, 0.10, "as measured for L40S kernels under the power limit"),
        Prior("sustained_rate", "Volta 7.0", 0.95, 0.10, "V100 holds its boost clock at 300 W in most training"),
        Prior("sustained_rate", "Ampere 8.6", 0.90, 0.12, "between A100 and Ada"),
        *(
            Prior("sustained_rate", f"TPU {part}", 1.15, 0.12, "a systolic array under XLA, over the 70 % of the peak that parts without tables get")
            for part in ("v4", "v5e", "v5p")
        ),
        Prior("dispatch", "hf-4", 2.0, 0.40, "module calls, hooks and autocast around a lone operator"),
        Prior("dispatch", "megatron", 4.0, 0.60, "Python modules of Megatron-LM with recomputation"),
        Prior(
            "collective_dispatch_seconds",
            "",
            1e-4,
            0.70,
            "an autograd function, group look-up, NCCL enqueue and stream synchronisation, issued from Python",
        ),
        Prior(
            "product_rate",
            "megatron",
            1.0,
            0.10,
            "the sustained rate is shared by all stacks; Megatron adds weight gradients up inside the product and pretrains on well-cooled machines",
        ),
        Prior("dispatch", "deepspeed", 2.5, 0.40, "engine hooks on every module"),
        Prior("dispatch", "nemo", 4.0, 0.50, "modules of Megatron-Core and Transformer Engine, of which only mixtures wait for the processor"),
        Prior("grouped_rate", "hf-scattermoe", 0.5, 0.30, "a Triton product that gathers its rows, against the libraries' grouped products"),
        Prior(
            "attention_rate",
            "composer",
            0.6,
            0.25,
            "FlashAttention 1 in Triton against FlashAttention 2 (Dao 2023, arXiv:2307.08691, fig. 4)",
        ),
        Prior(
            "rank_wait_seconds",
            "nanotron",
            3e-4,
            0.40,
            "the rate of small collectives of the sweep itself, over groups of 4 to 32 ranks",
        ),
        Prior(
            "hand_over_seconds",
            "nanotron-blocking",
            0.25,
            0.40,
            "steps of the sweep's pipelines that do not depend on their micro batch: 1 s a middle stage, with four transfers",
        ),
        Prior("overlap_slowdown", "", 0.15, 0.60, "Hetu-Galvatron measures 1.1 to 1.3 at full overlap"),
        Prior(
            "sharded_unit_seconds",
            "",
            0.0005,
            0.70,
            "hooks, gathers and stream synchronisation of one FSDP unit and pass",
        ),
    )
}
"""Constants that are fitted, by path, with what was believed of each before the rows were seen."""


@contextmanager
def constants(values: Mapping[str, float], beliefs: Mapping[str, Prior]) -> Iterator[None]:
    """The engine with other values of some constants."""
    try:
        with changeable({prior.name for prior in beliefs.values()}) as table:
            for path, value in values.items():
                _set(table, beliefs[path], value)
            resolve._known_profile.cache_clear()
            yield
    finally:
        resolve._known_profile.cache_clear()


def value_of(table: Mapping[str, Any], prior: Prior) -> float:
    """Value in use of a constant."""
    entry = table[prior.name]
    group = entry.get("by_architecture", entry.get("by_stack", {}))
    return float(group.get(prior.key, entry["value"]))


def _set(table: dict[str, Any], prior: Prior, value: float) -> None:
    entry = table[prior.name]
    if not prior.key:
        entry["value"] = value
        return
    group = entry["by_architecture" if prior.name == "sustained_rate" else "by_stack"]
    family = uncertainty.SAME_STACK.get(prior.key, prior.key)
    alike = [key for key in group if uncertainty.SAME_STACK.get(key, key) == family]
    for key in {prior.key, *alike}:
        group[key] = value


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
    distance = sum(
        (math.log(value / beliefs[path].median) / beliefs[path].spread) ** 2 / 2 for path, value in values.items()
    )
    return total + distance


def search(
    table: Sequence[Row], start: Mapping[str, float], beliefs: Mapping[str, Prior], rounds: int = ROUNDS
) -> dict[str, float]:
    """Coordinate descent: every constant in turn by golden section within two standard deviations of its prior, on the rows that it can move."""
    values = dict(start)
    for _ in range(rounds):
        for name, prior in beliefs.items():
            moved = [row for row in table if moves(prior, row)]
            if not moved:
                continue
            middle, reach = math.log(prior.median), 2 * prior.spread

            def objective(log_value: float, name: str = name, moved: list[Row] = moved) -> float:
                trial = values | {name: math.exp(log_value)}
                with constants(trial, beliefs):
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


def moves(prior: Prior, row: Row) -> bool:
    """Whether a constant can change a row's time: an architecture's only rows on it, a stack's its own, communication's several accelerators."""
    if (row.gpus or 1) == 1 and prior.name in ("overlap_slowdown", "sharded_unit_seconds"):
        return False
    if not prior.key:
        return True
    if prior.name == "sustained_rate":
        try:
            part = find_accelerator(row.gpu or "")
        except PlanError:
            return False
        return prior.key in (part.arch, f"{part.arch} {part.compute_capability}")
    stack = stack_of(row)
    if prior.name == "grouped_rate":
        return stack == prior.key
    return stack is not None and uncertainty.SAME_STACK.get(stack, stack) == uncertainty.SAME_STACK.get(
        prior.key, prior.key
    )


def _scored(table: Sequence[Row]) -> list[Scored]:
    predictor = Predictor()
    return [score(row, predictor.predict(row)) for row in table]


def refine(
    table: Sequence[Row], names: Sequence[str], beliefs: Mapping[str, Prior]
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """The named constants alone, on the rows that they move; the others stay as they are, in every fold too."""
    some = {name: beliefs[name] for name in names}
    chosen = [row for row in sample(table) if any(moves(prior, row) for prior in some.values())]
    shipped = {name: value_of(engine_constants._table(), prior) for name, prior in beliefs.items()}
    start = {name: prior.median for name, prior in some.items()}
    found, by_fold = search(chosen, start, some), []
    for fold, kept in enumerate(fold_values()):
        whole = shipped | kept
        with constants(whole, beliefs):
            rest = [row for row in chosen if fold_of(row) != fold]
            by_fold.append(whole | search(rest, start, some, rounds=1))
    return shipped | found, by_fold


def cross_validate(
    table: Sequence[Row], beliefs: Mapping[str, Prior]
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Values from all rows, and values of each fold from the other folds' rows."""
    predictor = Predictor()
    chosen = [row for row in sample(table) if predictor.predict(row).skipped is None]
    start = {path: prior.median for path, prior in beliefs.items()}
    final = search(chosen, start, beliefs)
    return final, [
        search([row for row in chosen if fold_of(row) != fold], start, beliefs, rounds=1) for fold in range(FOLDS)
    ]


def held_out(
    table: Sequence[Row], by_fold: Sequence[Mapping[str, float]], beliefs: Mapping[str, Prior] = PRIORS
) -> list[Scored]:
    """Every row predicted with the constants that its own fold had no part in, those of memory too."""
    found: dict[str, Scored] = {}
    for fold, (values, shares) in enumerate(zip(by_fold, fold_shares(), strict=True)):
        with constants(values, beliefs), memory_constants(shares):
            found |= {s.row.id: s for s in _scored([row for row in table if fold_of(row) == fold])}
    return [found[row.id] for row in table]


def fold_values() -> list[dict[str, float]]:
    """The constants of each fold as the last fit wrote them."""
    return read_folds(FOLD_VALUES)


def write_intervals(unseen: Sequence[Scored], path: Path = uncertainty.DATA) -> dict[str, Any]:
    """Make ``uncertainty.json`` from held-out predictions; returns what was written."""
    made = {kind: intervals.table(intervals.residuals(unseen, kind)) for kind in uncertainty.KINDS}
    document = made | {"generated": datetime.now(UTC).date().isoformat(), "rows": len(unseen)}
    path.write_text(json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    return document


def write_constants(values: Mapping[str, float], beliefs: Mapping[str, Prior], path: Path = CONSTANTS) -> None:
    """Put fitted values into ``constants.json``; everything else in it stays."""
    write_table(lambda table, name, value: _set(table, beliefs[name], value), values, path)


def main(arguments: Sequence[str]) -> int:
    """Fit, print what was found, and write what the arguments ask for."""
    table = rows()
    if "--intervals" in arguments:
        by_fold = fold_values()
    else:
        only = [name for name in PRIORS if any(given in (f"--only={name}", f"--only={name.split(' ')[0]}") for given in arguments)]
        values, by_fold = refine(table, only, PRIORS) if only else cross_validate(table, PRIORS)
        for path, value in values.items():
            folds = ", ".join(f"{fold[path]:.3g}" for fold in by_fold)
            print(f"{path}: {value:.3g} (prior {PRIORS[path].median:.3g}; folds {folds})")
        if "--write" in arguments:
            write_constants(values, PRIORS)
            write_folds(by_fold, FOLD_VALUES)
    unseen = held_out(table, by_fold)
    errors = np.array([abs(s.tokens_ratio - 1) for s in unseen if s.tokens_ratio is not None])
    print(f"held out: {errors.size} rows, median {np.median(errors):.1%}, 90 % {np.quantile(errors, 0.9):.1%}")
    if "--write" in arguments or "--intervals" in arguments:
        document = write_intervals(unseen)
        for kind in uncertainty.KINDS:
            print(
                f"{kind}: {len(document[kind]['classes'])} classes, {document[kind]['held_out_coverage']:.1%} of held-out rows inside"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
