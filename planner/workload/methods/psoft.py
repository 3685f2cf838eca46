"""PSOFT: a trained rotation and two scales between a weight's frozen principal directions (openreview FSHrinMArK), as peft's PSOFT runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import buffer, made, needs_linear
from planner.workload.methods.targets import COMMON, SELECTION, adapted

if TYPE_CHECKING:
    from planner.workload.writer import Writer


def _bind(method: Method, arch: Architecture) -> Adaptation:
    needs_linear(method, arch)
    rank, dropout = method.rank or 32, method.dropout or 0.0

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.psoft.Linear.forward: `result + ((A x) R.T − A x) B.T · scaling`; R is Cayley's transform by a linear solve."""
        g, inner, r = w.graph, x.shape[-1], float(rank)
        if rank > min(inner, out):
            raise PlanError("method.rank", rank, f"is more than the rank of {path}", f"Use at most {min(inner, out):.0f}.")
        y = layer(x)
        a, b = (buffer(w, f"{path}.psoft_{name}", shape, "fp32") for name, shape in (("A", (r, inner)), ("B", (out, r))))
        weight = w.adapter(path + ".psoft_R.weight", (r * (r - 1) / 2,))
        for name in ("rows", "cols"):
            buffer(w, f"{path}.psoft_R.{name}", weight.shape, "int64")
        rows_scale, columns_scale = (w.adapter(f"{path}.psoft_R.vector_{name}", (r,)) for name in ("b", "a"))
        square = (r, r)
        skew = made(w, "skew", (made(w, "skew_fill", (weight,), square, weight.dtype),), square, weight.dtype, passes=2)
        solved = made(w, "cayley", (skew,), square, weight.dtype, passes=6, scratch=(3 * skew.bytes, 3 * skew.bytes))
        left = made(w, "left", (skew,), square, weight.dtype, (solved,), passes=2)
        turned = g.mul(g.mul(rows_scale, g.add(solved, left)), columns_scale)
        taken = g.dropout(g.cast(x, a.dtype, name="adapter_input"), dropout)
        low = g.linear(taken, a, name="psoft_A")
        rotated = g.cast(g.linear(low, turned, name="psoft_R"), low.dtype)
        moved = g.add(rotated, low, name="subtract")
        update = g.linear(moved, b, name="psoft_B")
        total = g.add(y, g.unary("adapter_scale", update, save="none"), name="adapter_add")
        result = g.cast(total, y.dtype, name="adapter_output")
        g.release(x, y, taken, low, rotated, moved, update)
        return result

    formula = "sum over targets of r · (r − 1) / 2 + 2 · r"
    return adapted(method, arch, beside, {"rank": rank}, formula=formula, bases=())


register(
    MethodKind(
        "psoft",
        "PSOFT",
        "Trains a rotation between a weight's principal directions.",
        ("rank", "alpha", "dropout", *SELECTION, *COMMON),
        "openreview.net/forum?id=FSHrinMArK",
        _bind,
    )
)
