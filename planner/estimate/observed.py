"""This very run, measured: what then stands in place of the sum of its kernels."""

from __future__ import annotations

from dataclasses import dataclass

from planner.estimate.time import StepTime


@dataclass(frozen=True)
class Observed:
    """Steps of one run on one device. seconds: median · low, high: the 90 % interval of a step [s] · source: where and when, in words.

    exact: of this very run; else its plan, corrected by what runs like it took.
    """

    seconds: float
    low: float
    high: float
    source: str
    exact: bool = True

    def note(self, planned: str) -> str:
        """What the interval stands on. planned: what that of the plan does."""
        return f"this very run, {self.source}" if self.exact else f"{planned}, {self.source}"


def scale(timing: StepTime, seen: Observed) -> str:
    """Bring every part of a step to what was measured, all by one factor, so that the ledger still sums; returns the sentence that says so."""
    factor = seen.seconds / timing.total
    for ledger in (timing.seconds, timing.collectives, timing.spans, timing.ends, timing.late):
        for key in ledger:
            ledger[key] *= factor  # type: ignore[index]
    what = "what was measured" if seen.exact else "what runs like it took"
    return f"Every part of the step is the planned one times {factor:.3f}, so that they sum to {what} ({seen.source})"
