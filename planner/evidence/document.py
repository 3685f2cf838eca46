"""docs/accuracy.md from the record of accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from planner.evidence import calibrated, targets

TITLES: Final = {
    "source": "By source",
    "device": "By accelerator",
    "method": "By method",
    "stack": "By training stack",
    "scale": "By scale",
}
_QUANTITIES: Final = {"tokens": "Tokens per second and accelerator", "memory": "Peak memory"}
_MEMORY_NOTE: Final = (
    "*Held out* means here that no row of the same source, model, accelerator and method took part in fitting what the allocator holds beyond live tensors "
    "(slack by stack, fragmentation; `python -m planner.evidence.fit_memory`). Which model code and software keeps which copy was read off some of "
    "these rows and is in sample in both columns: expect rows of new sources to be predicted worse."
)
_LEAST: Final = 3
"""Classes with fewer rows stand in the CSV only: a percentile of two is none."""


def render(record: Mapping[str, Any]) -> str:
    """The document. Everything in it comes from the record; it changes only when the record does."""
    seen, unseen = record["in_sample"], record["held_out"]
    lines = [
        "# Accuracy",
        "",
        f"Every published run in `planner/evidence/data/measurements.csv`, predicted from its configuration alone and compared. "
        f"{seen['rows']} rows, {seen['predicted']} predicted, {seen['skipped']} not yet covered. Generated {record['generated']} by "
        f"`python -m planner.evidence.report`; the same figures for your own table: `python -m planner validate ROWS.csv`.",
        "",
        "Error is |predicted − measured| / measured; bias is the median of predicted / measured − 1. *Held out* means that no row of the same source, "
        "model, accelerator and method took part in fitting what the prediction uses: five folds, whole groups together. *In interval* is the share of "
        "held-out rows inside the 90 % interval. Utilisation that a source measured is never an input.",
        "",
        *_left_out(record["contradicting"]),
    ]
    for name, title in _QUANTITIES.items():
        lines += _section(title, seen[name], unseen[name], record["quality_a"][name])
        if name == "tokens" and unseen[name]["all"] is not None:
            lines += targets.section(unseen[name]["by_source"])
    lines += _verdicts(record["verdicts"])
    lines += calibrated.section()
    if record["constants"]:
        lines += _constants(record["constants"])
    lines += _worst(record["worst"])
    lines += _skipped(seen["skipped_reasons"])
    return "\n".join(lines).rstrip() + "\n"


def _left_out(contradicting: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "Some measured figures are known to belong to another configuration than their row's columns say. They count in all errors below, but make "
        "no interval:",
        "",
    ]
    lines += [
        f"- {line['source']}, {line['quantity']}, {line['rows']} rows: {line['reason']}." for line in contradicting
    ]
    return [*lines, ""]


def _section(title: str, seen: Mapping[str, Any], unseen: Mapping[str, Any], told: Mapping[str, Any]) -> list[str]:
    if seen["all"] is None:
        return [f"## {title}", "", "No row to compare.", ""]
    note = [_MEMORY_NOTE, ""] if title == _QUANTITIES["memory"] else []
    lines = [f"## {title}", "", *note, *_head("all"), _entry("all rows", seen["all"], unseen["all"])]
    if told["all"] is not None:
        lines.append(_entry("rows whose source tells everything (quality A)", told["all"], told["all"]))
    lines.append("")
    for grouping, heading in TITLES.items():
        classes = seen[f"by_{grouping}"]
        lines += [f"### {heading}", "", *_head(grouping)]
        lines += [
            _entry(name, entry, unseen[f"by_{grouping}"].get(name))
            for name, entry in classes.items()
            if entry["n"] >= _LEAST
        ]
        lines.append("")
    return lines


def _head(grouping: str) -> list[str]:
    return [
        f"| {grouping} | rows | median | 90 % | bias | median held out | 90 % held out | in interval |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]


def _entry(name: str, entry: Mapping[str, Any], held_out: Mapping[str, Any] | None) -> str:
    held_out = held_out or {}
    cells = [str(entry["n"]), *(_percent(entry[key]) for key in ("median", "p90"))]
    cells += [
        _percent(entry["bias"], signed=True),
        *(_percent(held_out.get(key)) for key in ("median", "p90", "coverage")),
    ]
    return f"| {name} | {' | '.join(cells)} |"


def _percent(value: float | None, signed: bool = False) -> str:
    if value is None:
        return "–"
    return f"{100 * value:+.1f} %" if signed else f"{100 * value:.1f} %"


def _verdicts(said: Mapping[str, Any]) -> list[str]:
    """What was said about runs that ran and runs that did not."""
    lines = [
        "## Does it fit?",
        "",
        "A run is said to fit when the whole 90 % interval of its peak lies below the usable memory, and not to fit when the peak lies above; between, "
        "it is too close to call. The probability that it fits follows from the same interval; the area under its curve (AUC) is the chance that a run "
        "that ran has a higher one than a run that ran out of memory.",
        "",
        f"AUC {_three(said['auc'])} (0.97 is wanted); {_percent(said['false_fits'])} of the runs that ran out of memory are said to fit (at most 1 % is "
        "wanted).",
        "",
        "| source | ran | said to fit | too close | said not to | ran out of memory | said to fit | too close | said not to | AUC |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        _verdict_line("all rows", said),
    ]
    return [*lines, *(_verdict_line(name, entry) for name, entry in said["by_source"].items()), ""]


def _verdict_line(name: str, said: Mapping[str, Any]) -> str:
    counts = [str(said[key][part]) for key in ("ran", "out_of_memory") for part in ("rows", "fits", "too_close", "does_not_fit")]
    return f"| {name} | {' | '.join(counts)} | {_three(said['auc'])} |"


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _constants(constants: Mapping[str, Any]) -> list[str]:
    lines = [
        "## Fitted constants",
        "",
        "| constant | value | prior | between folds | prior from |",
        "|---|--:|--:|--:|---|",
    ]
    for name, entry in sorted(constants.items()):
        figures = f"{entry['value']:.3g} | {entry['prior']:.3g} | {entry['low']:.3g} to {entry['high']:.3g}"
        lines.append(f"| {name} | {figures} | {entry['from']} |")
    return [*lines, ""]


def _worst(worst: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    lines = [
        "## Worst rows",
        "",
        "The furthest off, one of each source and model. Ratio is predicted over measured.",
        "",
    ]
    for name, title in _QUANTITIES.items():
        lines += [
            f"### {title}",
            "",
            "| row | model | accelerators | method | ratio | limited by | reason, or remark of the source |",
            "|---|---|---|---|--:|---|---|",
        ]
        for row in worst[name]:
            cells = (
                row["id"],
                row["model"],
                f"{row['gpus']} × {row['gpu']}",
                row["method"],
                f"{row['ratio']:.2f}",
                row["limited_by"],
                row["reason"],
            )
            lines.append(
                "| " + " | ".join("" if cell is None else str(cell).replace("|", "/") for cell in cells) + " |"
            )
        lines.append("")
    return lines


def _skipped(reasons: Mapping[str, int]) -> list[str]:
    lines = ["## Not predicted", "", "| rows | reason |", "|--:|---|"]
    short: dict[str, int] = {}
    for reason, count in reasons.items():  # what to write instead is for the command line
        first = reason.split(". ")[0].removesuffix(".")
        short[first] = short.get(first, 0) + count
    ordered = sorted(short.items(), key=lambda item: (-item[1], item[0]))
    lines += [f"| {count} | {reason.replace('|', '/')} |" for reason, count in ordered]
    return [*lines, ""]
