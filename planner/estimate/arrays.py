"""Arithmetic that one run and many share: where a formula takes the larger or the smaller of two figures, each may be a number or an array.

A search evaluates many configurations of one traced model at once: what differs between them (data-parallel ranks, micro steps) is an
array, and the formulas of memory and time are the same code. Plain numbers stay plain numbers, which NumPy would slow down.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def least(a: Any, b: Any) -> Any:
    """The smaller of two figures, element by element for arrays."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.minimum(a, b)
    return min(a, b)


def most(a: Any, b: Any) -> Any:
    """The larger of two figures, element by element for arrays."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.maximum(a, b)
    return max(a, b)


def some(a: Any) -> bool:
    """Whether a figure is other than zero, in any element."""
    return bool(np.any(a)) if isinstance(a, np.ndarray) else bool(a)
