"""Chains of operators that a compiled or fused stack runs as one kernel: norm, gated activation, rotary positions, the loss of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from planner.calibrate.benchmarks import Case, benchmark
from planner.calibrate.hardware import Hardware

WIDTH = 1024
ROWS = (4096, 256)
LOGITS = ((2048, 32000), (256, 8192))
"""Tokens and words of the loss."""
LEAST_BUDGET = 300.0
"""Compiling takes a few seconds a chain and size [s]."""


@dataclass(frozen=True)
class Chain:
    """run: the chain in plain torch · forward, backward: passes over one tensor of its input's size that the planner's graph counts ·
    rows: of the second operand, None for as many as the first has · trained: whether that one gets a gradient."""

    run: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    forward: float
    backward: float
    rows: int | None = 2
    trained: bool = True


def _rms_norm(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    wide = x.float()
    return y[0] * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


def _layer_norm(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, (x.shape[-1],), y[0], y[1])


def _glu(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.silu(x) * y


def _rotary(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    half = x.shape[-1] // 2
    return x * y[0] + torch.cat((-x[..., half:], x[..., :half]), -1) * y[1]


def _cross_entropy(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(x.float(), torch.arange(len(x), device=x.device) % x.shape[1])


CHAINS = {
    "rms_norm": Chain(_rms_norm, 2.0, 5.0),
    "layer_norm": Chain(_layer_norm, 2.0, 5.0),
    "glu": Chain(_glu, 3.0, 5.0, rows=None),
    "rotary": Chain(_rotary, 2.0, 2.0, trained=False),
    "cross_entropy": Chain(_cross_entropy, 2.0, 2.0, trained=False),
}
"""By the names of the graph's operations in stacks that fuse them."""


@benchmark("compiled", "Chains of operators in one kernel", 0.06)
def compiled(hardware: Hardware) -> Iterator[Case]:
    """Forward, and backward alone. Not on a processor, and not within a short budget: compiling takes longer."""
    if hardware.synchronous:
        return
    for position in range(len(ROWS)):
        for name, chain in CHAINS.items():
            shape = LOGITS[position] if name == "cross_entropy" else (ROWS[position], WIDTH)
            for backward in (False, True):
                yield chain_case(hardware, name, chain, shape, backward)


def chain_case(hardware: Hardware, name: str, chain: Chain, shape: tuple[int, int], backward: bool, backend: str = "inductor") -> Case:
    """One chain at one size in bf16, as a case of the operators' tables. backend: torch.compile's."""
    moved = (chain.backward if backward else chain.forward) * 2.0 * shape[0] * shape[1]
    told: dict[str, float | str] = {"operator": f"compiled:{name}", "dtype": "bf16", "moved": moved, "backward": float(backward)}
    return Case(told, _run(hardware, chain, shape, backward, backend), LEAST_BUDGET)


def _run(hardware: Hardware, chain: Chain, shape: tuple[int, int], backward: bool, backend: str) -> Callable[[], Callable[[], Any]]:
    def prepare() -> Callable[[], Any]:
        made: Any = torch.compile(chain.run, backend=backend, dynamic=False)

        def operands() -> tuple[torch.Tensor, torch.Tensor]:
            x = hardware.random(*shape, dtype="bf16", grad=True)
            return x, hardware.random(chain.rows or shape[0], shape[1], dtype="bf16", grad=chain.trained)

        def differentiated() -> tuple[Any, Any, Any]:
            x, y = operands()
            out = made(x, y)
            wanted = (x, y) if chain.trained else (x,)
            return out, wanted, hardware.random(*out.shape, dtype="bf16") if out.dim() else torch.ones_like(out)

        if backward:
            return hardware.gradients(differentiated, 4.0 * shape[0] * shape[1])
        pair = hardware.rotated(operands, 4.0 * shape[0] * shape[1])
        return lambda: made(*pair())

    return prepare
