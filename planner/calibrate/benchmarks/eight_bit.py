"""Optimizers with 8-bit states, with bitsandbytes where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch

from planner.calibrate.benchmarks import Case, benchmark
from planner.calibrate.benchmarks.optimizer import SIZES, update_cases
from planner.calibrate.hardware import Hardware

OPTIMIZERS: Final = {"adamw8bit": "AdamW8bit", "paged-adamw8bit": "PagedAdamW8bit"}
"""Names in a run file, and bitsandbytes' classes."""


@benchmark("eight_bit", "8-bit optimizer steps", 0.03)
def eight_bit(hardware: Hardware) -> Iterator[Case]:
    """Nothing where the library is missing; it has no such kernels for processors."""
    if hardware.device.type != "cuda" or importlib.util.find_spec("bitsandbytes") is None:
        return
    for name, kind in OPTIMIZERS.items():
        yield from update_cases(hardware, name, maker(kind), SIZES[:6], ("bf16",))


def maker(kind: str) -> Callable[[Sequence[torch.nn.Parameter]], Any]:
    """bitsandbytes' optimizer of that name."""

    def make(parameters: Sequence[torch.nn.Parameter]) -> Any:
        return getattr(importlib.import_module("bitsandbytes.optim"), kind)(parameters, lr=1e-6).step

    return make
