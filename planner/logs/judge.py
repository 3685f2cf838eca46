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
    """A trial with its estimate. left: ln(measured / what it says) of time and memory, None where not measured."""

    trial: Trial
    status: Status
    step: float | None
    peak: float
    left_time: float | None
    left_memory: float | None
    distance: float


def peak_of(plan: Estimate, reserved: bool) -> float:
    """The planned peak that a log's is compared with [bytes]."""
    return plan.peak_reserved_bytes if reserved else plan.peak_memory_bytes


def left(measured: float | None, planned: float | None) -> float | None:
    """ln(measured / planned)."""
    return math.log(measured / planned) if measured and planned and measured > 0 and planned > 0 else None


def judge(trial: Trial, plan: Estimate, changed: Estimate, measured: Measured) -> Judged:
    """How much of the differences between plan and measurement a trial takes away.

    explains: what is left of each difference that was noticed is small, and none has grown. in part: at least a quarter of one is gone and
    none has grown. Both witnesses must agree: eager attention that would explain the time, and would have taken memory that was not taken, does not.
    """
    peak = peak_of(changed, measured.reserved)
    time, memory = left(measured.step, changed.step_time_s), left(measured.peak, peak)
    before = (left(measured.step, plan.step_time_s), left(measured.peak, peak_of(plan, measured.reserved)))
    after = (time, memory)
    pairs = [(abs(b), abs(a)) for b, a in zip(before, after, strict=True) if b is not None and a is not None]
    noticed = [(b, a) for b, a in pairs if b > NOTICED]
    status: Status = "does not"
    if noticed and all(a <= max(CLOSE, b + 0.02) for b, a in pairs):
        if all(a <= max(CLOSE, REST * b) for b, a in noticed):
            status = "explains"
        elif any(a <= PART * b for b, a in noticed):
            status = "in part"
    return Judged(trial, status, changed.step_time_s, peak, time, memory, sum(a for _, a in pairs))
