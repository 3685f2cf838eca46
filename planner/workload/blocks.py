"""One transformer block: norms, branches and residual sums in the order of its family."""

from __future__ import annotations

from planner.workload.attention import attention
from planner.workload.graph import Tensor
from planner.workload.mlp import mlp
from planner.workload.writer import Writer


def block(w: Writer, index: int, x: Tensor) -> Tensor:
    """One transformer block."""
    layer = w.names.layer.replace("{i}", str(index))
    arch, g = w.arch, w.graph
    if arch.layout is not None:
        return arch.layout.write(w, layer, index, x)
    norms = [f"{layer}.{name}" for name in w.names.norms]
    p = w.active(arch.hidden_dropout)
    h = arch.hidden
    if arch.placement == "pre":
        first = w.norm(norms[0], x, h) if arch.first_norm else x
        x = g.add(x, scaled(w, g.dropout(attention(w, layer, index, first), p)), name="residual")
        return g.add(x, scaled(w, g.dropout(mlp(w, layer, w.norm(norms[1], x, h)), p)), name="residual")
    if arch.placement == "post":
        p, q = (p if arch.branch_dropout in ("both", branch) else 0.0 for branch in ("attention", "mlp"))
        x = w.norm(norms[0], g.add(g.dropout(attention(w, layer, index, x), p), x, name="residual"), h)
        w.kept = (*w.kept, x)  # `attention_output`
        return w.norm(norms[1], g.add(g.dropout(mlp(w, layer, x), q), x, name="residual"), h)
    if arch.placement == "sandwich":
        x = g.add(
            x, scaled(w, w.norm(norms[1], attention(w, layer, index, w.norm(norms[0], x, h)), h)), name="residual"
        )
        return g.add(x, scaled(w, w.norm(norms[3], mlp(w, layer, w.norm(norms[2], x, h)), h)), name="residual")
    if arch.placement == "post-branch":
        x = g.add(x, w.norm(norms[0], attention(w, layer, index, x), h), name="residual")
        return g.add(x, w.norm(norms[1], mlp(w, layer, x), h), name="residual")
    first = w.norm(norms[0], x, h)
    attended = g.dropout(attention(w, layer, index, first), p)
    second = w.norm(norms[1], x, h) if arch.parallel_norms == 2 else first
    return g.add(g.add(g.dropout(mlp(w, layer, second), p), attended, name="residual"), x, name="residual")


def scaled(w: Writer, branch: Tensor) -> Tensor:
    """A branch's output times the residual multiplier of the family that has one (Granite)."""
    return w.graph.unary("residual_scale", branch, save="none") if w.arch.residual_scaled else branch
