"""Whether a measured step agrees with a planned one."""

from __future__ import annotations

from typing import Final, Literal

Verdict = Literal["agrees", "faster", "slower", "ambiguous", "unknown"]
UNSTEADY: Final = 0.5
"""Quartiles that lie further apart than this share of the median say nothing about a difference."""


def agreement(low: float, median: float, high: float, interval: tuple[float, float]) -> Verdict:
    """The verdict on measured steps. low, high: quartiles [s] · interval: of the estimate, 90 % [s].

    agrees: the measured median lies in the estimate's interval. faster, slower: all of the middle half of the measured steps lies below or
    above it. ambiguous: the median lies outside and part of the middle half inside, or the steps vary too much to tell.
    """
    if interval[0] <= median <= interval[1]:
        return "agrees"
    if unsteady(low, median, high) or (low <= interval[1] and high >= interval[0]):
        return "ambiguous"
    return "faster" if median < interval[0] else "slower"


def unsteady(low: float, median: float, high: float) -> bool:
    """Whether steps vary too much to tell."""
    return high - low > UNSTEADY * median
