"""A trial set beside what was measured: whether it explains the difference, of time and of memory together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from planner.estimate.result import Estimate
from planner.logs.trials import Trial

Status = Literal["explains", "in part", "does not", "seen"]
CLOSE: Final = 0.06
"""What a plan may be off by and still be what ran, as ln(measured / planned)."""
REST: Final = 0.35
"""Or the share of the difference that may be left."""
PART: Final = 0.75
NOTICED: Final = 0.05
"""Differences of time or memory from here on ask for an explanation."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What is compared [s, bytes]. step: without what is explained already · peak: allocated or reserved, whichever the log says."""

    step: float | None
    peak: float | None
    reserved: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """A trial with what it says [s, bytes]. distance: sum of |ln(measured / what it says)| of time and memory."""

    trial: Trial
    status: Status
    step: float | None
    peak: float
    distance: float


def peak_of(plan: Estimate, reserved: bool) -> float:
    """The planned peak that a log's is compared with [bytes]."""
    return plan.peak_reserved_bytes if reserved else plan.peak_memory_bytes


def left(measured: Measured, plan: Estimate) -> tuple[float | None, float | None]:
    """ln(measured / planned) of time and memory, None where one of the two is not known."""
    return _log(measured.step, plan.step_time_s), _log(measured.peak, peak_of(plan, measured.reserved))


def differs(measured: Measured, plan: Estimate) -> bool:
    """Whether a difference asks for an explanation."""
    return any(one is not None and abs(one) > NOTICED for one in left(measured, plan))


def _log(measured: float | None, planned: float | None) -> float | None:
    return math.log(measured / planned) if measured and planned and measured > 0 and planned > 0 else None


def judge(trial: Trial, plan: Estimate, changed: Estimate, measured: Measured) -> Judged:
    """How much of the differences between plan and measurement a trial takes away.

    explains: what is left of each difference that was noticed is small, and none has grown. in part: at least a quarter of one is gone and
    none has grown. Both witnesses must agree: eager attention that would explain the time, and would have taken memory that was not taken, does not.
    """
    before, after = left(measured, plan), left(measured, changed)
    pairs = [(abs(b), abs(a)) for b, a in zip(before, after, strict=True) if b is not None and a is not None]
    noticed = [(b, a) for b, a in pairs if b > NOTICED]
    status: Status = "does not"
    if noticed and all(a <= max(CLOSE, b + 0.02) for b, a in pairs):
        if all(a <= max(CLOSE, REST * b) for b, a in noticed):
            status = "explains"
        elif any(a <= PART * b for b, a in noticed):
            status = "in part"
    return Judged(trial, status, changed.step_time_s, peak_of(changed, measured.reserved), sum(a for _, a in pairs))
