"""GraLoRA: a LoRA update of its own for each of k × k blocks of a weight (Jung et al. 2025, arXiv:2505.20355, eq. 7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import add_in_place, product
from planner.workload.methods.targets import COMMON, SELECTION, adapted

if TYPE_CHECKING:
    from planner.workload.writer import Writer


def _bind(method: Method, arch: Architecture) -> Adaptation:
    rank, blocks, hybrid, dropout = method.rank or 32, method.blocks or 2, method.hybrid_rank or 0, method.dropout or 0.0
    if rank % blocks:
        raise PlanError("method.rank", rank, f"is not a multiple of the {blocks} blocks", "Use a multiple.")

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.gralora.Linear.forward: products by block of the input, an exchange of their parts, products by block of the output."""
        g, inner, r, k = w.graph, x.shape[-1], float(rank), float(blocks)
        for width in (inner, out):
            if width % k:
                raise PlanError(
                    "method.blocks", blocks, f"does not divide the {width:.0f} features of {path}", "Use a divisor."
                )
        y = layer(x)
        rows = x.numel / inner
        a, b = w.adapter(path + ".gralora_A", (k, inner / k, r)), w.adapter(path + ".gralora_B", (k, r, out / k))
        taken = g.dropout(g.cast(x, a.dtype, name="adapter_input"), dropout)
        low = product(w, "gralora_A", taken, g.lower(a), rows, r, inner / k, (*x.shape[:-1], k * r), batch=k)
        exchanged = g.copy(low, name="exchange")
        wide = product(w, "gralora_B", exchanged, g.lower(b), rows, out / k, r, (*x.shape[:-1], out), batch=k)
        output = g.copy(wide, name="joined")
        scaled = g.unary("adapter_scale", g.cast(output, y.dtype), save="none")
        result = add_in_place(w, y, scaled)
        if hybrid:
            one = w.adapter(path + ".gralora_A_general", (hybrid, inner))
            two = w.adapter(path + ".gralora_B_general", (out, hybrid))
            again = g.dropout(g.cast(x, a.dtype, name="adapter_input"), dropout)
            general = g.linear(g.linear(again, one, name="gralora_A_general"), two, name="gralora_B_general")
            result = add_in_place(w, result, g.unary("adapter_scale", g.cast(general, y.dtype), save="none"))
        g.release(x, output)
        return g.cast(result, x.dtype, name="adapter_output")

    shown = {"rank": rank, "blocks": blocks, "hybrid_rank": hybrid}
    return adapted(method, arch, beside, shown, formula="sum over targets of (r + hybrid) · (in + out)")


register(
    MethodKind(
        "gralora",
        "GraLoRA",
        "Trains a low-rank update for each block of a weight.",
        ("rank", "alpha", "blocks", "hybrid_rank", "dropout", *SELECTION, *COMMON),
        "Jung et al. 2025, arXiv:2505.20355",
        _bind,
    )
)
