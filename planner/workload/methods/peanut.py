"""PEANuT: a small trained network turns the frozen weight into its update, at every step (Zhong et al. 2024, arXiv:2410.01870, eq. 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import needs_linear, product
from planner.workload.methods.targets import COMMON, SELECTION, adapted

if TYPE_CHECKING:
    from planner.workload.writer import Writer


def _bind(method: Method, arch: Architecture) -> Adaptation:
    needs_linear(method, arch)
    rank, depth = method.rank or 32, method.depth or 0

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.peanut.Linear.forward: `result + x @ network(W.T)`, ReLU between layers, sums over pairs of hidden layers."""
        g, inner, r = w.graph, x.shape[-1], float(rank)
        y = layer(x)
        first = w.adapter(path + ".peanut_A.weight", (r, out))
        base = w.weight(path + ".weight", (out, inner), base=True)
        turned = g.cast(g.view(base, (inner, out)), first.dtype, name="base_copy")

        def dense(name: str, v: Tensor, width: float) -> Tensor:
            return g.linear(v, w.adapter(f"{path}.peanut_{name}.weight", (width, v.shape[-1])), name="peanut")

        hidden = g.unary("relu", g.linear(turned, first, name="peanut"), save="output")
        kept = []
        for i in range(depth):
            kept.append(hidden)
            hidden = g.unary("relu", dense(f"encoders.{i}", hidden, r), save="output")
        for i in range(depth):
            hidden = g.add(g.unary("relu", dense(f"decoders.{i}", hidden, r), save="output"), kept[depth - 1 - i])
        delta = dense("B", hidden, out)
        scaled = g.unary("adapter_scale", delta, save="none")
        g.release(turned, delta, *kept)
        taken = g.cast(x, scaled.dtype, name="adapter_input")
        rows = x.numel / inner
        update = product(w, "delta", taken, scaled, rows, out, inner, (*x.shape[:-1], out))
        result = g.add(y, g.cast(update, y.dtype), name="adapter_add")
        g.release(x, taken, scaled, update)
        return result

    shown = {"rank": rank, "depth": depth}
    return adapted(method, arch, beside, shown, formula="sum over targets of 2 · r · out + 2 · depth · r²", bases=())


register(
    MethodKind(
        "peanut",
        "PEANuT",
        "Trains a small network that makes the update from the weight.",
        ("rank", "depth", *SELECTION, *COMMON),
        "Zhong et al. 2024, arXiv:2410.01870",
        _bind,
    )
)
