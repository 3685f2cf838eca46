"""Convolutions over patches, which stand in front of vision models: products of an own kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from planner.calibrate.benchmarks import Case, benchmark
from planner.calibrate.benchmarks.matmul import formats
from planner.calibrate.hardware import Hardware

IMAGES = ((4, 224, 16, 384), (8, 224, 16, 768), (1, 224, 14, 1024), (2, 384, 32, 512))
"""Batch, side of an image, side of a patch [pixel], channels out."""
LARGE = ((64, 224, 16, 1024), (32, 336, 14, 1024))


@benchmark("convolution", "Patch convolutions", 0.02)
def convolution(hardware: Hardware) -> Iterator[Case]:
    """Forward, and the gradient of the weight alone: images need none."""
    for shape in IMAGES if hardware.synchronous else (*LARGE, *IMAGES):
        for dtype in formats(hardware)[:2]:
            for layout in ("forward", "wgrad"):
                batch, side, patch, out = shape
                rows, inner = batch * (side // patch) ** 2, 3 * patch**2
                m, n, k = (rows, out, inner) if layout == "forward" else (out, inner, rows)
                told: dict[str, float | str] = {"m": m, "n": n, "k": k, "batch": 1, "dtype": dtype, "layout": layout}
                yield Case(told, _patches(hardware, shape, dtype, layout == "wgrad"))


def _patches(hardware: Hardware, shape: tuple[int, ...], dtype: str, backward: bool) -> Callable[[], Callable[[], Any]]:
    batch, side, patch, out = shape
    size = (4 if dtype == "fp32" else 2) * 3.0 * batch * side**2

    def operands() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        weight = hardware.random(out, 3, patch, patch, dtype=dtype, grad=backward)
        return hardware.random(batch, 3, side, side, dtype=dtype), weight, hardware.random(out, dtype=dtype)

    def differentiated() -> tuple[Any, Any, Any]:
        x, weight, bias = operands()
        y = F.conv2d(x, weight, bias, stride=patch)
        return y, (weight,), hardware.random(*y.shape, dtype=dtype)

    def prepare() -> Callable[[], Any]:
        if backward:
            return hardware.gradients(differentiated, size)
        turn = hardware.rotated(operands, size)

        def forward() -> torch.Tensor:
            x, weight, bias = turn()
            return F.conv2d(x, weight, bias, stride=patch)

        return forward

    return prepare
