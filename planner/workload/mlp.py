"""The feed-forward part of a block."""

from __future__ import annotations

from planner.workload.graph import Kernel, Tensor
from planner.workload.writer import Writer


def mlp(w: Writer, layer: str, x: Tensor) -> Tensor:
    """Plain (up, activation, down) or gated (Shazeer 2020, arXiv:2002.05202, eq. 6) MLP."""
    y = w.s.adaptation.after(w, layer, "mlp", x, _mlp(w, layer, x))
    w.graph.release(x)  # the caller's variable
    return y


def _mlp(w: Writer, layer: str, x: Tensor) -> Tensor:
    arch, n, g = w.arch, w.names, w.graph
    if not arch.gated:
        hidden = w.activation(w.linear(f"{layer}.{n.up}", x, arch.ffn, bias=arch.mlp_bias))
        if arch.placement == "post" and not arch.causal:
            w.kept = (*w.kept, hidden)  # `intermediate_output`
        return w.linear(f"{layer}.{n.down}", hidden, arch.hidden, bias=arch.mlp_bias)
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
    return w.linear(f"{layer}.{n.down}", product, arch.hidden, bias=arch.mlp_bias)


def glu(w: Writer, gate: Tensor, up: Tensor) -> Tensor:
    """One fused kernel for activation(gate) · up; keeps both inputs."""
    g = w.graph
    y = g.new(gate.shape, gate.dtype, gate.requires_grad or up.requires_grad, "glu")
    saved = (gate, up) if y.requires_grad else ()
    moved = gate.bytes + up.bytes + y.bytes
    g.add_operation(
        "glu",
        "elementwise",
        (gate, up),
        (y,),
        saved,
        (Kernel("elementwise", moved),),
        (Kernel("elementwise", moved + 2 * y.bytes),),
    )
    return y
