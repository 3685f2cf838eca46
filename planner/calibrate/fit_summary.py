"""What samples say beside a fitted law: how good it is, what it misses, times by size; and how many cases it takes to fit one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from planner.calibrate.result import Sample
from planner.device.measured import Correction, Table

LEAST_CASES: Final = 4
"""Fewer samples of one kind leave its law at the prior."""
SCALE: Final = 0.15
"""Residual, as a logarithm, beyond which a case pulls a fit less."""


def summary(missed: list[float]) -> dict[str, float]:
    """Median and 90th percentile of |ln(measured / predicted)|, each case predicted from the others."""
    return {
        "cases": float(len(missed)),
        "median": round(statistics.median(missed), 4),
        "p90": round(float(np.quantile(missed, 0.9)), 4),
    }


def correction(samples: Sequence[Sample], law: Callable[[Sample], float], sizes: Callable[[Sample], tuple[float, ...]]) -> Correction:
    """What the law misses at the measured sizes."""
    return Correction(sizes=tuple(map(sizes, samples)), residuals=tuple(math.log(s.seconds / law(s)) for s in samples))


def table_of(times: Mapping[float, float]) -> Table:
    """Times [s] by the bytes that are moved."""
    ordered = sorted(times)
    return Table(moved=tuple(ordered), seconds=tuple(times[moved] for moved in ordered))
