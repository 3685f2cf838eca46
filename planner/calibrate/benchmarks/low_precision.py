"""Products of formats that only some devices have: tf32, fp8 with a scale per row, int8; and the grouped products of expert layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from planner.calibrate.benchmarks import Case, benchmark
from planner.calibrate.benchmarks.matmul import _LARGE, product_case
from planner.calibrate.hardware import Hardware

SHAPES = (*_LARGE, (1024, 4096, 4096), (512, 768, 768))
EXPERTS = ((8, 256, 1024, 512), (8, 256, 512, 1024), (4, 64, 256, 256), (16, 32, 512, 256))
"""Experts, rows of each, columns and inner size of its product."""
LARGE_EXPERTS = ((8, 2048, 14336, 4096), (64, 512, 2048, 2048), (128, 128, 768, 2048))
FORMATS = {"tf32": (8, 0), "int8": (8, 0), "fp8": (8, 9)}
"""Least compute capability of the kernels: Ampere for tf32 and int8, Ada and Hopper for fp8 (torch/aten/src/ATen/native/cuda/ScaledBlas.cpp)."""


def here(hardware: Hardware) -> tuple[str, ...]:
    """Formats that this device multiplies; a processor and other vendors' devices are not asked."""
    if hardware.device.type != "cuda" or torch.version.hip:
        return ()
    capability = torch.cuda.get_device_capability(hardware.device)
    return tuple(name for name, least in FORMATS.items() if capability >= least)


@benchmark("low_precision", "Products in tf32, fp8 and int8", 0.08)
def low_precision(hardware: Hardware) -> Iterator[Case]:
    """y = x wᵀ, the one layout that these kernels have (tf32 has all three)."""
    known = here(hardware)
    for m, n, k in SHAPES:
        for dtype in known:
            if dtype == "tf32":
                for layout in ("forward", "dgrad", "wgrad"):
                    plain = product_case(hardware, m, n, k, "fp32", layout)
                    yield Case({**plain.shape, "dtype": "tf32"}, _as_tf32(plain.prepare))
            else:
                told: dict[str, float | str] = {"m": m, "n": n, "k": k, "batch": 1, "dtype": dtype, "layout": "forward"}
                yield Case(told, _bytes(hardware, m, n, k, dtype))


@benchmark("grouped", "Grouped products of experts", 0.04)
def grouped(hardware: Hardware) -> Iterator[Case]:
    """Rows sorted by expert, each expert's with its own weight, in one call (`torch.nn.functional.grouped_mm`)."""
    if not hasattr(F, "grouped_mm"):
        return
    for experts, rows, n, k in EXPERTS if hardware.synchronous else (*LARGE_EXPERTS, *EXPERTS):
        told: dict[str, float | str] = {"m": rows, "n": n, "k": k, "batch": experts, "dtype": "bf16", "layout": "forward"}
        yield Case(told, _grouped(hardware, experts, rows, n, k))


def _as_tf32(prepare: Callable[[], Callable[[], Any]]) -> Callable[[], Callable[[], Any]]:
    def prepared() -> Callable[[], Any]:
        multiply = prepare()

        def work() -> Any:
            before = torch.backends.cuda.matmul.allow_tf32
            torch.backends.cuda.matmul.allow_tf32 = True
            try:
                return multiply()
            finally:
                torch.backends.cuda.matmul.allow_tf32 = before

        return work

    return prepared


def _bytes(hardware: Hardware, m: int, n: int, k: int, dtype: str) -> Callable[[], Callable[[], Any]]:
    def operands() -> tuple[torch.Tensor, torch.Tensor]:
        x, w = hardware.random(m, k, dtype="bf16"), hardware.random(n, k, dtype="bf16")
        if dtype == "fp8":
            return x.to(torch.float8_e4m3fn), w.to(torch.float8_e4m3fn).t()
        return (32 * x).clamp(-127, 127).to(torch.int8), (32 * w).clamp(-127, 127).to(torch.int8).t()

    def prepare() -> Callable[[], Any]:
        pair = hardware.rotated(operands, float(m * k + n * k))
        if dtype == "int8":
            return lambda: torch._int_mm(*pair())
        of_rows, of_columns = (torch.ones(shape, device=hardware.device) for shape in ((m, 1), (1, n)))
        multiply: Any = torch._scaled_mm

        def work() -> Any:
            x, w = pair()
            return multiply(x, w, of_rows, of_columns, out_dtype=torch.bfloat16)

        return work

    return prepare


def _grouped(hardware: Hardware, experts: int, rows: int, n: int, k: int) -> Callable[[], Callable[[], Any]]:
    def operands() -> tuple[torch.Tensor, torch.Tensor]:
        return hardware.random(experts * rows, k, dtype="bf16"), hardware.random(experts, n, k, dtype="bf16").mT

    def prepare() -> Callable[[], Any]:
        pair = hardware.rotated(operands, 2.0 * experts * (rows + n) * k)
        ends = torch.arange(rows, (experts + 1) * rows, rows, device=hardware.device, dtype=torch.int32)
        multiply: Any = F.grouped_mm

        def work() -> Any:
            x, w = pair()
            return multiply(x, w, offs=ends)

        return work

    return prepare
