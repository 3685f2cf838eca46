"""Which of many configurations no other beats in everything."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

RISK_STEPS: Final = 100
"""Risk is compared in hundredths: the intervals behind it do not tell finer."""


def front(values: NDArray[Any]) -> NDArray[np.int64]:
    """Indices of the rows that no other row dominates, by first column; of equal rows the first.

    values: rows of figures to be minimised; NaN counts as worse than any number. A row dominates another when it is nowhere larger and somewhere
    smaller (Pareto). The rows are visited in lexicographic order, in which nothing later can dominate something earlier.
    """
    known = np.where(np.isnan(values), np.inf, values)
    order = np.lexsort(known.T[::-1])
    kept: list[int] = []
    left = order
    while left.size:
        best = left[0]
        kept.append(int(best))
        rest = left[1:]
        left = rest[(known[rest] < known[best]).any(axis=1)]
    return np.array(kept, dtype=np.int64)


def compared(time: Any, cost: Any, energy: Any, chance: Any) -> NDArray[Any]:
    """Rows to minimise: time [s], cost [USD], energy [kWh], and risk in hundredths (1 − the probability that it fits)."""
    risk = np.round((1.0 - np.asarray(chance, dtype=np.float64)) * RISK_STEPS)
    return np.column_stack([time, cost, energy, np.where(np.isnan(risk), 0.0, risk)])
