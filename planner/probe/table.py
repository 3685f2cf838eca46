"""Errors of a matrix of probes: medians over all cases, and one line a case."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from planner import units

KINDS = ("uncalibrated", "calibrated")
ERRORS = {"time_error": "step time", "memory_error": "peak memory", "reserved_error": "reserved memory", "energy_error": "energy"}


def summary(entries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """By kind of prediction: of each error, the median, mean and 95th percentile of its size and the cases; verdicts; fit hits."""
    rows = list(entries)
    found: dict[str, Any] = {"cases": len(rows), "out_of_memory": sum(row["outcome"] == "oom" for row in rows)}
    for kind in KINDS:
        compared = [row[kind]["comparison"] for row in rows if row.get(kind) and row[kind]["comparison"]]
        if not compared:
            continue
        part: dict[str, Any] = {"verdicts": dict(Counter(row["verdict"] for row in compared))}
        for name in ERRORS:
            sizes = sorted(abs(row[name]) for row in compared if row[name] is not None)
            if sizes:
                part[name] = {
                    "median": statistics.median(sizes),
                    "mean": statistics.fmean(sizes),
                    "p95": sizes[min(len(sizes) - 1, round(0.95 * (len(sizes) - 1)))],
                    "cases": len(sizes),
                }
        hits = [row["fit_hit"] for row in compared if row["fit_hit"] is not None]
        if hits:
            part["fit_hits"] = {"hit": sum(hits), "cases": len(hits)}
        found[kind] = part
    if all(kind in found and "time_error" in found[kind] for kind in KINDS):
        after = found["calibrated"]["time_error"]["median"]
        found["times_better"] = found["uncalibrated"]["time_error"]["median"] / after if after else None
    return found


def lines(document: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Heading and one row a case: measured step, the error of the plan without and with a profile, measured peak and its error, verdict."""
    made: list[tuple[str, ...]] = [("run", "step", "±", "plan", "profile", "peak", "plan", "verdict")]
    for name, row in document.get("predicted", {}).items():
        times = row["step_time_s"]
        part = {kind: (row.get(kind) or {}).get("comparison") or {} for kind in KINDS}
        last = part["calibrated"] or part["uncalibrated"]
        if times is None:
            made.append((name, "out of memory", "", "", "", "", "", _hit(last)))
            continue
        spread = (times["high"] - times["low"]) / times["median"] / 2
        made.append(
            (
                name, units.format_seconds(times["median"]), f"{spread:.0%}", _signed(part["uncalibrated"].get("time_error")),
                _signed(part["calibrated"].get("time_error")), units.format_bytes(row["allocated_bytes"]),
                _signed(last.get("memory_error"), 1), last.get("verdict", ""),
            )
        )  # fmt: skip
    return made


def words(found: Mapping[str, Any]) -> list[str]:
    """The summary in sentences."""
    made = []
    for kind in KINDS:
        part = found.get(kind)
        if part is None:
            continue
        for name in ERRORS:
            if name in part:
                e = part[name]
                sizes = f"{e['median']:.1%} in the median, {e['mean']:.1%} on average, {e['p95']:.1%} at the 95th percentile"
                made.append(f"{kind}: {ERRORS[name]} off by {sizes}, over {e['cases']} runs")
        made.append(f"{kind}: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(part["verdicts"].items())))
    if found.get("times_better"):
        made.append(f"the profile makes the median error of the step time {found['times_better']:.1f} times smaller")
    return made


def _signed(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:+.{digits}%}"


def _hit(comparison: Mapping[str, Any]) -> str:
    return {True: "as planned", False: "not as planned", None: ""}[comparison.get("fit_hit")]
