"""Attention by backend: the kernels among which `scaled_dot_product_attention` chooses, each asked for by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from planner.calibrate.benchmarks import Case, benchmark
from planner.calibrate.hardware import Hardware

BACKENDS: Final = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
"""Names of the profile's kernels, and torch's."""
SHAPES: Final = ((4, 32, 2048, 128), (1, 32, 8192, 128), (8, 16, 1024, 64), (16, 12, 512, 64))


@benchmark("backends", "Attention by backend", 0.05)
def backends(hardware: Hardware) -> Iterator[Case]:
    """Causal and full, forward and backward, in bf16; the math path only where its scores are small. A processor has one fused kernel."""
    if hardware.synchronous:
        return
    for batch, heads, length, width in SHAPES:
        for name in available(hardware):
            if name == "math" and batch * heads * length**2 > 3e8:
                continue
            for causal in (True, False):
                for backward in (False, True):
                    yield backend_case(hardware, name, (batch, heads, length, width), causal, backward)


def available(hardware: Hardware) -> tuple[str, ...]:
    """Backends that this device can be asked for: cuDNN and the memory-efficient kernel are CUDA's alone."""
    return tuple(BACKENDS) if hardware.device.type == "cuda" else ("flash", "math")


def backend_case(hardware: Hardware, name: str, shape: tuple[int, ...], causal: bool, backward: bool) -> Case:
    """One geometry under one backend. Where torch has no such kernel for it, running it raises NotImplementedError."""
    names = dict(zip(("batch", "heads", "length", "head_dim"), shape, strict=True))
    told: dict[str, float | str] = {**names, "dtype": "bf16", "causal": float(causal), "backward": float(backward), "backend": name}
    return Case(told, _attention(hardware, name, shape, causal, backward))


def _attention(hardware: Hardware, name: str, shape: tuple[int, ...], causal: bool, backward: bool) -> Callable[[], Callable[[], Any]]:
    size = 6.0 * shape[0] * shape[1] * shape[2] * shape[3]

    def operands() -> tuple[torch.Tensor, ...]:
        return tuple(hardware.random(*shape, dtype="bf16", grad=backward) for _ in range(3))

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        with sdpa_kernel(BACKENDS[name]):
            return F.scaled_dot_product_attention(q, k, v, is_causal=causal)

    def differentiated() -> tuple[Any, Any, Any]:
        q, k, v = operands()
        return attend(q, k, v), (q, k, v), hardware.random(*shape, dtype="bf16")

    def prepare() -> Callable[[], Any]:
        try:
            attend(*operands())
        except RuntimeError as error:  # torch: "No available kernel. Aborting execution."
            if "kernel" not in str(error).lower():
                raise
            raise NotImplementedError(f"{name} attention is not available here: {error}") from error
        if backward:
            return hardware.gradients(differentiated, size)
        turn = hardware.rotated(operands, size)
        return lambda: attend(*turn())

    return prepare
