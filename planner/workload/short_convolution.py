"""Causal depthwise convolution over a few neighbouring tokens, as state-space and linear-attention layers have it.

Sources: transformers 5.24 `causal_conv1d_fn`; Dao-AILab/causal-conv1d `causal_conv1d_interface.py` (CausalConv1dFn keeps input, weight and bias).
"""

from __future__ import annotations

from planner.workload.graph import Kernel, Tensor
from planner.workload.pointwise import part
from planner.workload.writer import Writer


def short_convolution(
    w: Writer, path: str, x: Tensor, channels: float, width: float, *, bias: bool, activation: str | None
) -> Tensor:
    """`act(conv1d(x))`, x: [b, channels, t], of `width` taps; forward 2·b·t·channels·width FLOP, and the same for each gradient.

    In torch the convolution pads both ends (t + width - 1 outputs, the last of which are cut off) and runs in the weight's type, or
    autocast's. The fused kernel keeps its input alone.
    """
    g = w.graph
    weight = w.weight(f"{path}.weight", (channels, 1.0, width))
    offset = w.weight(f"{path}.bias", (channels,)) if bias else None
    given = x.dtype
    if w.s.fused_mixers:
        return convolve(w, x, weight, offset, (w.b, channels, w.t), width)
    x = g.lower(g.cast(x, weight.dtype))
    weight, offset = g.lower(weight), g.lower(offset) if offset is not None else None
    y = part(g, convolve(w, x, weight, offset, (w.b, channels, w.t + width - 1), width), (w.b, channels, w.t))
    if activation is not None:
        y = g.unary(activation, y)
    return g.cast(y, given)


def convolve(
    w: Writer, x: Tensor, weight: Tensor, offset: Tensor | None, shape: tuple[float, ...], width: float
) -> Tensor:
    """The depthwise convolution: one memory-bound kernel; keeps its input and its weight, for either gradient."""
    g = w.graph
    inputs = (x, weight) if offset is None else (x, weight, offset)
    y = g.new(shape, x.dtype, any(t.requires_grad for t in inputs), "convolution")
    flops, moved = 2.0 * y.numel * width, x.bytes + y.bytes
    backward = [Kernel("elementwise", moved, flops)] if x.requires_grad else []
    if weight.requires_grad:
        backward.append(Kernel("elementwise", moved, flops))
    saved = (x, weight) if y.requires_grad else ()
    g.add_operation("convolution", "elementwise", inputs, (y,), saved, (Kernel("elementwise", moved, flops),), backward)
    return y
