"""`python -m planner validate ROWS.csv`: predict a table of measured runs and say how far off the predictions are."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from planner.errors import PlanError
from planner.evidence.predict import Predictor
from planner.evidence.rows import Row, rows
from planner.evidence.score import Scored, score, summarise

PREDICTED: Final = {
    "predicted_step_time_s": "step_time_s",
    "predicted_tokens_per_s_gpu": "tokens_per_s_gpu",
    "predicted_allocated_gib": "allocated_gib",
    "predicted_reserved_gib": "reserved_gib",
    "predicted_fits": "fits",
    "tokens_low": "tokens_low",
    "tokens_high": "tokens_high",
    "memory_low_gib": "memory_low_gib",
    "memory_high_gib": "memory_high_gib",
    "basis": "basis",
    "skipped": "skipped",
}
"""Columns that are written beside a row, and the field of `Prediction` that each shows."""


def score_rows(table: Sequence[Row], predictor: Predictor | None = None) -> list[Scored]:
    """Every row beside its prediction, in the order of the table."""
    predictor = predictor or Predictor()
    return [score(row, predictor.predict(row)) for row in table]


def main_validate(
    rows_path: str | Path, profile: str | Path | None = None, out: str | Path | None = None
) -> dict[str, Any]:
    """Predict each row of a table and compare.

    Arguments
    ---------
    rows_path: CSV with the columns of ``planner/evidence/data/SOURCES.md``.
    profile: a device profile to use for the rows of its device.
    out: where to write the rows back with the columns of `PREDICTED`.

    Returns
    -------
    The summary of `planner.evidence.score.summarise`, with `rows_path` and, where given, `profile` and `out`.

    Errors
    ------
    PlanError: no readable CSV, no readable profile, or `out` cannot be written.
    """
    table = rows(rows_path)
    loaded = None
    if profile is not None:
        from planner.device.profile import load_profile

        loaded = load_profile(profile)
    scored = score_rows(table, Predictor(loaded))
    if out is not None:
        write_rows(scored, Path(out))
    summary = summarise(scored) | {"rows_path": str(rows_path)}
    return summary | {name: str(value) for name, value in (("profile", profile), ("out", out)) if value is not None}


def write_rows(scored: Sequence[Scored], out: Path) -> None:
    """Write the rows as they were read, each with its prediction. Raises `PlanError` when the file cannot be written."""
    header = [name for name in scored[0].row.raw if name not in PREDICTED] if scored else []
    try:
        with out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [*header, *PREDICTED], lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            for s in scored:
                writer.writerow(
                    s.row.raw | {column: _text(getattr(s.prediction, name)) for column, name in PREDICTED.items()}
                )
    except OSError as error:
        raise PlanError(
            "out", out, f"cannot be written ({type(error).__name__})", "Give a path in a folder that exists."
        ) from None


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def format_summary(summary: dict[str, Any]) -> str:
    """The summary as text for a terminal: one table per quantity, then verdicts and what was skipped."""
    lines = [f"{summary['rows']} rows, {summary['predicted']} predicted, {summary['skipped']} skipped"]
    for name, title in (("tokens", "Tokens per second and accelerator"), ("memory", "Peak memory")):
        quantity = summary[name]
        if quantity["all"] is None:
            lines += ["", f"{title}: no row to compare"]
            continue
        lines += [
            "",
            f"{title}: error |predicted - measured| / measured",
            _line("", "rows", "median", "90 %", "bias", "in interval"),
        ]
        lines.append(_entry("all", quantity["all"]))
        for grouping in ("source", "method", "device", "stack", "scale"):
            lines.append(f"  by {grouping}")
            lines += [_entry(f"    {label}", entry) for label, entry in quantity[f"by_{grouping}"].items()]
    if summary["step_time"]:
        lines += [
            "",
            f"Step time: {summary['step_time']['n']} rows, median {summary['step_time']['median']:.1%}, 90 % {summary['step_time']['p90']:.1%}",
        ]
    fit = summary["fit"]
    verdicts = f"{fit['ran_hits']} of {fit['ran']} that ran are said to fit; {fit['out_of_memory_hits']} of {fit['out_of_memory']} that did not are said not to"
    lines += ["", f"Fit: {verdicts}"]
    if summary["skipped_reasons"]:
        lines += ["", "Skipped"]
        lines += [f"  {count:5d}  {reason}" for reason, count in summary["skipped_reasons"].items()]
    return "\n".join(lines)


def _line(label: str, *cells: str) -> str:
    return f"{label:<34.34}" + "".join(f"{cell:>12}" for cell in cells)


def _entry(label: str, entry: dict[str, Any]) -> str:
    coverage = "" if entry["coverage"] is None else f"{entry['coverage']:.0%}"
    return _line(
        label, str(entry["n"]), f"{entry['median']:.1%}", f"{entry['p90']:.1%}", f"{entry['bias']:+.1%}", coverage
    )
