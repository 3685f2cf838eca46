"""Predictions beside measurements: errors by class, coverage of the intervals, and fit verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from planner.estimate.chance import LEVEL
from planner.evidence.predict import Prediction
from planner.evidence.rows import Row

NOMINAL: Final = LEVEL
"""Share of rows that an interval should hold."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A row, what was predicted, and the ratios predicted / measured; None where the row has no such target or no prediction."""

    row: Row
    prediction: Prediction
    tokens_ratio: float | None = None
    step_ratio: float | None = None
    memory_ratio: float | None = None
    tokens_covered: bool | None = None
    memory_covered: bool | None = None
    fit_hit: bool | None = None


def measured_tokens(row: Row) -> float | None:
    """Measured tokens per second and accelerator; from step time or sample rate where the row prints only those."""
    if row.tokens_per_s_gpu:
        return row.tokens_per_s_gpu
    if not row.seq_len or not row.gpus:
        return None
    if row.samples_per_s:
        return row.samples_per_s * row.seq_len / row.gpus
    if row.step_time_s and row.global_batch:
        return row.global_batch * row.seq_len / row.step_time_s / row.gpus
    return None


def score(row: Row, prediction: Prediction) -> Scored:
    """Compare one row with its prediction on the targets that it names."""
    if prediction.skipped is not None:
        return Scored(row, prediction)
    targets, p = row.target_set, prediction
    tokens = measured_tokens(row) if "time" in targets else None
    memory = row.peak_mem_gib if "memory" in targets else None
    tokens_ratio = p.tokens_per_s_gpu / tokens if tokens and p.tokens_per_s_gpu else None
    step_ratio = p.step_time_s / row.step_time_s if "time" in targets and row.step_time_s and p.step_time_s else None
    memory_ratio = p.memory_gib / memory if memory and p.memory_gib else None
    covered = None
    if tokens and p.tokens_low is not None and p.tokens_high is not None:
        covered = p.tokens_low <= tokens <= p.tokens_high
    held = None
    if memory and p.memory_low_gib is not None and p.memory_high_gib is not None:
        held = p.memory_low_gib <= memory <= p.memory_high_gib
    hit = None if p.fits is None or row.outcome is None else p.fits == (row.outcome != "oom")
    return Scored(row, prediction, tokens_ratio, step_ratio, memory_ratio, covered, held, hit)


def statistics(ratios: Iterable[float]) -> dict[str, Any] | None:
    """n, median and 90th percentile of |ratio - 1|, and the median of ratio - 1 (its sign tells the direction); None without ratios."""
    values = np.fromiter(ratios, dtype=float)
    if not values.size:
        return None
    errors = np.abs(values - 1)
    return {
        "n": int(values.size),
        "median": float(np.median(errors)),
        "p90": float(np.quantile(errors, 0.9)),
        "bias": float(np.median(values) - 1),
    }


def device_of(scored: Scored) -> str:
    """Name of the accelerator, for tables."""
    return scored.row.gpu or "not told"


GROUPINGS: Final[dict[str, Callable[[Scored], str]]] = {
    "source": lambda s: s.row.source_group or "not told",
    "method": lambda s: s.row.method or "full",
    "device": device_of,
    "stack": lambda s: s.prediction.stack or "not told",
    "scale": lambda s: (
        "one accelerator" if (s.row.gpus or 1) == 1 else "one node" if _one_node(s.row) else "several nodes"
    ),
}

QUANTITIES: Final[dict[str, tuple[Callable[[Scored], float | None], Callable[[Scored], bool | None]]]] = {
    "tokens": (lambda s: s.tokens_ratio, lambda s: s.tokens_covered),
    "memory": (lambda s: s.memory_ratio, lambda s: s.memory_covered),
}


def _one_node(row: Row) -> bool:
    return (row.gpus or 1) <= (row.gpus_per_node or 8)


def summarise(scored: Sequence[Scored]) -> dict[str, Any]:
    """Summary of a scored table; what `validate` prints and the accuracy page shows.

    Keys: rows, predicted, skipped, skipped_reasons (reason to count); tokens, step_time and memory (n, median, p90, bias over all, and
    by source, method, device, stack and scale; tokens and memory also `coverage` of the 90 % interval); fit (rows and hits of
    configurations that ran and that did not).
    """
    reasons: dict[str, int] = {}
    for s in scored:
        if s.prediction.skipped is not None:
            reasons[s.prediction.skipped] = reasons.get(s.prediction.skipped, 0) + 1
    summary: dict[str, Any] = {
        "rows": len(scored),
        "predicted": sum(s.prediction.skipped is None for s in scored),
        "skipped": sum(reasons.values()),
        "skipped_reasons": dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        "step_time": statistics(s.step_ratio for s in scored if s.step_ratio is not None),
    }
    for name, (ratio, covered) in QUANTITIES.items():
        summary[name] = _quantity(scored, ratio, covered)
    summary["fit"] = _fit(scored)
    return summary


def _quantity(
    scored: Sequence[Scored], ratio: Callable[[Scored], float | None], covered: Callable[[Scored], bool | None]
) -> dict[str, Any]:
    def entry(members: Sequence[Scored]) -> dict[str, Any] | None:
        figures = statistics(r for s in members if (r := ratio(s)) is not None)
        if figures is not None:
            inside = [c for s in members if (c := covered(s)) is not None]
            figures["coverage"] = sum(inside) / len(inside) if inside else None
        return figures

    result: dict[str, Any] = {"all": entry(scored)}
    for grouping, key in GROUPINGS.items():
        classes: dict[str, list[Scored]] = {}
        for s in scored:
            if ratio(s) is not None:
                classes.setdefault(key(s), []).append(s)
        result[f"by_{grouping}"] = {name: entry(classes[name]) for name in sorted(classes)}
    return result


def _fit(scored: Sequence[Scored]) -> dict[str, int]:
    judged = [s for s in scored if s.fit_hit is not None]
    ran = [s for s in judged if s.row.outcome != "oom"]
    failed = [s for s in judged if s.row.outcome == "oom"]
    return {
        "ran": len(ran),
        "ran_hits": sum(bool(s.fit_hit) for s in ran),
        "out_of_memory": len(failed),
        "out_of_memory_hits": sum(bool(s.fit_hit) for s in failed),
    }
