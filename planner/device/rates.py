"""Rates of a few products, to look at a profile and to set two beside each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from planner.device.profile import DeviceProfile

PRODUCTS: Final = ((8192, 8192, 8192), (4096, 4096, 4096), (2048, 4096, 4096), (1024, 1024, 1024), (512, 768, 768))
"""Sizes m, n, k from what fills a device to what does not."""


def product_rate(profile: DeviceProfile, m: int, n: int, k: int, dtype: str) -> float:
    """Rate of one product [FLOP/s]. Raises `PlanError` for a format that the device does not multiply."""
    return 2.0 * m * n * k / float(profile.matmul_seconds(m, n, k, dtype))


def product_rates(profile: DeviceProfile) -> Iterator[tuple[str, tuple[int, int, int], float]]:
    """(number format, sizes, rate [FLOP/s]) of every product in every format of the profile."""
    for dtype in profile.gemm:
        for sizes in PRODUCTS:
            yield dtype, sizes, product_rate(profile, *sizes, dtype)
