"""A block whose state-space mixer and attention read the same normed input and are added (Falcon-H1), each with constant multipliers.

Source: Zuo et al. 2025, arXiv:2507.22448 (sec. 2); transformers 5.24 `FalconH1DecoderLayer`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.workload.attention import attention
from planner.workload.graph import Tensor
from planner.workload.moe import glu
from planner.workload.regions import enter, leave
from planner.workload.state_space_dual import StateSpaceDual
from planner.workload.writer import Writer


@dataclass(frozen=True)
class ParallelMixers:
    """Norm, state-space mixer beside attention, sum; norm, gated MLP, sum. others: linear layers beside the mixer's."""

    mixer: StateSpaceDual
    others: tuple[str, ...]

    def divided(self, tp: int) -> ParallelMixers:
        """The block of one tensor-parallel rank."""
        return replace(self, mixer=self.mixer.divided(tp))

    @property
    def kernels(self) -> str:
        """Packages of the mixer's fused path."""
        return self.mixer.kernels

    @property
    def label(self) -> str:
        """What stands beside attention, in the model's summary."""
        return self.mixer.label

    @property
    def linears(self) -> tuple[str, ...]:
        return (*self.mixer.linears, *self.others)

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        g, arch, n = w.graph, w.arch, w.names
        h = enter(w, w.norm(f"{layer}.{n.norms[0]}", x, arch.hidden))
        state = g.unary("scale", self.mixer.write(w, layer, index, h), save="none")
        attended = attention(w, layer, index, g.unary("scale", h, save="none"))
        both = g.add(state, g.unary("scale", attended, save="none"), name="mixers")
        g.release(state)
        x = g.add(x, leave(w, both), name="residual")
        h = enter(w, w.norm(f"{layer}.{n.norms[1]}", x, arch.hidden))
        gate, up = (w.linear(f"{layer}.{name}", h, arch.ffn, bias=arch.mlp_bias) for name in (n.gate, n.up))
        gate = g.unary("scale", gate, save="none")
        product = g.mul(up, w.activation(gate)) if w.s.eager else glu(w, gate, up)
        down = w.linear(f"{layer}.{n.down}", product, arch.hidden, bias=arch.mlp_bias)
        return g.add(x, leave(w, g.unary("scale", down, save="none")), name="residual")
