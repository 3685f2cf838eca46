"""Rotary positions of pairs of neighbouring features, in fp32 (diffusers 0.42 `apply_rotary_emb`)."""

from __future__ import annotations

from planner.workload.graph import Kernel, Tensor
from planner.workload.writer import Writer


def rotated_pairs(w: Writer, x: Tensor) -> Tensor:
    """`(x.float() · cos + rotated.float() · sin).to(x.dtype)`; a fused stack takes one kernel."""
    g = w.graph
    if not w.s.eager:
        y = g.new(x.shape, x.dtype, x.requires_grad, "rotary")
        moved = (Kernel("elementwise", 2 * x.bytes),)
        g.add_operation("rotary", "elementwise", (x,), (y,), (), moved, moved)
        return y
    half = (*x.shape[:-1], x.shape[-1] / 2)
    real, imaginary = g.split(x, [half, half])
    turned = g.cat((g.unary("negate", imaginary, save="none"), real), x.shape, name="stack")
    first = g.unary("rotary_cos", g.cast(x, "fp32"), save="none")
    second = g.unary("rotary_sin", g.cast(turned, "fp32"), save="none")
    out = g.cast(g.add(first, second, name="rotary_add"), x.dtype)
    g.release(turned)
    return out
