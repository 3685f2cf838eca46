"""AdamW's step: one tensor after the other on a processor, all in few kernels on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from planner.calibrate.benchmarks import Case, benchmark
from planner.calibrate.hardware import Hardware


@benchmark("optimizer", "Optimizer steps", 0.1)
def optimizer(hardware: Hardware) -> Iterator[Case]:
    """Tensors of equal size; elements of one, and how many."""
    for numel, count in ((65536, 16), (1024, 64), (589824, 8), (2359296, 8), (16777216, 2), (128, 64)):
        for dtype in ("fp32", "bf16"):
            yield Case({"numel": numel, "count": count, "dtype": dtype}, _step(hardware, numel, count, dtype))


def _step(hardware: Hardware, numel: int, count: int, dtype: str) -> Callable[[], Callable[[], Any]]:
    def prepare() -> Callable[[], Any]:
        parameters = [torch.nn.Parameter(hardware.random(numel, dtype=dtype)) for _ in range(count)]
        for p in parameters:
            p.grad = torch.randn_like(p)
        made = torch.optim.AdamW(parameters, lr=1e-6)
        return made.step

    return prepare
