"""Does it fit: the probability behind the verdict, and how well it tells runs that ran from runs that did not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from planner.estimate.chance import chance_of_fit
from planner.evidence.predict import Prediction
from planner.evidence.score import Scored


def probability_of(prediction: Prediction) -> float | None:
    """Probability that a predicted row fits; None where the device's memory is not known."""
    p = prediction
    if not p.usable_gib or not p.reserved_gib or not p.memory_gib or not p.memory_low_gib or not p.memory_high_gib:
        return None
    return float(chance_of_fit(p.reserved_gib, p.usable_gib, p.memory_low_gib / p.memory_gib, p.memory_high_gib / p.memory_gib))


def area_under_curve(positive: Sequence[float], negative: Sequence[float]) -> float | None:
    """Probability that a run that ran has a higher score than one that did not, ties counted half (Mann-Whitney U); None without either."""
    if not positive or not negative:
        return None
    below = np.sort(np.asarray(negative))
    under = np.searchsorted(below, positive, side="left") + np.searchsorted(below, positive, side="right")
    return float(under.sum() / 2 / len(positive) / len(negative))


def verdicts(scored: Sequence[Scored]) -> dict[str, Any]:
    """Counts of what was said about runs that ran and runs that ran out of memory, the AUC of the probability, and the share of false "fits".

    Keys: ran, out_of_memory (each: rows, fits, too_close, does_not_fit), auc, false_fits (share of the runs out of memory that are said to
    fit), and auc_by_source and counts by source where a source has both outcomes.
    """
    judged = [s for s in scored if s.prediction.skipped is None and s.row.outcome is not None and probability_of(s.prediction) is not None]
    sources: dict[str, list[Scored]] = {}
    for s in judged:
        sources.setdefault(s.row.source_group, []).append(s)
    both = {name: _summary(members) for name, members in sorted(sources.items()) if len({s.row.outcome == "oom" for s in members}) == 2}
    return _summary(judged) | {"by_source": both}


def _summary(judged: Sequence[Scored]) -> dict[str, Any]:
    ran = [s for s in judged if s.row.outcome != "oom"]
    failed = [s for s in judged if s.row.outcome == "oom"]
    scores = [[p for s in members if (p := probability_of(s.prediction)) is not None] for members in (ran, failed)]
    return {
        "ran": _counts(ran),
        "out_of_memory": _counts(failed),
        "auc": area_under_curve(*scores),
        "false_fits": sum(s.prediction.fits is True for s in failed) / len(failed) if failed else None,
    }


def _counts(members: Sequence[Scored]) -> dict[str, int]:
    said = [s.prediction.fits for s in members]
    return {"rows": len(said), "fits": said.count(True), "too_close": said.count(None), "does_not_fit": said.count(False)}
