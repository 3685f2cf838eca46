"""SHiRA: a few entries of a weight, chosen once, are trained; the layer runs with a copy of the weight that has them
(Bhardwaj et al. 2024, arXiv:2406.13175)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Kernel, Parameter, Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import needs_linear
from planner.workload.methods.targets import COMMON, DEFAULT_TARGETS, adapted, has_bias

if TYPE_CHECKING:
    from planner.workload.writer import Writer


TARGETS = {**DEFAULT_TARGETS, "phi": ("q_proj", "v_proj")}
"""What peft adapts when no target is given."""

def _bind(method: Method, arch: Architecture) -> Adaptation:
    needs_linear(method, arch)
    rank = method.rank or 32

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.shira.Linear.forward: `F.linear(x, W.clone() + sparse(indices, values), bias)`; the gradient of the weight is formed
        whole, then read at the trained entries."""
        g, inner = w.graph, x.shape[-1]
        count = rank * (inner + out)
        if count > inner * out:
            raise PlanError(
                "method.rank", rank, f"trains more than the {inner * out:.0f} entries of {path}", "Use a lower rank."
            )
        base = w.weight(path + ".weight", (out, inner), base=True)
        values = w.adapter(path + ".shira_weight", (count,))
        index = w.graph.parameter(Parameter(path + ".shira_indices", (count,), "int64", False, adapter=True, buffer=True))
        changed = g.new((out, inner), base.dtype, False, "changed_weight")
        g.add_operation("clone", "elementwise", (base,), (changed,), (), (Kernel("elementwise", 2 * changed.bytes),), ())
        scaled = g.unary("adapter_scale", values, save="none")
        sparse = g.new(scaled.shape, scaled.dtype, True, "sparse")
        moved = Kernel("elementwise", 2 * index.bytes + 2 * sparse.bytes)
        g.add_operation("sparse", "elementwise", (scaled, index), (sparse,), (index,), (moved,), (moved,))
        weight = Tensor(changed.shape, changed.dtype, changed.storage, True)
        g.add_operation("sparse_add", "elementwise", (changed, sparse), (weight,), (), (moved,), (moved,), alias=True)
        bias = w.weight(path + ".bias", (out,)) if has_bias(arch, path) else None
        y = g.linear(x, weight, bias, name="delta")
        g.release(x, weight)
        return y

    return adapted(method, arch, beside, {"rank": rank}, TARGETS, bases=())


register(
    MethodKind(
        "shira",
        "SHiRA",
        "Trains as many entries of a weight as LoRA of the same rank has parameters.",
        ("rank", "targets", *COMMON),
        "Bhardwaj et al. 2024, arXiv:2406.13175",
        _bind,
    )
)
