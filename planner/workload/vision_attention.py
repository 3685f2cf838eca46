"""Attention of vision models whose positions work inside it: relative biases and rotations of the patches.

Source: transformers 5.24, `BeitRelativePositionBias`, `SwinAttention`, `DINOv3ViTAttention`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.workload.attention import core, promoted
from planner.workload.graph import Kernel, Tensor
from planner.workload.writer import Writer

SHARED_BIAS = "position_bias"
"""Name under which a bias that all blocks add is carried."""


def project(w: Writer, layer: str, x: Tensor, biases: Sequence[bool]) -> list[Tensor]:
    """Queries, keys and values, [b, heads, t, d] each. biases: of the three layers."""
    arch, n = w.arch, w.names
    shape = (x.shape[0], arch.heads, x.shape[1], arch.head_dim)
    width = arch.heads * arch.head_dim
    paths = (n.query, n.key, n.value)
    return [
        w.graph.view(w.linear(f"{layer}.{p}", x, width, bias=b), shape) for p, b in zip(paths, biases, strict=True)
    ]


def relative_bias(w: Writer, path: str, rows: float, heads: float, tokens: float, *, interpolated: bool) -> Tensor:
    """[1, heads, t, t] looked up in a table of relative positions; autograd keeps the index.

    interpolated: the table passes a bilinear interpolation first, even at its own size (BEiT).
    """
    g = w.graph
    table = w.weight(path, (rows, heads))
    needs = table.requires_grad
    if interpolated:
        for name in ("interpolate", "permute", "cat"):
            y = g.new((rows, heads), table.dtype, needs, name)
            moved = (Kernel("elementwise", 2 * y.bytes),)
            g.add_operation(name, "elementwise", (table,), (y,), (), moved, moved)
            table = y
    index = g.new((tokens * tokens,), "int64", False, "index")
    picked = g.new((tokens * tokens, heads), table.dtype, needs, "bias")
    moved = (Kernel("elementwise", index.bytes + 2 * picked.bytes),)
    made = (picked, index) if interpolated else (picked,)
    g.add_operation("bias_lookup", "embedding", (table,), made, (index,) if needs and interpolated else (), moved, moved)
    return g.copy(picked, (1, heads, tokens, tokens), name="permute")


def biased_core(w: Writer, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """softmax(q kᵀ + bias) v with a bias that several sequences share and that may be trained."""
    arch, g = w.arch, w.graph
    b, a, t, d = q.shape
    if w.s.attention == "eager":
        q, k, v = (g.copy(g.lower(x)) for x in (q, k, v))
        scores = g.unary("attention_scale", g.batched_matmul(q, k, t, t, d, b * a, (b, a, t, t), "scores"), save="none")
        weights = g.cast(g.softmax(g.add(scores, bias, name="bias_add"), "fp32"), q.dtype)
        weights = g.dropout(weights, w.active(arch.attention_dropout))
        out = g.copy(g.batched_matmul(weights, v, t, d, t, b * a, (b, a, t, d), "context"))
        w.kept = (*w.kept, weights)
        return out
    q, k, v, bias = (g.lower(x) for x in (q, k, v, bias))
    columns = -(-t // 8) * 8
    if columns != t:  # rows of the bias are aligned to 8 elements
        padded = g.new((*bias.shape[:-1], columns), bias.dtype, bias.requires_grad, "mask_bias")
        moved = (Kernel("elementwise", bias.bytes + padded.bytes),)
        g.add_operation("pad", "elementwise", (bias,), (padded,), (), moved, moved)
        bias = padded
    bias = g.view(bias, (b, a, t, columns))  # expanded; its gradient is formed for every sequence and summed
    return g.fused_attention(
        q, k, v, batch=b, heads=a, kv_heads=a, seq=t, head_dim=d, causal=False, window=None, bias=bias
    )


def finish(w: Writer, layer: str, x: Tensor, y: Tensor, *local: Tensor) -> Tensor:
    """The output projection. local: variables of the module's forward that are gone after it."""
    arch, g = w.arch, w.graph
    shape = (x.shape[0], x.shape[1], arch.heads * arch.head_dim)
    out = w.linear(f"{layer}.{w.names.out}", g.view(y, shape), arch.hidden, bias=arch.out_bias)
    g.release(x, *local)
    return out


@dataclass(frozen=True)
class BiasedAttention:
    """Attention with a relative position bias, of its own or one that all blocks share.

    rows: of the table, 0 for none · path: of the table, relative to the block · shared: the carried bias is added.
    """

    linears: tuple[str, ...]
    biases: tuple[bool, bool, bool]
    rows: int = 0
    path: str = "relative_position_bias.relative_position_bias_table"
    shared: bool = False

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        bias: Tensor | None = w.carried[SHARED_BIAS] if self.shared else None
        if self.rows:
            own = relative_bias(w, f"{layer}.{self.path}", self.rows, w.arch.heads, w.t, interpolated=True)
            w.kept = (*w.kept, own)
            bias = own if bias is None else w.graph.add(own, bias, name="bias_add")
        q, k, v = project(w, layer, x, self.biases)
        y = core(w, q, k, v, index) if bias is None else biased_core(w, q, k, v, bias)
        return finish(w, layer, x, y, q, k, v)


@dataclass(frozen=True)
class RotaryPatches:
    """Attention whose patches are rotated, while the tokens before them are not (axial RoPE). prefix: such tokens."""

    linears: tuple[str, ...]
    biases: tuple[bool, bool, bool]
    prefix: int

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        q, k, v = project(w, layer, x, self.biases)
        q, k = self._rotate(w, q), self._rotate(w, k)
        return finish(w, layer, x, core(w, q, k, v, index), q, k, v)

    def _rotate(self, w: Writer, x: Tensor) -> Tensor:
        """`torch.cat([prefix, patches·cos + rotate_half(patches)·sin])`."""
        g, dtype = w.graph, w.s.formats.graph
        b, heads, t, d = x.shape
        first, patches = g.split(x, [(b, heads, self.prefix, d), (b, heads, t - self.prefix, d)])
        cosine = promoted(w, "rotary_cos", patches, dtype)
        half = g.unary("rotate_half", patches, save="none", kernels=2)
        rotated = g.add(cosine, promoted(w, "rotary_sin", half, dtype), name="rotary_add")
        return g.cat([first, rotated], x.shape, name="rotary_cat")
