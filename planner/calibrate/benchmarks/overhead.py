"""What issuing costs: the Python and dispatch time of a transformer block whose kernels are too small to count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from planner.calibrate.benchmarks import Case, benchmark
from planner.calibrate.hardware import Hardware

KERNELS = 13.0
"""Operators of the block below that move data: 2 norms, 6 products, attention, activation, 2 sums, and the mean that stands for the loss."""
HIDDEN = 16


class Block(nn.Module):
    """A pre-norm block in plain torch modules."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(HIDDEN) for _ in range(2))
        self.q, self.k, self.v, self.o = (nn.Linear(HIDDEN, HIDDEN) for _ in range(4))
        self.up, self.down = nn.Linear(HIDDEN, 2 * HIDDEN), nn.Linear(2 * HIDDEN, HIDDEN)
        self.act = nn.GELU()

    def forward(self, x: torch.Tensor) -> Any:
        h = self.norms[0](x)
        q, k, v = (layer(h).view(1, 4, 2, 8).transpose(1, 2) for layer in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(1, 4, HIDDEN))
        y = self.down(self.act(self.up(self.norms[1](x))))
        return x + y


@benchmark("overhead", "Operator overhead", 0.05)
def overhead(hardware: Hardware) -> Iterator[Case]:
    """Forward of the block with autograd recording, and its backward alone; host time, not device time."""
    for backward in (False, True):
        yield Case({"kernels": KERNELS, "backward": float(backward)}, _block(hardware, backward))


def _block(hardware: Hardware, backward: bool) -> Callable[[], Callable[[], Any]]:
    def prepare() -> Callable[[], Any]:
        block, x = Block().to(hardware.device), hardware.random(1, 4, HIDDEN)
        if not backward:
            return lambda: block(x)
        loss, parameters = block(x).mean(), tuple(block.parameters())
        return lambda: torch.autograd.grad(loss, parameters, retain_graph=True)

    return prepare
