"""How full sequences become when whole samples are packed into them.

Best-fit decreasing (Ding et al. 2024, arXiv:2404.10830; TRL's `packing_strategy="bfd"`): the longest sample first, each into the fullest
sequence that still takes it. Data sets are packed in parts of 1000 rows, as `datasets.map(batched=True)` hands them over.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable

ROWS = 1000
"""Samples that are packed together: the batch size of `datasets.map` when nothing is said."""


def sequences_of(samples: Iterable[int], room: int) -> int:
    """Sequences of `room` tokens that best-fit decreasing makes of samples [token], none of which is longer."""
    free: list[int] = []  # tokens that open sequences still take, ascending
    opened = 0
    for length in sorted(samples, reverse=True):
        at = bisect_left(free, length)
        if at == len(free):
            opened += 1
            left = room - length
        else:
            left = free.pop(at) - length
        insort(free, left)
    return opened
