"""DEFT: the output loses its part along trained directions and gains a trained low-rank part there: W' = (I − P relu(P)ᵀ) W + P R (peft's DEFT)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import product, without_bias
from planner.workload.methods.targets import COMMON, SELECTION, adapted, has_bias

if TYPE_CHECKING:
    from planner.workload.writer import Writer


def _bind(method: Method, arch: Architecture) -> Adaptation:
    dropout, variant = method.dropout or 0.0, method.variant or "relu"
    if variant != "relu":
        raise PlanError("method.variant", variant, "is not planned: its time is that of a QR decomposition", "Use relu.")

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.deft.DeftLinear.forward, in fp32 outside of the products."""
        g, inner = w.graph, x.shape[-1]
        rank = min(float(w.s.adaptation.adapts(path)), out)
        base = layer(x)
        p = g.cast(w.adapter(path + ".deft_P", (out, rank)), "fp32")
        r = w.adapter(path + ".deft_R", (rank, inner))
        y = g.cast(base, "fp32", name="result_fp32")
        plain = without_bias(w, y) if has_bias(arch, path) else y
        taken = g.cast(x, "fp32", name="adapter_input")
        right = g.unary("relu", p, save="output")
        rows = y.numel / out
        low = product(w, "deft_right", plain, right, rows, rank, out, (*y.shape[:-1], rank))
        correction = product(w, "deft_P", low, g.lower(p), rows, out, rank, y.shape)
        y2 = g.add(y, correction, name="subtract")
        scaled = g.unary("adapter_scale", g.cast(r, "fp32"), save="none")
        dropped = g.dropout(taken, dropout)
        injected = product(w, "deft_P", g.linear(dropped, scaled, name="deft_R"), g.lower(p), rows, out, rank, y.shape)
        total = g.add(y2, injected, name="adapter_add")
        g.release(base, plain, right, correction, dropped, y2)
        result = g.cast(total, x.dtype, name="adapter_output")
        g.release(x, taken, scaled, total)
        return result

    return adapted(method, arch, beside, {"rank": method.rank or 8, "variant": variant}, rank=8)


register(
    MethodKind(
        "deft",
        "DEFT",
        "Trains directions that are taken out of the output, and what is put there.",
        ("rank", "alpha", "dropout", "variant", *SELECTION, *COMMON),
        "NeurIPS 2025 (93a34a7138bdad95e874018d5f491cc6); peft 0.21, tuners/deft",
        _bind,
    )
)
