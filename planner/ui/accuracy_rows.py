"""Rows of the record of accuracy: chosen by filters, drawn as dots, summed up by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import numpy as np

from planner.evidence import accuracy as record
from planner.evidence.family import family_of
from planner.evidence.rows import rows as measured_rows
from planner.workload.methods import METHODS
from planner.workload.stacks import STACKS

Rows = Sequence[Mapping[str, Any]]
FILTERS: Final = {
    "source_group": "Source",
    "gpu": "GPU",
    "method": "Method",
    "stack": "Software",
    "family": "Model family",
}
"""Columns that the page filters by, and their labels."""
GROUPINGS: Final = {
    "source_group": "Source",
    "gpu": "Accelerator",
    "method": "Method",
    "stack": "Software",
    "family": "Model family",
    "scale": "Scale",
}
COLOURS: Final = {"scale": "Scale", "method": "Method", "stack": "Software", "family": "Model family"}
_COLUMNS: Final = {
    "tokens": ("measured_tokens_per_s_gpu", "tokens_per_s_gpu", "tokens_ratio", "held_out_tokens_ratio", "tokens_in_interval"),
    "memory": ("measured_memory_gib", "memory_gib", "memory_ratio", "held_out_memory_ratio", "memory_in_interval"),
}
"""Measured and predicted value, ratio predicted / measured in sample and held out, and whether the held-out interval holds the row."""


@cache
def all_rows() -> tuple[dict[str, Any], ...]:
    """Every scored row with the words that the page needs: family, scale, place in its source."""
    places = {row.id: row.source for row in measured_rows()}
    return tuple(
        {
            **row,
            "family": family_of(row["model"]),
            "scale": _scale(row["gpus"]),
            "source": places.get(row["id"], ""),
            "gpu": row["gpu"] or "not stated",
            "stack": row["stack"] or "not stated",
        }
        for row in record.scored_rows()
    )


def _scale(gpus: float | None) -> str:
    if gpus is None or gpus <= 1:
        return "one GPU"
    return "up to 8 GPUs" if gpus <= 8 else "up to 64 GPUs" if gpus <= 64 else "thousands of GPUs"


def label(column: str, value: str) -> str:
    """A method or a stack as the app names it; other values as they are."""
    kinds: Mapping[str, Any] = METHODS if column == "method" else STACKS if column == "stack" else {}
    kind = kinds.get(value)
    return str(kind.label) if kind is not None else value


def options(quantity: str, column: str) -> list[str]:
    """Values of a column among the rows that measure a quantity, the most frequent first."""
    counts = Counter(row[column] for row in compared(all_rows(), quantity))
    return [value for value, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def compared(rows: Iterable[Mapping[str, Any]], quantity: str) -> list[Mapping[str, Any]]:
    """Rows with a measurement of a quantity and a prediction of it."""
    ratio = _COLUMNS[quantity][2]
    return [row for row in rows if row[ratio]]


def chosen(quantity: str, filters: Mapping[str, Sequence[str]]) -> list[Mapping[str, Any]]:
    """Compared rows that have one of the chosen values in every column where something is chosen."""
    wanted = {column: set(values) for column, values in filters.items() if values}
    return [row for row in compared(all_rows(), quantity) if all(row[column] in values for column, values in wanted.items())]


def dots(rows: Rows, quantity: str, by: str) -> list[dict[str, Any]]:
    """Measured and predicted value of every row, its group, and what hovering says: the run, then where it was published."""
    measured, predicted = _COLUMNS[quantity][:2]
    found = []
    for row in rows:
        name = f"{row['model']}, {label('method', row['method'])}, {row['gpus']:.0f} × {row['gpu']}"
        source = _shortened(f"{row['source_group']}: {row['source']}")
        found.append(
            {
                "measured": row[measured],
                "predicted": row[predicted],
                "group": label(by, row[by]),
                "name": f"{_no_tags(name)}<br>{_no_tags(source)}",
            }
        )
    return found


def errors(rows: Rows, quantity: str) -> dict[str, Any]:
    """n, median, p90 and bias in sample, the same held out, and coverage (a share), of some rows; shares in percent but for coverage."""
    _, _, ratio, unseen, inside = _COLUMNS[quantity]
    seen, other = np.array([row[ratio] for row in rows]), np.array([row[unseen] or row[ratio] for row in rows])
    held = [row[inside] for row in rows if row[inside] is not None]
    first, second = np.abs(seen - 1), np.abs(other - 1)
    return {
        "n": len(rows),
        "median": 100 * float(np.median(first)),
        "p90": 100 * float(np.quantile(first, 0.9)),
        "bias": 100 * float(np.median(seen) - 1),
        "held_out_median": 100 * float(np.median(second)),
        "held_out_p90": 100 * float(np.quantile(second, 0.9)),
        "held_out_bias": 100 * float(np.median(other) - 1),
        "coverage": sum(held) / len(held) if held else None,
    }


def table(rows: Rows, quantity: str, grouping: str) -> list[dict[str, Any]]:
    """Errors of all rows, then of each class of a grouping, the largest first."""
    if not rows:
        return []
    classes: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        classes.setdefault(label(grouping, row[grouping]), []).append(row)
    ordered = sorted(classes.items(), key=lambda item: (-len(item[1]), item[0]))
    return [{"class": name, **errors(members, quantity)} for name, members in [("all rows", list(rows)), *ordered]]


def _shortened(text: str, length: int = 110) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def _no_tags(text: str) -> str:
    """Plotly reads a few tags in hover texts."""
    return text.replace("&", "&amp;").replace("<", "&lt;")
