"""PVeRA: VeRA whose hidden features are drawn from a trained normal distribution (arXiv:2512.07703), as peft's PVeRA runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Kernel, Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import settle_buffers, shared_buffer
from planner.workload.methods.targets import COMMON, SELECTION, adapted
from planner.workload.methods.vera import TARGETS as _VERA

if TYPE_CHECKING:
    from planner.workload.writer import Writer

TARGETS = {**_VERA, "dinov2": ("query", "value")}
"""What peft adapts when no target is given."""


def _bind(method: Method, arch: Architecture) -> Adaptation:
    rank, dropout = method.rank or 256, method.dropout or 0.0

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.pvera.Linear.forward: `result + b · (B (mu + eps · exp(logvar / 2)))` with both halves from `d · (A x)`."""
        g, r, inner = w.graph, float(rank), x.shape[-1]
        y = layer(x)
        scale_b = w.adapter(path + ".pvera_lambda_b", (out,))
        scale_d = w.adapter(path + ".pvera_lambda_d", (2 * r,))
        a = shared_buffer(w, "pvera_A", (2 * r, inner), (2 * r, inner))
        b = shared_buffer(w, "pvera_B", (out, r), (out, r))
        taken = g.cast(x, scale_d.dtype, name="adapter_input")
        both = g.mul(scale_d, g.linear(g.dropout(taken, dropout), a, name="pvera_A"), name="pvera_d")
        mean, spread = g.split(both, [(*x.shape[:-1], r)] * 2)
        std = g.unary("exp", g.unary("half", spread, save="none"), save="output")
        noise = g.new(std.shape, std.dtype, False, "noise")
        g.add_operation("noise", "elementwise", (), (noise,), (), (Kernel("elementwise", noise.bytes),), ())
        drawn = g.add(mean, g.mul(noise, std, name="noise_scale"))
        g.release(std, noise)
        update = g.mul(scale_b, g.linear(drawn, b, name="pvera_B"), name="pvera_b")
        result = g.cast(g.add(y, update, name="adapter_add"), x.dtype, name="adapter_output")
        g.release(x, taken, both)
        return result

    formula = "sum over targets of 2 · r + out"
    return adapted(
        method, arch, beside, {"rank": rank}, TARGETS, only="pvera_only", finish=settle_buffers, formula=formula
    )


register(
    MethodKind(
        "pvera",
        "PVeRA",
        "Trains scaling vectors around a shared random pair, with drawn hidden features.",
        ("rank", "dropout", *SELECTION, "bias", *COMMON),
        "arXiv:2512.07703",
        _bind,
    )
)
