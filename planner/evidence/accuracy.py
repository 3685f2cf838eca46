"""The shipped record of accuracy: what the engine said about every measured row, and the summary of it.

``data/accuracy.json`` and ``data/accuracy_rows.csv`` are written by `planner.evidence.report`; pages read them here without
estimating anything.
"""

from __future__ import annotations

import csv
import hashlib
import json
from functools import cache
from typing import Any, Final

from planner.evidence.rows import DATA, SHIPPED

ACCURACY: Final = DATA / "accuracy.json"
SCORED: Final = DATA / "accuracy_rows.csv"
GROUPINGS: Final = ("source", "device", "method", "stack", "scale")
NUMBERS: Final = (
    "gpus", "step_time_s", "tokens_per_s_gpu", "measured_tokens_per_s_gpu", "tokens_ratio", "held_out_tokens_ratio", "tokens_low", "tokens_high",
    "memory_gib", "measured_memory_gib", "memory_ratio", "held_out_memory_ratio", "memory_low_gib", "memory_high_gib", "allocated_gib", "reserved_gib",
    "tokens_in_interval", "memory_in_interval",
)  # fmt: skip
"""Columns of the scored rows that hold numbers; the others hold words."""


def measurements_digest() -> str:
    """SHA-256 of the shipped measurements: a record that was made from others is stale."""
    return hashlib.sha256(SHIPPED.read_bytes()).hexdigest()


@cache
def accuracy() -> dict[str, Any]:
    """The whole record: summary in sample and held out, intervals, fitted constants, worst rows."""
    record: dict[str, Any] = json.loads(ACCURACY.read_text(encoding="utf-8"))
    return record


def accuracy_table(quantity: str = "tokens") -> list[dict[str, Any]]:
    """One line per class of runs: grouping, class, n, median, p90, bias, coverage, and the median and p90 held out.

    Arguments
    ---------
    quantity: "tokens" (tokens per second and accelerator) or "memory" (peak).
    """
    seen, unseen = accuracy()["in_sample"][quantity], accuracy()["held_out"][quantity]
    lines = [_line("all", "all rows", seen["all"], unseen["all"])] if seen["all"] else []
    for grouping in GROUPINGS:
        key = f"by_{grouping}"
        lines += [_line(grouping, name, entry, unseen[key].get(name)) for name, entry in seen[key].items()]
    return lines


def _line(grouping: str, name: str, entry: dict[str, Any], held_out: dict[str, Any] | None) -> dict[str, Any]:
    held_out = held_out or {}
    return {
        "grouping": grouping,
        "class": name,
        **{key: entry[key] for key in ("n", "median", "p90", "bias")},
        "held_out_median": held_out.get("median"),
        "held_out_p90": held_out.get("p90"),
        "coverage": held_out.get("coverage"),
    }


@cache
def scored_rows() -> tuple[dict[str, Any], ...]:
    """Every measured row with its prediction: id, source_group, model, gpu, gpus, method, stack, basis, skipped, and the columns of `NUMBERS`."""
    with SCORED.open(encoding="utf-8", newline="") as file:
        return tuple({name: _cell(name, text) for name, text in record.items()} for record in csv.DictReader(file))


def _cell(name: str, text: str) -> Any:
    if not text:
        return None
    return float(text) if name in NUMBERS else text
