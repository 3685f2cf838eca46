"""How likely a run is to fit, from the interval of its peak: the one law behind searches, comparisons and the published verdicts."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, Final

import numpy as np

LEVEL: Final = 0.90
"""Share of the runs that an interval holds."""
_Z: Final = NormalDist().inv_cdf((1 + LEVEL) / 2)
_NARROWEST: Final = 1e-6


def chance_of_fit(reserved: Any, usable: float, low: Any, high: Any) -> Any:
    """Probability that the peak stays within the usable memory; arrays give one for each.

    measured / predicted is log-normal with its 5 % and 95 % quantiles at the ends of the 90 % interval:
    P = Φ((ln(usable / reserved) − μ) / σ), μ = (ln high + ln low) / 2, σ = (ln high − ln low) / (2 · 1.645). So a run that is said to fit
    (`verdict_of`: its whole interval is below the usable memory) has P ≥ 0.95.

    Arguments
    ---------
    reserved: predicted peak of what the allocator holds [bytes]. usable: memory that the process may take [bytes].
    low, high: ends of the 90 % interval of measured / predicted [1].
    """
    below, above = np.log(low), np.log(high)
    spread = np.maximum((above - below) / (2 * _Z), _NARROWEST)
    z = (np.log(usable / np.asarray(reserved, dtype=np.float64)) - (above + below) / 2) / spread
    found = np.array([0.5 * math.erfc(-value) for value in (np.ravel(z) / math.sqrt(2.0)).tolist()])
    return float(found[0]) if np.ndim(z) == 0 else found.reshape(np.shape(z))
