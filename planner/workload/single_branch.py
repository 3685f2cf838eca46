"""A block of one branch: norm, mixer or feed-forward, sum. Mamba's stacks and Nemotron-H's are made of such blocks."""

from __future__ import annotations

from dataclasses import dataclass

from planner.workload.attention import attention
from planner.workload.graph import Tensor
from planner.workload.mlp import mlp
from planner.workload.regions import enter, leave
from planner.workload.writer import Writer


@dataclass(frozen=True)
class SingleBranch:
    """Norm, one branch, residual sum. mixes: the branch is the block's mixer (or self-attention), else its feed-forward part.

    wide: the residual stream is fp32 (Mamba's `residual_in_fp32`).
    """

    branch: tuple[str, ...]
    mixes: bool = True
    norm: str = "norm"
    wide: bool = False

    @property
    def linears(self) -> tuple[str, ...]:
        return self.branch

    def divided(self, tp: int) -> SingleBranch:
        """The block of one tensor-parallel rank: its branch is the stack's."""
        return self

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        g = w.graph
        h = w.norm(f"{layer}.{self.norm}", g.cast(x, w.s.formats.graph, name="norm_input"), w.arch.hidden)
        if self.wide:
            x = g.cast(x, "fp32", name="residual_upcast")
            w.kept = (*w.kept, x)
        h = enter(w, h)
        y = attention(w, layer, index, h) if self.mixes else mlp(w, layer, h)
        return g.add(x, leave(w, y), name="residual")
