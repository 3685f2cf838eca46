"""DeLoRA: LoRA whose update has normalized directions and a trained strength (Bini et al. 2025, arXiv:2503.18225, eq. 5; peft's DeLoRA)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Kernel, Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import add_in_place, buffer, made, needs_linear
from planner.workload.methods.targets import COMMON, SELECTION, adapted

if TYPE_CHECKING:
    from planner.workload.writer import Writer


def _bind(method: Method, arch: Architecture) -> Adaptation:
    needs_linear(method, arch)
    dropout = method.dropout or 0.0

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.delora.DeloraLinear.forward."""
        g, r, inner = w.graph, float(w.s.adaptation.adapts(path)), x.shape[-1]
        y = layer(x)
        a, b = w.adapter(path + ".delora_A", (r, inner)), w.adapter(path + ".delora_B", (out, r))
        strength = w.adapter(path + ".delora_lambda", (1,))
        norm = buffer(w, path + ".delora_w_norm", (inner,), w.adapter_type)
        zeros = g.new(y.shape, y.dtype, False, "zeros")
        g.add_operation("zeros", "elementwise", (), (zeros,), (), (Kernel("elementwise", zeros.bytes),), ())
        dropped = g.dropout(x, dropout)
        weighted = g.mul(dropped, norm, name="input_norm")
        low = g.linear(weighted, a, name="delora_A")
        scaling = made(w, "scaling", (strength, a, b), (r,), a.dtype, (a, b), passes=4)
        update = g.linear(g.mul(low, scaling, name="delora_scale"), b, name="delora_B")
        total = add_in_place(w, zeros, update)
        result = g.cast(g.add(y, total, name="adapter_add"), x.dtype, name="adapter_output")
        g.release(x, y, dropped, update, total)
        return result

    return adapted(
        method,
        arch,
        beside,
        {"rank": method.rank or 8},
        rank=8,
        only="delora_only",
        formula="sum over targets of r · (in + out) + 1",
        bases=(),
    )


register(
    MethodKind(
        "delora",
        "DeLoRA",
        "LoRA with normalized directions and a trained strength.",
        ("rank", "dropout", *SELECTION, "rank_pattern", "bias", *COMMON),
        "Bini et al. 2025, arXiv:2503.18225",
        _bind,
    )
)
