"""VeRA: one frozen random pair of matrices for all layers, and two trained scaling vectors per layer (Kopiczko et al. 2023, eq. 2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import settle_buffers, shared_buffer
from planner.workload.methods.targets import ANY_BASE, COMMON, DEFAULT_TARGETS, SELECTION, adapted

if TYPE_CHECKING:
    from planner.workload.writer import Writer

TARGETS = {**DEFAULT_TARGETS, "phi": ("q_proj", "v_proj")}
"""What peft adapts when no target is given."""


def _bind(method: Method, arch: Architecture) -> Adaptation:
    rank, dropout = method.rank or 256, method.dropout or 0.0

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.vera.Linear.forward: `result + b · (B (d · (A dropout(x))))`, A and B slices of the shared buffers."""
        g = w.graph
        y = layer(x)
        scale_d = w.adapter(path + ".vera_lambda_d", (float(rank),))
        scale_b = w.adapter(path + ".vera_lambda_b", (out,))
        r, inner = float(rank), x.shape[-1]
        a = shared_buffer(w, "vera_A", (r, inner), (r, inner))
        b = shared_buffer(w, "vera_B", (out, r), (out, r))
        taken = g.dropout(g.cast(x, a.dtype, name="adapter_input"), dropout)
        low = g.mul(scale_d, g.linear(taken, a, name="vera_A"), name="vera_d")
        update = g.mul(scale_b, g.linear(low, b, name="vera_B"), name="vera_b")
        result = g.cast(g.add(y, update, name="adapter_add"), x.dtype, name="adapter_output")
        g.release(x, taken)
        return result

    return adapted(
        method, arch, beside, {"rank": rank}, TARGETS, only="vera_only", finish=settle_buffers, bases=ANY_BASE
    )


register(
    MethodKind(
        "vera",
        "VeRA",
        "Trains scaling vectors around one shared pair of frozen random matrices.",
        ("rank", "dropout", *SELECTION, "bias", *COMMON),
        "Kopiczko et al. 2023, arXiv:2310.11454",
        _bind,
    )
)
