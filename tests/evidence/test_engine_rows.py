"""Measured rows through the real engine: accuracy by class, and mixtures of rows that no source ran."""

from __future__ import annotations

import math
import random
from dataclasses import fields, replace

import pytest

from planner.evidence.predict import Predictor
from planner.evidence.rows import Row, rows
from planner.evidence.score import score, summarise
from planner.evidence.validate import score_rows

CEILINGS = {
    "fms": (0.08, 0.10),
    "llm-foundry": (0.08, None),
    "peft": (0.10, 0.12),
    "qwen": (0.14, 0.09),
    "torchtitan": (0.20, 0.28),
    "megatron": (0.13, None),
    "bigscience": (0.16, 0.15),
    "nemo": (0.16, None),
    "mlperf": (0.15, None),
    "nanotron": (0.10, 0.14),
    "fms-fsdp": (0.12, None),
}
"""Median errors of tokens and of memory that a change must not exceed, by source: a ratchet, to be lowered with every gain."""


def every(table: list[Row], step: int) -> list[Row]:
    return table[::step]


@pytest.mark.parametrize("source", CEILINGS)
def test_median_errors_stay_below_their_ceilings(source: str) -> None:
    members = [row for row in rows() if row.source_group == source]
    summary = summarise(score_rows(every(members, max(1, len(members) // 60))))
    for quantity, ceiling in zip(("tokens", "memory"), CEILINGS[source], strict=True):
        if ceiling is not None:
            assert summary[quantity]["all"]["median"] <= ceiling, quantity


def test_what_did_not_fit_is_said_not_to_fit() -> None:
    failed = [row for row in rows() if row.outcome == "oom" and (row.tp or 1) * (row.pp or 1) == 1]
    fit = summarise(score_rows(every(failed, 2)))["fit"]
    assert fit["out_of_memory"] >= 20
    assert fit["out_of_memory_hits"] >= 0.9 * fit["out_of_memory"]


def test_mixtures_of_rows_are_predicted_or_skipped_for_a_reason() -> None:
    """Any combination of cells gives finite positive figures or a stated reason, never a fault."""
    table, rng, predictor = rows(), random.Random(7), Predictor()
    columns = [f.name for f in fields(Row) if f.name not in ("id", "raw", "problem", "source", "source_group")]
    predicted = 0
    for _ in range(200):
        row = rng.choice(table)
        changes = {name: getattr(rng.choice(table), name) for name in rng.sample(columns, 4)}
        mixed = replace(row, **(changes | dict.fromkeys(("tp", "pp", "cp", "ep"), 1)))
        scored = score(mixed, predictor.predict(mixed))
        p = scored.prediction
        if p.skipped is not None:
            assert p.skipped
            continue
        predicted += 1
        figures = (p.tokens_per_s_gpu, p.memory_gib, p.tokens_low, p.tokens_high, p.memory_low_gib, p.memory_high_gib)
        assert all(value is not None and math.isfinite(value) and value > 0 for value in figures)
        assert p.tokens_low <= p.tokens_per_s_gpu <= p.tokens_high  # type: ignore[operator]
    assert predicted >= 40
