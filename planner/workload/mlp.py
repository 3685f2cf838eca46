"""The feed-forward part of a block."""

from __future__ import annotations

from planner.workload.graph import Tensor
from planner.workload.moe import glu, mixture
from planner.workload.writer import Writer


def mlp(w: Writer, layer: str, x: Tensor) -> Tensor:
    """Plain (up, activation, down) or gated (Shazeer 2020, arXiv:2002.05202, eq. 6) MLP."""
    y = w.s.adaptation.after(w, layer, "mlp", x, _mlp(w, layer, x))
    w.graph.release(x)  # the caller's variable
    return y


def _mlp(w: Writer, layer: str, x: Tensor) -> Tensor:
    arch, n, g = w.arch, w.names, w.graph
    if arch.feed_forward is not None:
        return arch.feed_forward.write(w, layer, x)
    if arch.experts is not None:
        return mixture(w, layer, arch.experts, x)
    if not arch.gated:
        hidden = w.activation(w.linear(f"{layer}.{n.up}", x, arch.ffn, bias=arch.mlp_bias), f"{layer}.{n.activation}")
        if arch.placement == "post" and not arch.causal:
            w.kept = (*w.kept, hidden)  # `intermediate_output`
        return w.linear(f"{layer}.{n.down}", before_down(w, hidden), arch.hidden, bias=arch.down_biased)
    if arch.fused_gate_up:
        both = w.linear(f"{layer}.{n.up}", x, 2 * arch.ffn, bias=arch.mlp_bias)
        half = (*both.shape[:-1], arch.ffn)
        gate, up = g.split(both, [half, half])
    else:
        gate = w.linear(f"{layer}.{n.gate}", x, arch.ffn, bias=arch.mlp_bias)
        if w.s.eager:
            gate = w.activation(gate)
        up = w.linear(f"{layer}.{n.up}", x, arch.ffn, bias=arch.mlp_bias)
    if not w.s.eager:
        product = glu(w, gate, up)
    elif arch.fused_gate_up:
        product = g.mul(up, w.activation(gate))
    else:
        product = g.mul(gate, up)
    if n.inner_norm:
        product = w.norm(f"{layer}.{n.inner_norm}", product, arch.ffn)
    return w.linear(f"{layer}.{n.down}", before_down(w, product), arch.hidden, bias=arch.down_biased)


def before_down(w: Writer, hidden: Tensor) -> Tensor:
    """Dropout of the hidden values, and the type of the last weight where the family asks for it."""
    hidden = w.graph.dropout(hidden, w.active(w.arch.activation_dropout))
    return w.graph.cast(hidden, w.s.formats.graph) if w.arch.wide_down and w.s.eager else hidden
