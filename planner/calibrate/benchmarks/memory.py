"""Copies and triads by size: what memory gives at best."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from planner.calibrate.benchmarks import Case, benchmark
from planner.calibrate.hardware import Hardware

SIZES = (2**26, 2**22, 2**18, 2**28)
"""Bytes of one array."""


@benchmark("memory", "Memory bandwidth", 0.03)
def memory(hardware: Hardware) -> Iterator[Case]:
    """b = a, and a = b + s c (McCalpin's STREAM, 1995), without new memory."""
    for size in SIZES:
        yield Case({"operation": "copy", "moved": 2.0 * size}, _copy(hardware, size // 4))
        yield Case({"operation": "triad", "moved": 3.0 * size}, _triad(hardware, size // 4))


def _copy(hardware: Hardware, numel: int) -> Callable[[], Callable[[], Any]]:
    def prepare() -> Callable[[], Any]:
        pair = hardware.rotated(lambda: (hardware.random(numel), hardware.random(numel).clone()), 8.0 * numel)

        def work() -> torch.Tensor:
            source, target = pair()
            return target.copy_(source)

        return work

    return prepare


def _triad(hardware: Hardware, numel: int) -> Callable[[], Callable[[], Any]]:
    def prepare() -> Callable[[], Any]:
        three = hardware.rotated(lambda: tuple(hardware.random(numel).clone() for _ in range(3)), 12.0 * numel)

        def work() -> torch.Tensor:
            a, b, c = three()
            return torch.add(b, c, alpha=0.5, out=a)

        return work

    return prepare
