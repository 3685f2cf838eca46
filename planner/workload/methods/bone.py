"""Bone with its own update (`bat`): blocks of the weight are multiplied with a trained block and shifted by it, W' = W + W B + B, at every step
(Kang & Yin 2024, arXiv:2409.15371, first version), as peft's MiSS runs it with `init_weights="bat"`.

The changed weight is a result that needs a gradient: the whole weight gradient of a layer is formed, and its input is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import made, needs_linear, product
from planner.workload.methods.targets import COMMON, SELECTION, adapted, has_bias

if TYPE_CHECKING:
    from planner.workload.writer import Writer


def _bind(method: Method, arch: Architecture) -> Adaptation:
    needs_linear(method, arch)

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.miss.MissLinear.forward and get_delta_weight."""
        g, inner = w.graph, x.shape[-1]
        rank = float(w.s.adaptation.adapts(path))
        if out % rank or inner % rank:
            raise PlanError("method.rank", round(rank), f"does not divide the {inner:.0f} × {out:.0f} weight of {path}", "Use a divisor of both.")
        base = w.weight(path + ".weight", (out, inner), base=True)
        block = w.adapter(path + ".miss_block", (out / rank, rank, rank))
        whole = (out, inner)
        clone = made(w, "clone", (base,), whole, base.dtype)
        wide = g.cast(clone, block.dtype)
        # the batched product wants its operands contiguous: the weight by blocks, and the trained block once for every column of blocks
        rows = g.copy(g.lower(wide), whole, name="blocks")
        again = g.copy(g.lower(block), whole, name="repeat_block")
        multiplied = product(w, "bat", rows, again, rank, rank, rank, whole, batch=out * inner / rank**2)
        shifted = g.add(multiplied, block, name="bat_add")
        update = g.copy(shifted, whole, name="by_rows")
        g.release(wide, shifted)  # local variables of get_delta_weight
        changed = g.add(clone, update, name="merge")
        taken = g.cast(x, changed.dtype, name="adapter_input")
        bias = g.cast(w.weight(path + ".bias", (out,)), changed.dtype) if has_bias(arch, path) else None
        y = g.cast(g.linear(taken, changed, bias, name="delta"), x.dtype, name="adapter_output")
        g.release(x, update, changed, taken)
        return y

    return adapted(method, arch, beside, {"rank": method.rank or 64}, rank=64, bases=())


register(
    MethodKind(
        "bone",
        "Bone",
        "Trains a block that multiplies and shifts the blocks of a weight; costs far more than MiSS, its successor.",
        ("rank", *SELECTION, "rank_pattern", *COMMON),
        "Kang & Yin 2024, arXiv:2409.15371v1",
        _bind,
    )
)
