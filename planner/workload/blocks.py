"""One transformer block: norms, branches and residual sums in the order of its family."""

from __future__ import annotations

from planner.workload.attention import attention, cross_attention
from planner.workload.graph import Tensor
from planner.workload.mlp import mlp
from planner.workload.regions import enter, leave
from planner.workload.writer import Writer


def block(w: Writer, index: int, x: Tensor) -> Tensor:
    """One transformer block."""
    layer = w.arch.path(index)
    arch, g = w.arch, w.graph
    if arch.layout is not None:
        return arch.layout.write(w, layer, index, x)
    norms = [f"{layer}.{name}" for name in w.names.norms]
    p = w.active(arch.hidden_dropout)
    h = arch.hidden
    p, q = (p if arch.branch_dropout in ("both", branch) else 0.0 for branch in ("attention", "mlp"))
    if arch.placement == "pre":
        first = w.norm(norms[0], x, h) if arch.first_norm else x
        x = g.add(x, scaled(w, g.dropout(mixed(w, layer, index, first), p)), name="residual")
        if arch.cross is not None:
            branch = cross_attention(w, layer, index, arch.cross, w.norm(f"{layer}.{arch.cross.norm}", x, h))
            x = g.add(x, g.dropout(branch, p), name="residual")
        return g.add(x, scaled(w, g.dropout(fed(w, layer, w.norm(norms[1], x, h)), q)), name="residual")
    if arch.placement == "post":
        x = after_sum(w, norms[0], g.dropout(mixed(w, layer, index, x), p), x)
        if arch.cross is not None:
            x = after_sum(
                w, f"{layer}.{arch.cross.norm}", g.dropout(cross_attention(w, layer, index, arch.cross, x), p), x
            )
        w.kept = (*w.kept, x)  # `attention_output`
        return after_sum(w, norms[1], g.dropout(fed(w, layer, x), q), x)
    if arch.placement == "sandwich":
        x = g.add(x, scaled(w, w.norm(norms[1], mixed(w, layer, index, w.norm(norms[0], x, h)), h)), name="residual")
        return g.add(x, scaled(w, w.norm(norms[3], fed(w, layer, w.norm(norms[2], x, h)), h)), name="residual")
    if arch.placement == "post-branch":
        x = g.add(x, w.norm(norms[0], mixed(w, layer, index, x), h), name="residual")
        return g.add(x, w.norm(norms[1], fed(w, layer, x), h), name="residual")
    first = w.norm(norms[0], x, h)
    attended = g.dropout(mixed(w, layer, index, first), p)
    second = w.norm(norms[1], x, h) if arch.parallel_norms == 2 else first
    return g.add(g.add(g.dropout(fed(w, layer, second), q), attended, name="residual"), x, name="residual")


def mixed(w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
    """Attention inside the tensor-parallel region."""
    return leave(w, attention(w, layer, index, enter(w, x)))


def fed(w: Writer, layer: str, x: Tensor) -> Tensor:
    """The MLP inside the tensor-parallel region; routed tokens stay divided where experts are not."""
    if w.arch.experts is not None and w.s.split.ep > 1 and w.s.split.sequence:
        return mlp(w, layer, x)
    return leave(w, mlp(w, layer, enter(w, x)))


def after_sum(w: Writer, norm: str, branch: Tensor, x: Tensor) -> Tensor:
    """`norm(branch + x)`; the variable that holds the branch lives until the norm is done."""
    y = w.norm(norm, w.graph.add(branch, x, name="residual"), w.arch.hidden)
    w.graph.release(branch)
    return y


def scaled(w: Writer, branch: Tensor) -> Tensor:
    """A branch's output times the residual multiplier of the family that has one (Granite)."""
    return w.graph.unary("residual_scale", branch, save="none") if w.arch.residual_scaled else branch
