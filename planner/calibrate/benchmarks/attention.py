"""Fused attention forward and backward, by length, head size and mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from planner.calibrate.benchmarks import Case, benchmark
from planner.calibrate.benchmarks.matmul import formats
from planner.calibrate.hardware import Hardware

_SHAPES = ((4, 8, 128, 64), (2, 12, 512, 64), (8, 4, 128, 64), (1, 8, 1024, 64), (4, 4, 64, 32), (2, 8, 256, 128), (16, 8, 64, 64))
_LARGE = ((4, 32, 2048, 128), (1, 32, 8192, 128), (8, 16, 1024, 64), (2, 32, 4096, 64))


@benchmark("attention", "Fused attention", 0.15)
def attention(hardware: Hardware) -> Iterator[Case]:
    """`scaled_dot_product_attention` without dropout; batch, heads, length, head size."""
    for shape in _SHAPES if hardware.synchronous else (*_LARGE, *_SHAPES):
        for dtype in formats(hardware)[:2]:
            for causal in (True, False):
                for backward in (False, True):
                    yield attention_case(hardware, shape, dtype, causal, backward)


def attention_case(hardware: Hardware, shape: tuple[int, ...], dtype: str, causal: bool, backward: bool) -> Case:
    """One geometry: batch, heads, length, head size."""
    names = dict(zip(("batch", "heads", "length", "head_dim"), shape, strict=True))
    told: dict[str, float | str] = {**names, "dtype": dtype, "causal": float(causal), "backward": float(backward)}
    return Case(told, _attention(hardware, shape, dtype, causal, backward))


def _attention(hardware: Hardware, shape: tuple[int, ...], dtype: str, causal: bool, backward: bool) -> Callable[[], Callable[[], Any]]:
    size = 3.0 * (4 if dtype == "fp32" else 2) * shape[0] * shape[1] * shape[2] * shape[3]

    def operands() -> tuple[torch.Tensor, ...]:
        return tuple(hardware.random(*shape, dtype=dtype, grad=backward) for _ in range(3))

    def differentiated() -> tuple[Any, Any, Any]:
        q, k, v = operands()
        out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return out, (q, k, v), hardware.random(*out.shape, dtype=dtype)

    def prepare() -> Callable[[], Any]:
        if not backward:
            turn = hardware.rotated(operands, size)

            def forward() -> torch.Tensor:
                q, k, v = turn()
                return F.scaled_dot_product_attention(q, k, v, is_causal=causal)

            return forward
        return hardware.gradients(differentiated, size)

    return prepare
