"""This very run, measured: what then stands in place of the sum of its kernels."""

from __future__ import annotations

from dataclasses import dataclass

from planner.estimate.time import StepTime


@dataclass(frozen=True)
class Observed:
    """Steps of one run on one device. seconds: median · low, high: the 90 % interval of a step [s] · source: where and when, in words."""

    seconds: float
    low: float
    high: float
    source: str


def scale(timing: StepTime, seen: Observed) -> str:
    """Bring every part of a step to what was measured, all by one factor, so that the ledger still sums; returns the sentence that says so."""
    factor = seen.seconds / timing.total
    for ledger in (timing.seconds, timing.collectives, timing.spans, timing.ends, timing.late):
        for key in ledger:
            ledger[key] *= factor  # type: ignore[index]
    return f"Every part of the step is the planned one times {factor:.3f}, so that they sum to what was measured ({seen.source})"
