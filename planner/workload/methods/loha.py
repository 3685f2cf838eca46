"""LoHa: the update is the elementwise product of two low-rank products (Hyeon-Woo et al. 2021, eq. 3), formed whole at every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Kernel, Tensor, matmul_kernel
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import needs_linear
from planner.workload.methods.targets import COMMON, SELECTION, adapted

if TYPE_CHECKING:
    from planner.workload.writer import Writer


def _bind(method: Method, arch: Architecture) -> Adaptation:
    needs_linear(method, arch)

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.loha.HadaWeight: keeps only the factors; forward and backward each form both products."""
        g = w.graph
        y = layer(x)
        inner, rank = x.shape[-1], float(w.s.adaptation.adapts(path))
        factors = [
            w.adapter(f"{path}.hada_w{i}_{side}", shape)
            for i in (1, 2)
            for side, shape in (("a", (out, rank)), ("b", (rank, inner)))
        ]
        dtype = g.autocast or factors[0].dtype
        delta = g.new((out, inner), dtype, True, "delta_weight")
        product, size = matmul_kernel(out, inner, rank, dtype), delta.bytes
        halves = (
            matmul_kernel(out, rank, inner, dtype, layout="dgrad"),
            matmul_kernel(rank, inner, out, dtype, layout="wgrad"),
        )
        g.add_operation(
            "hadamard",
            "matmul",
            factors,
            (delta,),
            (),
            (product, product, Kernel("elementwise", 3 * size), Kernel("elementwise", 2 * size)),
            (Kernel("elementwise", 2 * size), product, Kernel("elementwise", 3 * size), *halves) * 2,
            temporary=(2 * size, 3 * size),
        )
        taken = g.cast(x, delta.dtype, name="adapter_input")
        update = g.linear(taken, delta, name="delta")
        result = g.cast(g.add(y, update, name="adapter_add"), x.dtype, name="adapter_output")
        g.release(x)
        return result

    return adapted(method, arch, beside, {"rank": method.rank or 8}, rank=8)


register(
    MethodKind(
        "loha",
        "LoHa",
        "Trains the elementwise product of two low-rank products.",
        ("rank", "alpha", *SELECTION, "rank_pattern", "alpha_pattern", *COMMON),
        "Hyeon-Woo et al. 2021, arXiv:2108.06098",
        _bind,
    )
)
