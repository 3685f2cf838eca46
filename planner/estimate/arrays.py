"""Arithmetic that one run and many share: where a formula takes the larger or the smaller of two figures, each may be a number or an array.

A search evaluates many configurations of one traced model at once: what differs between them (data-parallel ranks, micro steps) is an
array, and the formulas of memory and time are the same code. Plain numbers stay plain numbers, which NumPy would slow down.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class Several(np.ndarray[Any, Any]):
    """An array that stands where a formula expects a number: `x += y` makes a new one, as with numbers, instead of changing what others hold."""

    def __iadd__(self, other: Any) -> Any:  # type: ignore[misc]
        return self + other

    def __isub__(self, other: Any) -> Any:  # type: ignore[misc]
        return self - other

    def __imul__(self, other: Any) -> Any:  # type: ignore[misc]
        return self * other

    def __itruediv__(self, other: Any) -> Any:  # type: ignore[misc]
        return self / other


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
