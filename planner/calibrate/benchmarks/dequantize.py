"""4- and 8-bit weights back to 16 bits: bitsandbytes' kernels, and torchao's, where they are installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

from planner.calibrate.benchmarks import Case, benchmark
from planner.calibrate.hardware import Hardware
from planner.workload.quantized import SPACE

SIZES = ((4096, 4096), (14336, 4096), (1024, 1024))


@benchmark("dequantize", "Dequantization", 0.03)
def dequantize(hardware: Hardware) -> Iterator[Case]:
    """nf4 in blocks of 64 and int8 by row; nothing where the library or its kernels are missing."""
    for rows, columns in SIZES:
        numel = rows * columns
        if hardware.device.type == "cuda" and importlib.util.find_spec("bitsandbytes") is not None:
            yield Case({"format": "nf4", "moved": numel * (SPACE["nf4"] + 2)}, _nf4(hardware, rows, columns))
            yield Case({"format": "int8", "moved": numel * (SPACE["int8"] + 2)}, _int8(hardware, rows, columns))
        if importlib.util.find_spec("torchao") is not None:
            yield Case({"format": "nf4-torchao", "moved": numel * (SPACE["nf4"] + 2)}, _torchao(hardware, rows, columns))


def _nf4(hardware: Hardware, rows: int, columns: int) -> Callable[[], Callable[[], Any]]:
    def prepare() -> Callable[[], Any]:
        functional = importlib.import_module("bitsandbytes.functional")
        packed, state = functional.quantize_4bit(hardware.random(rows, columns, dtype="bf16"), quant_type="nf4")
        return lambda: functional.dequantize_4bit(packed, state)

    return prepare


def _int8(hardware: Hardware, rows: int, columns: int) -> Callable[[], Callable[[], Any]]:
    def prepare() -> Callable[[], Any]:
        functional = importlib.import_module("bitsandbytes.functional")
        values, scales, _ = functional.int8_vectorwise_quant(hardware.random(rows, columns, dtype="fp16"))
        return lambda: functional.int8_vectorwise_dequant(values, scales)

    return prepare


def _torchao(hardware: Hardware, rows: int, columns: int) -> Callable[[], Callable[[], Any]]:
    """torchao's NF4 tensor, which torchtune trains on."""

    def prepare() -> Callable[[], Any]:
        library = importlib.import_module("torchao.dtypes.nf4tensor")
        packed = library.to_nf4(hardware.random(rows, columns, dtype="bf16").clone())
        return lambda: packed.get_original_weight()

    return prepare
