"""The record of accuracy as the page shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import streamlit as st

from planner import units
from planner.evidence import accuracy as record
from planner.workload.methods import METHODS
from planner.workload.stacks import STACKS

QUANTITIES: Final = {"tokens": "Throughput", "memory": "Peak memory"}
GROUPINGS: Final = {
    "source": "Source",
    "device": "Accelerator",
    "method": "Method",
    "stack": "Software",
    "scale": "Scale",
}
COLOURS: Final = {"method": "Method", "stack": "Software", "scale": "Scale"}
_UNITS: Final = {"tokens": "tokens/s per GPU", "memory": "GiB"}
_COLUMNS: Final = {
    "tokens": ("measured_tokens_per_s_gpu", "tokens_per_s_gpu"),
    "memory": ("measured_memory_gib", "memory_gib"),
}


CHART_HELP: Final = "One dot a published run, predicted from its configuration alone. Hover for its name."
TABLE_NOTE: Final = (
    "Error is |predicted − measured| / measured. Held out: no row of the same source, model, accelerator and method took part in the fit. "
    "In interval: share of held-out rows inside the 90 % interval."
)


def choose(label: str, key: str, choices: dict[str, str]) -> str:
    """One of a few choices, kept for the session; the first when nothing was chosen."""
    default = next(iter(choices))
    return st.segmented_control(
        label,
        list(choices),
        default=default,
        required=True,
        key=key,
        format_func=lambda name: choices[name],
        persist_state="session",
        label_visibility="collapsed",
    )


@dataclass(frozen=True)
class View:
    """Title, explanation, unit and four figures (label, value, note) of a quantity."""

    title: str
    explanation: str
    unit: str
    figures: tuple[tuple[str, str, str], ...]


def load() -> dict[str, Any] | None:
    """The shipped record, None where this installation has none."""
    try:
        return record.accuracy()
    except (OSError, json.JSONDecodeError):
        return None


def view(found: Mapping[str, Any], quantity: str) -> View:
    """What the record says about a quantity in a few figures."""
    seen, unseen = found["in_sample"][quantity]["all"], found["held_out"][quantity]["all"]
    counts = found["in_sample"]
    title = f"Half of the predictions are within {units.format_percent(unseen['median'], 2)} of the measurement"
    what = "tokens per second" if quantity == "tokens" else "peak memory"
    explanation = (
        f"{units.format_integer(counts['rows'])} published runs are in the record, {units.format_integer(counts['predicted'])} are predicted "
        f"from their configuration alone; {units.format_integer(seen['n'])} of them report {what}. Figures are held out: nothing that a "
        f"prediction uses was fitted to rows of the same source, model, accelerator and method. Generated {found['generated']}."
    )
    fit = counts["fit"]
    fits = fit["ran_hits"] + fit["out_of_memory_hits"], fit["ran"] + fit["out_of_memory"]
    figures = (
        ("Median error", units.format_percent(unseen["median"], 2), f"{units.format_integer(unseen['n'])} runs"),
        (
            "90 % are within",
            units.format_percent(unseen["p90"], 2),
            f"bias {'+' if unseen['bias'] > 0 else ''}{units.format_percent(unseen['bias'], 2)}",
        ),
        (
            "In the 90 % interval",
            "–" if unseen.get("coverage") is None else units.format_percent(unseen["coverage"], 2),
            "90 % is wanted",
        ),
        (
            "Fits or not, right",
            units.format_percent(fits[0] / fits[1], 3) if fits[1] else "–",
            f"{units.format_integer(fits[0])} of {units.format_integer(fits[1])}",
        ),
    )
    return View(title, explanation, _UNITS[quantity], figures)


def dots(quantity: str, by: str) -> list[dict[str, Any]]:
    """Measured and predicted value of every row that has both."""
    measured, predicted = _COLUMNS[quantity]
    labels = {name: kind.label for name, kind in METHODS.items()} | {
        name: stack.label for name, stack in STACKS.items()
    }
    found = []
    for row in record.scored_rows():
        if not row[measured] or not row[predicted]:
            continue
        scale = (
            "one GPU"
            if row["gpus"] == 1
            else f"up to {8 if row['gpus'] <= 8 else 64 if row['gpus'] <= 64 else 'thousands of'} GPUs"
        )
        group = scale if by == "scale" else labels.get(row[by], row[by]) or "not stated"
        name = f"{row['model']}, {row['method']}, {row['gpus']:.0f} × {row['gpu']} ({row['source_group']})"
        found.append({"measured": row[measured], "predicted": row[predicted], "group": group, "name": _no_tags(name)})
    return found


def table(quantity: str, grouping: str) -> list[dict[str, Any]]:
    """Errors of each class of a grouping, all rows first."""
    lines = [line for line in record.accuracy_table(quantity) if line["grouping"] in ("all", grouping)]
    shares = ("median", "p90", "bias", "held_out_median", "held_out_p90")
    return [
        {
            key: 100 * value if key in shares and value is not None else value
            for key, value in line.items()
            if key != "grouping"
        }
        for line in lines
    ]


def columns() -> dict[str, Any]:
    """How the table of errors is shown."""
    percent = {
        "median": "Median error",
        "p90": "90 % within",
        "bias": "Bias",
        "held_out_median": "Median, held out",
        "held_out_p90": "90 % within, held out",
    }
    shown: dict[str, Any] = {
        key: st.column_config.NumberColumn(label, format="%.1f %%") for key, label in percent.items()
    }
    shown |= {"class": st.column_config.TextColumn("Class", pinned=True), "n": st.column_config.NumberColumn("Runs")}
    shown["coverage"] = st.column_config.ProgressColumn("In interval", format="percent", min_value=0, max_value=1)
    return shown


def worst(found: Mapping[str, Any], quantity: str) -> list[dict[str, Any]]:
    """The rows that are furthest off."""
    return [dict(row) for row in found["worst"][quantity]]


def worst_columns() -> dict[str, Any]:
    """How the furthest rows are shown."""
    labels: dict[str, Any] = {
        "source": "Source",
        "model": "Model",
        "gpu": "GPU",
        "gpus": "GPUs",
        "method": "Method",
        "limited_by": "Limited by",
        "remark": "Remark of the source",
    }
    return {"id": None, "ratio": st.column_config.NumberColumn("Predicted / measured", format="%.2f"), **labels}


WORST_ORDER: Final = ("ratio", "model", "gpus", "gpu", "method", "source", "limited_by", "remark")
"""Columns of the furthest rows in their order."""


def skipped_sentence(found: Mapping[str, Any]) -> str:
    """How many rows no prediction was made for."""
    counts = found["in_sample"]
    skipped_rows, rows = units.format_integer(counts["skipped"]), units.format_integer(counts["rows"])
    return f"{skipped_rows} of {rows} runs use something that is not planned yet, or do not say enough."


def skipped(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Why rows were not predicted, the most frequent reason first."""
    reasons = found["in_sample"]["skipped_reasons"]
    return [{"Reason": reason, "Runs": count} for reason, count in sorted(reasons.items(), key=lambda item: -item[1])]


def _no_tags(text: str) -> str:
    """Plotly reads a few tags in hover texts."""
    return text.replace("&", "&amp;").replace("<", "&lt;")
