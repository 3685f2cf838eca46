"""MiSS (formerly Bone): the input is summed over blocks of `rank` features, then one trained matrix maps the sum to the output (Kang & Yin 2024)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Kernel, Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import needs_linear
from planner.workload.methods.targets import ANY_BASE, COMMON, SELECTION, adapted

if TYPE_CHECKING:
    from planner.workload.writer import Writer


def _bind(method: Method, arch: Architecture) -> Adaptation:
    needs_linear(method, arch)
    dropout = method.dropout or 0.0

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.miss.MissLinear.forward: `result + sum(dropout(x) in blocks) @ miss`; the input is padded to whole blocks."""
        g = w.graph
        y = layer(x)
        rank = float(w.s.adaptation.adapts(path))
        block = w.adapter(path + ".miss_block", (out, rank))
        given, shape = x, x.shape
        if shape[-1] % rank:
            x = g.copy(x, (*shape[:-1], shape[-1] + rank - shape[-1] % rank), name="pad")
        taken = g.dropout(g.cast(x, block.dtype, name="adapter_input"), dropout)
        summed = g.new((*shape[:-1], rank), taken.dtype, taken.requires_grad, "block_sum")
        moved = Kernel("reduction", taken.bytes + summed.bytes)
        g.add_operation(
            "block_sum", "elementwise", (taken,), (summed,), (), (moved,), (Kernel("elementwise", taken.bytes),)
        )
        update = g.linear(summed, block, name="miss")
        result = g.cast(g.add(y, update, name="adapter_add"), x.dtype, name="adapter_output")
        g.release(given, taken)
        return result

    return adapted(method, arch, beside, {"rank": method.rank or 64}, rank=64, bases=ANY_BASE)


register(
    MethodKind(
        "miss",
        "MiSS",
        "Trains one matrix on the input summed over blocks.",
        ("rank", "dropout", *SELECTION, "rank_pattern", *COMMON),
        "Kang & Yin 2024, arXiv:2409.15371",
        _bind,
    )
)
