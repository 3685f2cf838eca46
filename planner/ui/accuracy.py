"""The record of accuracy as the page shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import streamlit as st

from planner import units
from planner.evidence import accuracy as record
from planner.ui import accuracy_rows as rows
from planner.ui.language import _

QUANTITIES: Final = {"tokens": "Throughput", "memory": "Peak memory"}
_UNITS: Final = {"tokens": "tokens/s per GPU", "memory": "GiB"}
_JUDGED: Final = {
    "tokens": "Figures are held out: nothing that a prediction uses was fitted to rows of the same source, model, accelerator and method.",
    "memory": "Figures are held out: what the allocator holds beyond live tensors was fitted without rows of the same source, model, accelerator and method.",
}
CHART_HELP: Final = "One dot a published run, predicted from its configuration alone. Hover for the run and where it was published."
TABLE_NOTE: Final = (
    "Error is |predicted − measured| / measured. Held out: no row of the same source, model, accelerator and method took part in the fit. "
    "In interval: share of held-out rows inside the 90 % interval."
)


def choose(label: str, key: str, choices: dict[str, str]) -> str:
    """One of a few choices, kept for the session; the first when nothing was chosen."""
    default = next(iter(choices))
    return st.segmented_control(
        _(label),
        list(choices),
        default=default,
        required=True,
        key=key,
        format_func=lambda name: _(choices[name]),
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


def filters(quantity: str) -> dict[str, list[str]]:
    """What the runs on the page are limited to; nothing chosen means all."""
    found: dict[str, list[str]] = {}
    with (
        st.expander(_("Choose runs"), icon=":material/filter_list:", key="accuracy_filters"),
        st.grid(len(rows.FILTERS), min_column_width=130),
    ):
        for column, text in rows.FILTERS.items():
            values = rows.options(quantity, column)
            key = f"accuracy_{column}"
            kept = st.session_state.get(key)
            if kept and not set(kept) <= set(values):  # the other quantity has other sources
                st.session_state[key] = [value for value in kept if value in values]
            found[column] = st.multiselect(
                _(text),
                values,
                key=key,
                placeholder=_("All"),
                format_func=partial(_labelled, column),
                persist_state="session",
            )
    return found


def _labelled(column: str, value: str) -> str:
    return _(rows.label(column, value))


def view(found: Mapping[str, Any], quantity: str, members: rows.Rows) -> View:
    """What the chosen rows say about a quantity in a few figures."""
    counts, said = found["in_sample"], found["verdicts"]
    everything = len(rows.compared(rows.all_rows(), quantity))
    what = "tokens per second" if quantity == "tokens" else "peak memory"
    figures: tuple[tuple[str, str, str], ...] = ()
    title = "No published run is left"
    if members:
        error = rows.errors(members, quantity)
        title = f"Half of the predictions are within {_share(error['held_out_median'])} of the measurement"
        few = "few runs" if len(members) < 30 else "90 % is wanted"
        figures = (
            ("Median error", _share(error["held_out_median"]), f"{units.format_integer(len(members))} runs"),
            ("90 % are within", _share(error["held_out_p90"]), f"bias {error['held_out_bias']:+.1f} %"),
            ("In the 90 % interval", "–" if error["coverage"] is None else units.format_percent(error["coverage"], 2), few),
            (
                "False “fits”",
                "–" if said["false_fits"] is None else units.format_percent(said["false_fits"], 2),
                f"of {units.format_integer(said['out_of_memory']['rows'])} that ran out; AUC {said['auc']:.3f}",
            ),
        )
    part = "" if len(members) == everything else f" These are {units.format_integer(len(members))} of them."
    explanation = (
        f"{units.format_integer(counts['rows'])} published runs are in the record, {units.format_integer(counts['predicted'])} are predicted "
        f"from their configuration alone; {units.format_integer(everything)} of them report {what}.{part} {_JUDGED[quantity]} Generated {found['generated']}."
    )
    return View(title, explanation, _UNITS[quantity], figures)


def _share(percent: float) -> str:
    return units.format_percent(percent / 100, 2)


def columns() -> dict[str, Any]:
    """How the table of errors is shown."""
    percent = {
        "held_out_median": "Median error",
        "held_out_p90": "90 % within",
        "held_out_bias": "Bias",
        "median": "Median, in sample",
        "p90": "90 % within, in sample",
    }
    shown: dict[str, Any] = {
        key: st.column_config.NumberColumn(_(label), format="%.1f %%") for key, label in percent.items()
    }
    shown |= {"class": st.column_config.TextColumn(_("Class"), pinned=True), "n": st.column_config.NumberColumn(_("Runs"))}
    shown["bias"] = None
    shown["coverage"] = st.column_config.ProgressColumn(_("In interval"), format="percent", min_value=0, max_value=1)
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
    return {"id": None, "ratio": st.column_config.NumberColumn(_("Predicted / measured"), format="%.2f"), **{key: _(label) for key, label in labels.items()}}


TABLE_ORDER: Final = ("class", "n", "held_out_median", "held_out_p90", "held_out_bias", "coverage", "median", "p90")
"""Columns of the table of errors in their order."""
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
    return [{_("Reason"): _(reason), _("Runs"): count} for reason, count in sorted(reasons.items(), key=lambda item: -item[1])]
