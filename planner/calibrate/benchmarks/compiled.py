"""What torch.compile gains on a block whose operators are memory-bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from planner.calibrate.benchmarks import Case, benchmark
from planner.calibrate.hardware import Hardware

ROWS, WIDTH = 4096, 1024


class Gated(nn.Module):
    """An RMS norm and a gated MLP, written operator by operator."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))
        self.up, self.gate, self.down = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> Any:
        wide = x.float()
        normed = self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))


@benchmark("compiled", "torch.compile on a block", 0.04)
def compiled(hardware: Hardware) -> Iterator[Case]:
    """Forward and backward, eager and compiled. Not on a processor, where compiling alone takes longer than the budget."""
    if hardware.synchronous:
        return
    for compile_ in (0.0, 1.0):
        yield Case({"compiled": compile_}, _block(hardware, bool(compile_)))


def _block(hardware: Hardware, compile_: bool) -> Callable[[], Callable[[], Any]]:
    def prepare() -> Callable[[], Any]:
        block = Gated().to(hardware.device, torch.bfloat16)
        x = hardware.random(ROWS, WIDTH, dtype="bf16", grad=True)
        run: Any = torch.compile(block) if compile_ else block
        given, wanted = hardware.random(ROWS, WIDTH, dtype="bf16"), (x, *block.parameters())
        return lambda: torch.autograd.grad(run(x), wanted, given)

    return prepare
