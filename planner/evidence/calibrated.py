"""How calibrated plans missed: 90 % ranges from proofs (`planner prove --profile`), for estimates whose basis is a calibration.

    python -m planner.evidence.calibrated PROOF.json [MORE.json]

A proof's steps were seen neither by the calibration nor by the curves, so every row counts. The quantiles of log(measured / planned) are
stretched until intervals made without a family of models hold 90 % of that family's rows, and the shares before and after are said.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from planner.estimate.uncertainty import CALIBRATED
from planner.evidence.intervals import _STRETCHES
from planner.evidence.score import NOMINAL

KINDS: Final = {"cpu": "processor", "cuda": "GPU"}


def residuals(proof: Mapping[str, Any]) -> list[tuple[str, float]]:
    """(family, log of measured over planned step time) of every run that was measured and planned from the profile."""
    found = []
    for name, entry in proof["predicted"].items():
        planned = (entry.get("calibrated") or {}).get("predicted") or {}
        if entry["step_time_s"] and planned.get("step_time_s"):
            found.append((name.split()[0], float(np.log(entry["step_time_s"]["median"] / planned["step_time_s"]))))
    return found


def range_of(values: Sequence[float], stretch: float) -> tuple[float, float]:
    """5 % and 95 % quantile, their distances from the median stretched."""
    tail = (1 - NOMINAL) / 2
    low, middle, high = (float(q) for q in np.quantile(values, (tail, 0.5, 1 - tail)))
    return middle - stretch * (middle - low), middle + stretch * (high - middle)


def coverage(members: Sequence[tuple[str, float]], stretch: float) -> float:
    """Share of rows inside the range that the other families make."""
    inside = []
    for family in sorted({f for f, _ in members}):
        low, high = range_of([v for f, v in members if f != family], stretch)
        inside += [low <= v <= high for f, v in members if f == family]
    return sum(inside) / len(inside)


def table(*proofs: Mapping[str, Any]) -> dict[str, Any]:
    """One class for ``calibrated.json``: ratios measured / planned. Several proofs of one device: at other hours, against the same profile."""
    proof = proofs[-1]
    members = [member for one in proofs for member in residuals(one)]
    entries = [entry for one in proofs for entry in one["predicted"].values()]
    compared = [{kind: (entry.get(kind) or {}).get("comparison") or {} for kind in ("uncalibrated", "calibrated")} for entry in entries]
    without = [abs(c["uncalibrated"]["time_error"]) for c in compared if c["uncalibrated"].get("time_error") is not None]
    memory = [abs(c["calibrated"]["memory_error"]) for c in compared if c["calibrated"].get("memory_error") is not None]
    stretch = min((float(s) for s in _STRETCHES), key=lambda s: (abs(coverage(members, s) - NOMINAL), s))
    values = [v for _, v in members]
    low, high = range_of(values, stretch)
    return {
        "low": round(float(np.exp(low)), 4),
        "high": round(float(np.exp(high)), 4),
        "n": len(members),
        "median": round(float(np.median(np.abs(np.exp(-np.array(values)) - 1))), 4),
        "uncalibrated_median": round(float(np.median(without)), 4) if without else None,
        "memory_most": round(max(memory), 4) if memory else None,
        "stretch": round(stretch, 4),
        "coverage_unstretched": round(coverage(members, 1.0), 4),
        "held_out_coverage": round(coverage(members, stretch), 4),
        "device": proof["device"],
        "torch": proof["versions"].get("torch"),
        "measured": proof["started"][:10],
    }


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def section() -> list[str]:
    """What proofs say about plans from a measured device, and what no proof has said yet, for the document of accuracy."""
    known: dict[str, Any] = json.loads(CALIBRATED.read_text(encoding="utf-8")) if CALIBRATED.exists() else {}
    lines = [
        "## Plans from a measured device",
        "",
        "Training steps that no calibration saw (`planner prove`, docs/probe.md), planned from the profile that `planner calibrate` made of their device.",
        "",
        "| device | steps | median | median without the profile | peak memory, worst | 90 % interval, measured over planned | held out in interval |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in known.values():
        without, memory = (("–" if row.get(key) is None else _percent(row[key])) for key in ("uncalibrated_median", "memory_most"))
        lines.append(
            f"| {row['device']}, torch {row['torch']}, {row['measured']} | {row['n']} | {_percent(row['median'])} | {without} | {memory} | "
            f"{row['low']:.2f} to {row['high']:.2f} | {_percent(row['held_out_coverage'])} |"
        )
    missing = [kind for kind in KINDS.values() if kind not in known]
    if "GPU" in missing:
        lines += ["", "Not measured yet: any GPU. No calibration of one, no step, no energy; the targets for it (3 % of the step time) are untested."]
    return [*lines, ""]


def main(arguments: Sequence[str]) -> int:
    """Add the classes of proofs to the shipped table."""
    known: dict[str, Any] = json.loads(CALIBRATED.read_text(encoding="utf-8")) if CALIBRATED.exists() else {}
    proofs: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in arguments:
        proof = json.loads(Path(path).read_text(encoding="utf-8"))
        proofs[KINDS[proof["kind"]]].append(proof)
    for kind, found in proofs.items():
        known[kind] = table(*found)
    CALIBRATED.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(known, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
