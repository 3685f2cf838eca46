"""Norms and activations that transformers writes out in several operators: Cohere's and OLMo's LayerNorm, NanoChat's RMS norm, xIELU.

Each is one fused kernel in stacks that fuse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.workload.graph import Kernel, Tensor

if TYPE_CHECKING:
    from planner.workload.writer import Writer

    Written = Callable[[Writer, str, Tensor, float], Tensor]


def row_mean(w: Writer, x: Tensor, width: float) -> Tensor:
    """Mean of each row; autograd expands the gradient without a copy."""
    g = w.graph
    y = g.new((x.numel / width, 1), x.dtype, x.requires_grad, "mean")
    back = Kernel("elementwise", x.bytes)
    g.add_operation("mean", "norm", (x,), (y,), (), (Kernel("reduction", x.bytes),), (back,))
    return y


def layer_norm_fp32(w: Writer, path: str, x: Tensor, width: float) -> Tensor:
    """`weight · (x − mean) · rsqrt(var)` in fp32, the difference formed twice (transformers CohereLayerNorm).

    Norms of heads have a weight of [heads, d].
    """
    g = w.graph
    rows = x.shape[2:-1] if len(x.shape) == 4 else ()
    weight = w.weight(path + ".weight", (*rows, width))
    if not w.s.eager:
        return g.layer_norm(x, weight, None, fused_dtype=x.dtype)
    wide = g.cast(x, "fp32", name="norm_upcast")
    mean = row_mean(w, wide, width)
    square = g.unary("pow", g.add(wide, mean, name="center"), scratch=2.0)
    inverse = g.unary("rsqrt", row_mean(w, square, width), save="output", kernels=2)
    normed = g.mul(g.add(wide, mean, name="center"), inverse, name="normalize")
    return g.cast(g.mul(g.cast(weight, "fp32"), normed, name="norm_weight"), x.dtype, name="norm_downcast")


def layer_norm_cast(w: Writer, path: str, x: Tensor, width: float) -> Tensor:
    """LayerNorm without weights on an fp32 copy (transformers OlmoLayerNorm)."""
    g = w.graph
    if not w.s.eager:
        return g.layer_norm(x, None, None, fused_dtype=x.dtype)
    return g.cast(g.layer_norm(g.cast(x, "fp32", name="norm_upcast"), None, None), x.dtype, name="norm_downcast")


def rms_norm_bare(w: Writer, path: str, x: Tensor, width: float) -> Tensor:
    """`x · rsqrt(mean(x²))` in fp32, without a weight (transformers NanoChatRMSNorm)."""
    g = w.graph
    if not w.s.eager:
        return g.layer_norm(x, None, None, fused_dtype=x.dtype, name="rms_norm")
    wide = g.cast(x, "fp32", name="norm_upcast")
    mean = row_mean(w, g.unary("pow", wide, scratch=2.0), width)
    inverse = g.unary("rsqrt", mean, save="output", kernels=2)
    return g.cast(g.mul(wide, inverse, name="normalize"), x.dtype, name="norm_downcast")


def layer_norm_steps(w: Writer, path: str, x: Tensor, width: float) -> Tensor:
    """`weight · ((x − mean) / sqrt(var)) + bias`, the quotient in fp32 and cast back (transformers DebertaLayerNorm)."""
    g = w.graph
    weight, bias = w.weight(path + ".weight", (width,)), w.weight(path + ".bias", (width,))
    if not w.s.eager:
        return g.layer_norm(x, weight, bias, fused_dtype=x.dtype)
    wide = g.cast(x, "fp32", name="norm_upcast")
    mean = row_mean(w, wide, width)
    square = g.unary("pow", g.add(wide, mean, name="center"), scratch=2.0)
    root = g.unary("sqrt", row_mean(w, square, width), save="output", kernels=2)
    normed = g.mul(g.add(wide, mean, name="center"), root, name="normalize")
    scaled = g.mul(weight, g.cast(normed, x.dtype, name="norm_downcast"), name="norm_weight")
    return g.add(scaled, bias, name="norm_bias")


WRITTEN_OUT: dict[str, Written] = {
    "layer-steps": layer_norm_steps,
    "layer-fp32": layer_norm_fp32,
    "layer-cast": layer_norm_cast,
    "rms-bare": rms_norm_bare,
}
"""By the trait `Architecture.norm`."""


def xielu(w: Writer, path: str, x: Tensor) -> Tensor:
    """`x > 0 ? a·x² + x/2 : (expm1(x) − x)·b + x/2` with two trained scalars (Huang & Schlag 2024, arXiv:2411.13010), as eager operators."""
    g = w.graph
    positive, negative = (w.weight(f"{path}.alpha_{side}", (1,)) for side in "pn")
    a, b = (g.unary("softplus", g.raise_(p)) for p in (positive, negative))
    if not w.s.eager:
        return g.unary("xielu", x)
    mask = g.new(x.shape, "bool", False, "positive")
    g.add_operation("compare", "elementwise", (x,), (mask,), (), (Kernel("elementwise", x.bytes + mask.bytes),), ())
    above = g.add(g.mul(g.mul(x, a), x), g.unary("half", x, save="none"))
    shifted = g.add(g.raise_(g.unary("expm1", g.raise_(g.unary("minimum", x)), save="output")), x, name="sub")
    below = g.add(g.mul(shifted, b), g.unary("half", x, save="none"))
    y = g.new(x.shape, above.dtype, above.requires_grad, "where")
    moved = above.bytes + below.bytes + mask.bytes + y.bytes
    saved = (mask,) if y.requires_grad else ()
    back = (Kernel("elementwise", 2 * y.bytes + mask.bytes),) * 2
    g.add_operation("where", "elementwise", (above, below, mask), (y,), saved, (Kernel("elementwise", moved),), back)
    return y


def gelu_erf(w: Writer, x: Tensor) -> Tensor:
    """`x · 0.5 · (1 + erf(x / √2))` (transformers `modeling_esm.gelu`): keeps both factors and erf's argument."""
    g = w.graph
    erf = g.unary("erf", g.unary("scale", x, save="none"), scratch=4.0)
    return g.mul(g.unary("half", x, save="none"), g.unary("one_plus", erf, save="none"))
