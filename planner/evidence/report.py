"""`python -m planner.evidence.report`: estimate every shipped row, write the record of accuracy and docs/accuracy.md.

With ``--render`` only the document is written again from the record.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from planner.estimate import constants as engine_constants
from planner.estimate.uncertainty import KINDS, Kind
from planner.evidence import fit, intervals
from planner.evidence.accuracy import ACCURACY, NUMBERS, SCORED, measurements_digest
from planner.evidence.document import render
from planner.evidence.fit_memory import SHARES, fold_shares
from planner.evidence.folds import FOLDS, fold_of
from planner.evidence.gate import BASELINE, baseline
from planner.evidence.quirks import QUIRKS, Quantity, reason_of
from planner.evidence.rows import rows
from planner.evidence.score import Scored, measured_tokens, summarise
from planner.evidence.validate import score_rows
from planner.evidence.verdicts import verdicts

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "accuracy.md"
WORST: Final = 10
_PREDICTED: Final = (
    "stack", "basis", "limited_by", "skipped", "step_time_s", "tokens_per_s_gpu", "tokens_low", "tokens_high",
    "memory_gib", "memory_low_gib", "memory_high_gib", "allocated_gib", "reserved_gib",
)  # fmt: skip
_COLUMNS: Final = (
    "id",
    "source_group",
    "model",
    "gpu",
    "method",
    "stack",
    "basis",
    "quality",
    "limited_by",
    "skipped",
    *NUMBERS,
)


def record(
    scored: Sequence[Scored], held_out: Sequence[Scored] | None = None, constants: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The record of accuracy.

    Arguments
    ---------
    scored: every row, predicted with the shipped constants.
    held_out: every row, predicted with constants fitted without its group's fold and `judged`; `scored` where no constant was fitted.
    constants: what was fitted, for the document.
    """
    unseen = held_out or judged(scored)
    return {
        "generated": datetime.now(UTC).date().isoformat(),
        "measurements_sha256": measurements_digest(),
        "in_sample": _rounded(summarise(scored)),
        "held_out": _rounded(summarise(unseen)),
        "verdicts": _rounded(verdicts(unseen)),
        "quality_a": _rounded(
            {name: summarise([s for s in unseen if s.row.quality == "A"])[name] for name in ("tokens", "memory")}
        ),
        "constants": dict(constants or {}),
        "contradicting": _contradicting(scored),
        "worst": {"tokens": _worst(scored, "tokens"), "memory": _worst(scored, "memory")},
    }


def judged(held_out: Sequence[Scored]) -> list[Scored]:
    """Held-out rows, each with its coverage by intervals that the other folds make."""
    return [covered_by_other_folds(s, ranges) for s, ranges in _with_ranges(held_out)]


def covered_by_other_folds(scored: Scored, ranges: Mapping[Kind, tuple[float, float] | None]) -> Scored:
    """The row with its coverage judged by intervals that rows of its own fold did not make."""
    changed = scored
    if scored.tokens_ratio is not None and (span := ranges["time"]) is not None:
        changed = replace(changed, tokens_covered=span[0] <= float(np.log(scored.tokens_ratio)) <= span[1])
    if scored.memory_ratio is not None and (span := ranges["memory"]) is not None:
        changed = replace(changed, memory_covered=span[0] <= -float(np.log(scored.memory_ratio)) <= span[1])
    return changed


def _with_ranges(scored: Sequence[Scored]) -> list[tuple[Scored, dict[Kind, tuple[float, float] | None]]]:
    """Every row with the log ranges that the other folds make for it."""
    by_kind: dict[Kind, list[dict[str, tuple[float, float, int, float]]]] = {}
    for kind in KINDS:
        members = intervals.residuals(scored, kind)
        at = intervals.stretches(members)
        by_kind[kind] = [intervals.all_ranges([r for r in members if r.fold != fold], at) for fold in range(FOLDS)]
    found = []
    for s in scored:
        spans = {
            kind: intervals.choose(folds[fold_of(s.row)], intervals.classes_of(s, kind))
            for kind, folds in by_kind.items()
        }
        found.append((s, spans))
    return found


