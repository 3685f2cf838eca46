"""Does it fit: the probability behind the verdict, and how well it tells runs that ran from runs that did not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from planner.evidence.predict import Prediction
from planner.evidence.score import NOMINAL, Scored

_Z: Final = NormalDist().inv_cdf((1 + NOMINAL) / 2)


def fit_probability(reserved: float, usable: float, low_ratio: float, high_ratio: float) -> float:
    """Probability that the peak stays within the usable memory.

    measured / predicted is log-normal with its 5 % and 95 % quantiles at the ends of the 90 % interval:
    P = Φ((ln(usable / reserved) − μ) / σ), μ = (ln high + ln low) / 2, σ = (ln high − ln low) / (2 · 1.645).

    Arguments
    ---------
    reserved: predicted peak of what the allocator holds [bytes]. usable: memory that the process may take [bytes].
    low_ratio, high_ratio: ends of the 90 % interval of measured / predicted [1].
    """
    low, high = math.log(low_ratio), math.log(high_ratio)
    spread = max((high - low) / (2 * _Z), 1e-6)
    return NormalDist((high + low) / 2, spread).cdf(math.log(usable / reserved))


def probability_of(prediction: Prediction) -> float | None:
    """The same for a predicted row; None where the device's memory is not known."""
    p = prediction
    if not p.usable_gib or not p.reserved_gib or not p.memory_gib or not p.memory_low_gib or not p.memory_high_gib:
        return None
    return fit_probability(p.reserved_gib, p.usable_gib, p.memory_low_gib / p.memory_gib, p.memory_high_gib / p.memory_gib)


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
