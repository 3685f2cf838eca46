"""HiRA: the update is the frozen weight times a low-rank product, element by element, formed whole at every step (Huang et al. 2025, eq. 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import product
from planner.workload.methods.targets import COMMON, SELECTION, adapted

if TYPE_CHECKING:
    from planner.workload.writer import Writer


def _bind(method: Method, arch: Architecture) -> Adaptation:
    dropout = method.dropout or 0.0

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.hira.Linear.forward: `result + F.linear(dropout(x), W * (A.T @ B.T).T)`."""
        g, inner, rank = w.graph, x.shape[-1], float(w.s.adaptation.adapts(path))
        y = layer(x)
        a, b = w.adapter(path + ".hira_A", (rank, inner)), w.adapter(path + ".hira_B", (out, rank))
        low = product(w, "hira", g.lower(a), g.lower(b), inner, out, rank, (out, inner))
        taken = g.cast(x, a.dtype, name="adapter_input")
        dropped = g.dropout(taken, dropout)
        base = w.weight(path + ".weight", (out, inner), base=True)
        if arch.model_type == "gpt2":  # a transposed layer's weight becomes a parameter of its own, which requires a gradient
            base = Tensor(base.shape, base.dtype, base.storage, True)
        scaled = g.mul(base, low, name="hira_scale")
        update = g.linear(dropped, scaled, name="delta")
        total = g.add(y, update, name="adapter_add")
        result = g.cast(total, y.dtype, name="adapter_output")
        g.release(x, taken, dropped, low, update)
        return result

    return adapted(method, arch, beside, {"rank": method.rank or 32}, rank=32, bases=())


register(
    MethodKind(
        "hira",
        "HiRA",
        "Trains a low-rank product that scales every entry of a weight.",
        ("rank", "dropout", *SELECTION, "rank_pattern", *COMMON),
        "Huang et al. 2025, openreview.net/forum?id=TwJrTz9cRS",
        _bind,
    )
)