def fitted_constants() -> dict[str, dict[str, Any]]:
    """Value in use, prior and range between folds of every fitted constant."""
    table, folds = engine_constants._table(), [a | b for a, b in zip(fit.fold_values(), fold_shares(), strict=True)]
    found: dict[str, dict[str, Any]] = {
        path: {"value": fit.value_of(table, prior), "prior": prior.median, "from": prior.source} for path, prior in fit.PRIORS.items()
    }
    found |= {path: {"value": share.value_of(table), "prior": share.prior, "from": share.source} for path, share in SHARES.items()}
    for path, entry in found.items():
        values = [fold[path] for fold in folds]
        entry |= {"low": min(values), "high": max(values)}
    return found


def _contradicting(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """How many compared rows each fact about a source takes out of the intervals."""
    found = []
    for quirk in QUIRKS:
        rows_of = [
            s
            for s in scored
            if s.row.source_group == quirk.source
            and quirk.concerns(s.row)
            and (s.tokens_ratio if quirk.quantity == "tokens" else s.memory_ratio) is not None
        ]
        if quirk.contradicts and rows_of:
            found.append(
                {"source": quirk.source, "quantity": quirk.quantity, "rows": len(rows_of), "reason": quirk.reason}
            )
    return found


def _worst(scored: Sequence[Scored], quantity: Quantity) -> list[dict[str, Any]]:
    """The rows that are furthest off, one of each source and model."""
    found: list[dict[str, Any]] = []
    seen: set[tuple[str, str | None]] = set()
    ranked = [
        (abs(float(np.log(r))), s, r)
        for s in scored
        if (r := s.tokens_ratio if quantity == "tokens" else s.memory_ratio) is not None
    ]
    for _, s, ratio in sorted(ranked, key=lambda item: (-item[0], item[1].row.id)):
        key = (s.row.source_group, s.row.model)
        if key in seen:
            continue
        seen.add(key)
        row = s.row
        found.append(
            {
                "id": row.id, "source": row.source_group, "model": row.model, "gpu": row.gpu, "gpus": row.gpus, "method": row.method,
                "ratio": round(ratio, 3), "limited_by": s.prediction.limited_by, "reason": reason_of(row, quantity) or row.quality_reason,
            }
        )  # fmt: skip
        if len(found) == WORST:
            break
    return found


def write_scored(scored: Sequence[Scored], held_out: Sequence[Scored] | None, path: Path = SCORED) -> None:
    """Write every row's prediction beside its measurement, for pages."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        for s, unseen in zip(scored, held_out or scored, strict=True):
            writer.writerow({name: _cell(value) for name, value in _line(s, unseen).items()})


def _line(s: Scored, unseen: Scored) -> dict[str, Any]:
    row, p = s.row, s.prediction
    return {
        **{name: getattr(row, name) for name in ("id", "source_group", "model", "gpu", "method", "quality", "gpus")},
        **{name: getattr(p, name) for name in _PREDICTED},
        "measured_tokens_per_s_gpu": measured_tokens(row) if "time" in row.target_set else None,
        "measured_memory_gib": row.peak_mem_gib if "memory" in row.target_set else None,
        "tokens_ratio": s.tokens_ratio,
        "memory_ratio": s.memory_ratio,
        "held_out_tokens_ratio": unseen.tokens_ratio,
        "held_out_memory_ratio": unseen.memory_ratio,
        "tokens_in_interval": None if unseen.tokens_covered is None else int(unseen.tokens_covered),
        "memory_in_interval": None if unseen.memory_covered is None else int(unseen.memory_covered),
    }


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def main(arguments: Sequence[str]) -> int:
    """Write the record and the document; with ``--render`` the document only."""
    if "--render" not in arguments:
        table = rows()
        scored, unseen = score_rows(table), judged(fit.held_out(table, fit.fold_values()))
        ACCURACY.write_text(
            json.dumps(record(scored, unseen, fitted_constants()), indent=1, sort_keys=True) + "\n", encoding="utf-8"
        )
        write_scored(scored, unseen)
        BASELINE.write_text(json.dumps(baseline(unseen), indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    DOCUMENT.write_text(render(json.loads(ACCURACY.read_text(encoding="utf-8"))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
