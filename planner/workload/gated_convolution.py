"""A short convolution between two gates in place of attention (LFM2).

Source: transformers 5.24 `Lfm2ShortConv`: `C · conv(B · x)` with B, C and x from one projection.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.workload.graph import Tensor
from planner.workload.short_convolution import short_convolution
from planner.workload.writer import Writer


@dataclass(frozen=True)
class GatedConvolution:
    """kernel: taps · bias: of the projections and the convolution."""

    kernel: int
    bias: bool
    path: str = "conv"

    @property
    def kernels(self) -> str:
        """Package of the fused path."""
        return "causal-conv1d"

    @property
    def label(self) -> str:
        """What it is, in the model's summary."""
        return f"convolutions of {self.kernel}"

    @property
    def linears(self) -> tuple[str, ...]:
        return (f"{self.path}.in_proj", f"{self.path}.out_proj")

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        g, p, h = w.graph, f"{layer}.{self.path}", w.arch.hidden
        made = w.linear(f"{p}.in_proj", x, 3 * h, bias=self.bias)
        before, after, value = g.split(made, [(w.b, h, w.t)] * 3)
        mixed = g.mul(before, value)
        y = g.mul(after, short_convolution(w, f"{p}.conv", mixed, h, self.kernel, bias=self.bias, activation=None))
        y = g.copy(y) if not w.s.fused_mixers else y
        out = w.linear(f"{p}.out_proj", g.view(y, (w.b, w.t, h)), h, bias=self.bias)
        g.release(made, before, after, value, y)
        return out
