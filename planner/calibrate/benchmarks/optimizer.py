"""Optimizer steps: one tensor after the other on a processor, all in few kernels on a GPU; and the clipping of gradients before them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch

from planner.calibrate.benchmarks import Case, benchmark
from planner.calibrate.hardware import Hardware, Staged

SIZES: Final = (
    (65536, 16), (128, 64), (128, 1), (589824, 8), (2359296, 8), (4194304, 4), (16777216, 2), (1024, 64),
)  # fmt: skip
"""Elements of one tensor, and how many tensors: many small ones tell what a tensor costs, a single one what a step costs."""
Make = Callable[[Sequence[torch.nn.Parameter]], Any]
"""From parameters to what is called once a step."""


@benchmark("optimizer", "Optimizer steps", 0.08)
def optimizer(hardware: Hardware) -> Iterator[Case]:
    """AdamW as torch runs it by default on this device."""
    yield from update_cases(hardware, "adamw", lambda parameters: torch.optim.AdamW(parameters, lr=1e-6).step)


@benchmark("fused_optimizer", "Optimizer steps in one kernel", 0.03)
def fused_optimizer(hardware: Hardware) -> Iterator[Case]:
    """AdamW with the whole arithmetic of an element in one pass."""
    if hardware.device.type not in ("cpu", "cuda", "xpu", "mps"):
        return
    yield from update_cases(hardware, "adamw-fused", lambda parameters: torch.optim.AdamW(parameters, lr=1e-6, fused=True).step, SIZES[:6])


@benchmark("clipping", "Clipping of gradients", 0.04)
def clipping(hardware: Hardware) -> Iterator[Case]:
    """Norm of each gradient, of all, and one scaling of each (`torch.nn.utils.clip_grad_norm_`)."""

    def make(parameters: Sequence[torch.nn.Parameter]) -> Callable[[], Any]:
        return lambda: torch.nn.utils.clip_grad_norm_(parameters, 1.0)

    yield from update_cases(hardware, "clip", make, SIZES[:6])


def update_cases(
    hardware: Hardware, name: str, make: Make, sizes: Sequence[tuple[int, int]] = SIZES, dtypes: Sequence[str] = ("fp32", "bf16")
) -> Iterator[Case]:
    """Tensors of equal size in both formats."""
    for numel, count in sizes:
        for dtype in dtypes:
            yield Case({"name": name, "numel": numel, "count": count, "dtype": dtype}, update(hardware, make, numel, count, dtype))


def update(hardware: Hardware, make: Make, numel: int, count: int, dtype: str) -> Callable[[], Callable[[], Any]]:
    """On a processor gradients are new memory each time, as backward leaves them: what a step frees and takes again decides which pages are fresh."""

    def prepare() -> Callable[[], Any]:
        parameters = [torch.nn.Parameter(hardware.random(numel, dtype=dtype).clone()) for _ in range(count)]

        def gradients() -> None:
            for parameter in parameters:
                parameter.grad = None
            for parameter in parameters:
                parameter.grad = hardware.random(numel, dtype=dtype).clone()

        gradients()
        step = make(parameters)
        return Staged(gradients, step) if hardware.synchronous else step

    return prepare
