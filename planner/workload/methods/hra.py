"""HRA: the weight is multiplied by a chain of trained Householder reflections, formed whole at every step.

Yuan et al. 2024, arXiv:2405.17484 (eq. 4), as peft's HRA runs it: each reflection keeps a square matrix of the input's width, the base layer's own
forward is replaced by one with the reflected weight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Kernel, Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import made, needs_linear, product
from planner.workload.methods.targets import COMMON, SELECTION, adapted, has_bias

if TYPE_CHECKING:
    from planner.workload.writer import Writer


def _bind(method: Method, arch: Architecture) -> Adaptation:
    needs_linear(method, arch)
    rank = method.rank or 8

    def eye(w: Writer, width: float) -> Tensor:
        y = w.graph.new((width, width), "fp32", False, "eye")
        w.graph.add_operation("eye", "elementwise", (), (y,), (), (Kernel("elementwise", y.bytes),), ())
        return y

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.hra.HRALinear.forward: `F.linear(x, W · Π (I − 2 u uᵀ))`."""
        g, width = w.graph, x.shape[-1]
        base = w.weight(path + ".weight", (out, width), base=True)
        first = eye(w, width)
        u = w.adapter(path + ".hra_u", (width, float(rank)))
        unit = made(w, "unit", (u,), u.shape, u.dtype, (u,), passes=2)
        reflected = eye(w, width)
        square = (width, width)
        for _ in range(rank):
            column = g.view(unit, (width, 1))
            doubled = g.unary("double", reflected, save="none")
            along = product(w, "reflect", doubled, column, width, 1, width, (width, 1))
            outer = product(w, "reflect", along, column, width, width, 1, square)
            reflected = g.add(reflected, outer, name="reflect_subtract")
        chain = product(w, "reflect_base", first, reflected, width, width, width, square)
        weight = g.cast(base, chain.dtype)
        turned = product(w, "reflect_base", weight, chain, out, width, width, (out, width))
        taken = g.cast(x, turned.dtype, name="adapter_input")
        bias = w.weight(path + ".bias", (out,)) if has_bias(arch, path) else None
        y = g.linear(taken, turned, None if bias is None else g.cast(bias, turned.dtype), name="delta")
        result = g.cast(y, x.dtype, name="adapter_output")
        g.release(x, taken, first, weight, turned, reflected)
        return result

    return adapted(
        method, arch, beside, {"rank": rank}, only="hra_only", formula="sum over targets of r · in", bases=()
    )


register(
    MethodKind(
        "hra",
        "HRA",
        "Trains a chain of Householder reflections of a layer's input.",
        ("rank", *SELECTION, "bias", *COMMON),
        "Yuan et al. 2024, arXiv:2405.17484",
        _bind,
    )
)
