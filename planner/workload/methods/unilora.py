"""Uni-LoRA: one trained vector for the whole model; every entry of every LoRA matrix is one of its numbers, scaled
(Li et al. 2025, arXiv:2506.00799, eq. 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Kernel, Parameter, Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import buffer
from planner.workload.methods.targets import COMMON, SELECTION, adapted

if TYPE_CHECKING:
    from planner.workload.writer import Writer


VECTOR = "unilora_theta_d"

def _bind(method: Method, arch: Architecture) -> Adaptation:
    rank, length, dropout = method.rank or 4, method.vector_length or 256, method.dropout or 0.0

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.unilora.Linear.forward: `result + B (A dropout(x))` with A and B gathered from the vector."""
        g, inner, r = w.graph, x.shape[-1], float(rank)
        y = layer(x)
        known = w.shared.get(VECTOR)
        if known is None:
            w.shared[VECTOR] = Parameter(VECTOR, (float(length),), w.adapter_type, True, adapter=True, shared=True)
            theta = w.added(VECTOR, (float(length),), w.adapter_type, True)
        else:
            theta = g.parameter(known)

        def gathered(side: str, shape: tuple[float, ...]) -> Tensor:
            index = buffer(w, f"{path}.unilora_indices_{side}", shape, "int64")
            scale = buffer(w, f"{path}.unilora_scales_{side}", shape, w.adapter_type)
            taken = g.new(shape, theta.dtype, True, "gathered")
            moved = (Kernel("elementwise", index.bytes + 2 * taken.bytes),)
            g.add_operation("gather", "elementwise", (theta, index), (taken,), (index,), moved, moved)
            return g.mul(taken, scale, name="unilora_scale")

        a, b = gathered("A", (r, inner)), gathered("B", (out, r))
        taken = g.cast(x, theta.dtype, name="adapter_input")
        update = g.linear(g.linear(g.dropout(taken, dropout), a, name="unilora_A"), b, name="unilora_B")
        result = g.cast(g.add(y, update, name="adapter_add"), x.dtype, name="adapter_output")
        g.release(x, taken, a, b)
        return result

    shown = {"rank": rank, "vector_length": length}
    return adapted(method, arch, beside, shown, only="unilora_only", formula=f"{length}")


register(
    MethodKind(
        "unilora",
        "Uni-LoRA",
        "Trains one vector that all LoRA matrices are made of.",
        ("rank", "vector_length", "dropout", *SELECTION, "bias", *COMMON),
        "Li et al. 2025, arXiv:2506.00799",
        _bind,
    )
)
