"""`python -m planner.evidence.fit_memory`: fit what the allocator holds beyond live tensors, the only constants of memory that rows decide.

Each share is a median over the rows that show it, groups by the square root of their rows, drawn towards its prior. Every fold is fitted again
without its rows, so that errors of memory are held out as those of time are. What rows decided in another way is in sample still: which software keeps
which copy was read off some of them. With ``--write`` the values replace the shipped ones.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from planner.evidence.folds import FOLDS, fold_of, group_of
from planner.evidence.lengths import cache_is_cleared, cache_is_whole, longest_is_known
from planner.evidence.predict import ALLOCATED_KINDS, Predictor
from planner.evidence.quirks import contradicts
from planner.evidence.rows import DATA, Row, rows
from planner.evidence.score import Scored, score
from planner.evidence.trial import changeable, read_folds, write_folds, write_table

FOLD_SHARES: Final = DATA / "folds_memory.json"
PRIOR_WEIGHT: Final = 2.0
"""What a prior weighs, in groups of one row."""
MOST_SLACK: Final = 0.25
"""Rows that hold more than this beyond the peak of tensors, or less than nothing by as much, lack a tensor in the plan: no share explains them."""
PASSING: Final = 0.05
"""Where passing tensors are a smaller part of the peak than this, they do not tell how many of them stay in the cache."""


@dataclass(frozen=True, slots=True)
class Share:
    """A constant, the stacks under `by_stack` that take it (none: the value itself), and what it was believed to be."""

    name: str
    prior: float
    source: str
    stacks: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Name of the constant, with its first stack."""
        return f"{self.name} [{self.stacks[0]}]" if self.stacks else self.name

    def value_of(self, table: Mapping[str, Any]) -> float:
        """Value in use."""
        entry = table[self.name]
        return float(entry["by_stack"][self.stacks[0]] if self.stacks else entry["value"])


SHARES: Final = {
    share.path: share
    for share in (
        Share("reserved_slack", 0.03, "blocks are rounded to 2 MiB segments, of which a few stay part-filled"),
        Share("reserved_slack", 0.05, "the same, and buffers of the communicators", ("megatron", "nemo")),
        Share("reserved_slack", 0.03, "expandable segments", ("torchtitan", "torchtitan-async-tp")),
        Share("reserved_slack", 0.10, "gathers and reductions of other streams, which reuse no block", ("torchtitan-2024", "torchtitan-eager")),
        Share("fragmentation", 1.0, "a second generation of blocks for every length"),
        Share("fragmentation_routed", 2.0, "two: for every length, and for every expert's part of the tokens"),
        Share("fragmentation_cleared", 0.1, "the cache is emptied every few steps"),
    )
}


class Implied(NamedTuple):
    """The share that one row shows."""

    path: str
    group: str
    fold: int
    value: float


def implied(scored: Scored) -> Implied | None:
    """Which share a row shows, and how large: what it holds over live tensors, as a part of the peak or of passing tensors."""
    row, p = scored.row, scored.prediction
    if scored.memory_ratio is None or row.mem_kind in ALLOCATED_KINDS or contradicts(row, "memory"):
        return None
    assert p.allocated_gib and p.reserved_gib and p.memory_gib and row.peak_mem_gib
    held = row.peak_mem_gib - (p.memory_gib - p.reserved_gib)  # without the driver's context
    place = group_of(row), fold_of(row)
    if longest_is_known(row):
        own = next((s for s in SHARES.values() if p.stack in s.stacks), SHARES["reserved_slack"])
        slack = held / p.allocated_gib - 1
        return Implied(own.path, *place, slack) if abs(slack) <= MOST_SLACK else None
    if cache_is_whole(row):
        return None
    passing = p.memory_parts.get("activations", 0.0) + p.memory_parts.get("logits", 0.0)
    if passing < PASSING * p.allocated_gib:
        return None
    name = "fragmentation_cleared" if cache_is_cleared(row) else "fragmentation_routed" if row.experts else "fragmentation"
    return Implied(name, *place, (held - p.allocated_gib) / passing)


def fitted(shown: Sequence[Implied]) -> dict[str, float]:
    """The weighted median of every share, drawn towards its prior and not below nothing."""
    found = {}
    for path, share in SHARES.items():
        own = [s for s in shown if s.path == path]
        sizes = Counter(s.group for s in own)
        values, weights = np.array([s.value for s in own]), np.array([sizes[s.group] ** -0.5 for s in own])
        total = float(weights.sum())
        middle = _median(values, weights) if own else share.prior
        found[path] = max(0.0, (total * middle + PRIOR_WEIGHT * share.prior) / (total + PRIOR_WEIGHT))
    return found


def _median(values: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> float:
    """Weighted median."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


@contextmanager
def memory_constants(values: Mapping[str, float]) -> Iterator[None]:
    """The engine with other shares."""
    with changeable({SHARES[path].name for path in values}) as table:
        for path, value in values.items():
            _put(table, path, value)
        yield


def _put(table: dict[str, Any], path: str, value: float) -> None:
    share = SHARES[path]
    if not share.stacks:
        table[share.name]["value"] = value
    for stack in share.stacks:
        table[share.name]["by_stack"][stack] = value


def fold_shares() -> list[dict[str, float]]:
    """The shares of each fold as the last fit wrote them."""
    return read_folds(FOLD_SHARES)


def measured(table: Sequence[Row]) -> list[Implied]:
    """What all rows with a measured peak show."""
    predictor = Predictor()
    scored = (score(row, predictor.predict(row)) for row in table if "memory" in row.target_set)
    return [shown for s in scored if (shown := implied(s)) is not None]


def main(arguments: Sequence[str]) -> int:
    """Fit, print what was found, and write it where that is asked for."""
    shown = measured(rows())
    values = fitted(shown)
    by_fold = [fitted([s for s in shown if s.fold != fold]) for fold in range(FOLDS)]
    for path, value in values.items():
        folds = ", ".join(f"{fold[path]:.3g}" for fold in by_fold)
        count = sum(s.path == path for s in shown)
        print(f"{path}: {value:.3g} from {count} rows (prior {SHARES[path].prior:.3g}; folds {folds})")
    if "--write" in arguments:
        write_table(_put, values)
        write_folds(by_fold, FOLD_SHARES)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
