"""Routed experts with a gated MLP beside them that every token passes, gate and up in one product (Granite 4).

Source: transformers 5.24 `GraniteMoeHybridDecoderLayer`, `GraniteMoeHybridMLP`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.errors import PlanError
from planner.workload.architecture import Experts
from planner.workload.graph import Tensor
from planner.workload.moe import glu, mixture
from planner.workload.writer import Writer


@dataclass(frozen=True)
class MixtureBeside:
    """The MLP of `width`, and the experts where there are any."""

    width: int
    experts: Experts | None
    path: str = "shared_mlp"

    def divided(self, tp: int) -> MixtureBeside:
        """The MLP of one tensor-parallel rank; experts are divided as those of other mixtures."""
        if self.width % tp:
            raise PlanError("parallel.tp", tp, f"does not divide the shared MLP's width of {self.width}", "Use a divisor.")
        return replace(self, width=self.width // tp)

    @property
    def linears(self) -> tuple[str, ...]:
        return (f"{self.path}.input_linear", f"{self.path}.output_linear")

    def write(self, w: Writer, layer: str, x: Tensor) -> Tensor:
        g = w.graph
        routed = mixture(w, layer, self.experts, x) if self.experts is not None else None
        both = w.linear(f"{layer}.{self.linears[0]}", x, 2 * self.width)
        half = (w.b, w.t, self.width)
        gate, up = g.split(both, [half, half])
        product = g.mul(w.activation(gate), up) if w.s.eager else glu(w, gate, up)
        y = w.linear(f"{layer}.{self.linears[1]}", product, w.arch.hidden)
        return y if routed is None else g.add(routed, y)
