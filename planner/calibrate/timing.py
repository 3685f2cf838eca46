"""How long something takes, and how surely: warm-up, repetitions until the median is known to 2 % or the time is up, raw values kept."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any, Final

from planner.calibrate.hardware import Hardware
from planner.calibrate.preemption import Preemption
from planner.calibrate.result import Sample

GOAL: Final = 0.02
"""Half width of the median's 95 % interval over the median at which repeating ends."""
LEAST: Final = 5
MOST: Final = 200
_WARM_UP: Final = 2
_PAUSE: Final = 0.05
"""Rest after a repetition that ran with its clock held down [s], so that power and heat fall."""


def median_error(values: list[float]) -> float:
    """Half width of the 95 % interval of the median over the median, from its order statistics (David & Nagaraja, Order
    Statistics, 3rd ed., sec. 7.1); infinite below five values."""
    n = len(values)
    if n < LEAST:
        return math.inf
    ordered, reach = sorted(values), 0.98 * math.sqrt(n)
    low, high = max(0, math.floor(n / 2 - reach)), min(n - 1, math.ceil(n / 2 + reach) - 1)
    return (ordered[high] - ordered[low]) / 2 / statistics.median(ordered)


def measure(
    hardware: Hardware,
    benchmark: str,
    case: dict[str, float | str],
    work: Callable[[], Any],
    seconds: float,
    throttled: Callable[[], bool] = lambda: False,
) -> Sample:
    """Time `work()` for at most about `seconds`.

    throttled: asked after each repetition; one that ran with its clock held down does not count, and the device rests before the next.
        Only when the time is up and nothing else was measured does it count, marked as such.

    On a processor a repetition during which the system let another program run does not count either. Where that befell all of them, the
    quickest quarter counts.
    """
    interrupted = Preemption()
    disturbed: list[float] = []
    for _ in range(_WARM_UP):
        hardware.time(work, 1)
    inner = hardware.inner(hardware.time(work, 1))
    values: list[float] = []
    dropped, begin = 0, time.perf_counter()
    while len(values) < MOST:
        interrupted.begin()
        value = hardware.time(work, inner)
        lost = hardware.synchronous and interrupted.happened()
        held, spent = throttled(), time.perf_counter() - begin
        if lost:
            disturbed.append(value)
            if spent > seconds or len(disturbed) >= MOST:
                break
            continue
        dropped += held
        if held and spent < seconds:
            time.sleep(min(_PAUSE, seconds - spent))
            continue
        if not held or not values:
            values.append(value)
        if spent > seconds and len(values) >= 1:
            break
        if median_error(values) < GOAL:
            break
    if not values:
        values = sorted(disturbed)[: max(1, len(disturbed) // 4)]
    quartiles = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return Sample(
        benchmark=benchmark,
        case=case,
        seconds=statistics.median(values),
        iqr=max(0.0, quartiles[2] - quartiles[0]),
        raw=tuple(float(f"{v:.5g}") for v in values),
        throttled=dropped,
        disturbed=len(disturbed),
    )
