"""Matrix products forward and backward: the shapes of transformer layers from thin adapters to wide heads, by number format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from planner.calibrate.benchmarks import Case, benchmark
from planner.calibrate.hardware import Hardware

_SIZES = (
    (512, 768, 768), (512, 3072, 768), (512, 768, 3072), (2048, 1024, 1024), (128, 256, 256), (256, 512, 512), (1024, 256, 1024),
    (512, 512, 512), (512, 2048, 512), (512, 512, 2048), (700, 384, 1536), (1000, 1536, 384),
    (512, 8, 768), (512, 768, 8), (4096, 512, 512), (256, 30000, 768), (64, 768, 768), (1024, 128, 128), (2048, 2048, 512),
    (1024, 16384, 512),
    (8, 768, 768), (1024, 1000, 256), (2048, 16, 1024), (2048, 1024, 16), (16, 256, 256), (512, 5000, 512), (1024, 512, 512), (1024, 1408, 512),
)  # fmt: skip
_LARGE = ((4096, 4096, 4096), (8192, 8192, 1024), (2048, 14336, 4096), (8192, 1024, 8192), (4096, 32000, 4096), (16384, 4096, 4096))
LAYOUTS = ("forward", "dgrad", "wgrad")


def formats(hardware: Hardware) -> tuple[str, ...]:
    """Number formats to measure: fp16 training on a processor is emulated and nobody's plan."""
    return ("fp32", "bf16") if hardware.device.type == "cpu" else ("bf16", "fp16", "fp32")


_BATCHED = ((48, 128, 128, 64), (48, 128, 64, 128), (16, 512, 512, 32), (16, 512, 32, 512), (128, 64, 64, 64), (8, 256, 1024, 256))


@benchmark("matmul", "Matrix products", 0.4)
def matmul(hardware: Hardware) -> Iterator[Case]:
    """y = x wᵀ [m, k] [n, k], and both of its gradients as autograd forms them."""
    shapes = _SIZES if hardware.synchronous else (*_LARGE, *_SIZES)
    for m, n, k in shapes:
        for dtype in formats(hardware):
            for layout in LAYOUTS:
                yield product_case(hardware, m, n, k, dtype, layout)


@benchmark("batched", "Batched matrix products", 0.08)
def batched(hardware: Hardware) -> Iterator[Case]:
    """Scores and values of attention written out: many small products in one call."""
    for batch, m, n, k in _BATCHED:
        for dtype in formats(hardware):
            for layout in LAYOUTS:
                yield product_case(hardware, m, n, k, dtype, layout, batch)


def product_case(hardware: Hardware, m: int, n: int, k: int, dtype: str, layout: str, batch: int = 1) -> Case:
    """`batch` products [m, k] [k, n] in one call, with the strides of that layout."""
    told: dict[str, float | str] = {"m": m, "n": n, "k": k, "batch": batch, "dtype": dtype, "layout": layout}
    return Case(told, _product(hardware, m, n, k, dtype, layout, batch if batch > 1 else 0))


def _product(
    hardware: Hardware, m: int, n: int, k: int, dtype: str, layout: str, batch: int = 0
) -> Callable[[], Callable[[], Any]]:
    """y = x wᵀ, dx = dy w and dw = dyᵀ x as products [m, k] [k, n], each with the strides that autograd gives it."""
    lead = (batch,) if batch else ()

    def operands() -> tuple[torch.Tensor, torch.Tensor]:
        turned_a, turned_b = layout == "wgrad", layout == "forward"
        a = hardware.random(*lead, k, m, dtype=dtype).mT if turned_a else hardware.random(*lead, m, k, dtype=dtype)
        b = hardware.random(*lead, n, k, dtype=dtype).mT if turned_b else hardware.random(*lead, k, n, dtype=dtype)
        return a, b

    def prepare() -> Callable[[], Any]:
        size = (4 if dtype == "fp32" else 2) * (m * k + n * k) * max(1, batch)
        pair = hardware.rotated(operands, size)
        multiply = torch.bmm if batch else torch.mm
        return lambda: multiply(*pair())

    return prepare
