"""How good a fitted law is, and how many cases it takes to fit one."""

from __future__ import annotations

import statistics
from typing import Final

import numpy as np

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
