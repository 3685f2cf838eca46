"""TinyLoRA: a vector of a few numbers mixes random matrices between a weight's frozen principal directions (arXiv:2602.04118)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Parameter, Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import buffer, product
from planner.workload.methods.targets import COMMON, SELECTION, adapted
from planner.workload.modules import all_linears

if TYPE_CHECKING:
    from planner.workload.writer import Writer


def _bind(method: Method, arch: Architecture) -> Adaptation:
    rank, length, tying, dropout = method.rank or 2, method.vector_length or 64, method.tying or 0.0, method.dropout or 0.0

    def vector(w: Writer, path: str) -> Tensor:
        """This layer's vector, or that of its group (peft.tuners.tinylora.TinyLoraModel._create_and_replace)."""
        pooler = (arch.names.pooler,) if arch.pooler else ()
        order = [p for p in (*all_linears(arch), *pooler) if w.s.adaptation.adapts(p)]
        groups = max(1, round(len(order) * (1.0 - tying)))
        group = min(order.index(path) // max(1, len(order) // groups), groups - 1)
        name = f"tinylora_v.{group}" if tying else path + ".tinylora_v"
        if name in w.shared:
            return w.graph.parameter(w.shared[name])
        if tying:
            w.shared[name] = Parameter(name, (float(length),), w.adapter_type, True, adapter=True, shared=True)
        return w.added(name, (float(length),), w.adapter_type, True)

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.tinylora.Linear.forward: `result + B (R (A dropout(x)))` with R = Σ v_i P_i."""
        g, inner = w.graph, x.shape[-1]
        r, u = min(float(rank), inner, out), float(length)
        y = layer(x)
        v = vector(w, path)
        a, b = (buffer(w, f"{path}.tinylora_{n}", shape, w.adapter_type) for n, shape in (("A", (r, inner)), ("B", (out, r))))
        random = buffer(w, path + ".tinylora_P", (u, r, r), w.adapter_type)
        mixed = product(w, "tinylora_R", g.view(v, (1.0, u)), g.view(random, (u, r * r)), 1, r * r, u, (r, r))
        taken = g.cast(g.dropout(x, dropout), a.dtype, name="adapter_input")
        low = g.linear(g.linear(taken, a, name="tinylora_A"), mixed, name="tinylora_R")
        update = g.linear(low, b, name="tinylora_B")
        result = g.cast(g.add(y, update, name="adapter_add"), x.dtype, name="adapter_output")
        g.release(x, taken, low, update)
        return result

    shown = {"rank": rank, "vector_length": length, "tying": tying}
    whole = adapted(method, arch, beside, shown, only="tinylora_only", formula=f"vectors · {length}", bases=())
    return replace(whole, distinct=bool(tying))


register(
    MethodKind(
        "tinylora",
        "TinyLoRA",
        "Trains a vector that mixes random matrices between a weight's principal directions.",
        ("rank", "vector_length", "tying", "dropout", *SELECTION, "bias", *COMMON),
        "arXiv:2602.04118",
        _bind,
    )
)
