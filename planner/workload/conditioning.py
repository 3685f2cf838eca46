"""What a diffusion transformer is told beside the latents, and how it takes it: time steps, classes, pooled text; modulated norms and gates.

b: samples · t: tokens · h: width. Peebles & Xie 2022, arXiv:2212.09748 (sec. 3.2, adaLN-Zero).
Source: diffusers 0.42 `models/embeddings.py` and `models/normalization.py`.
"""

from __future__ import annotations

from planner.workload.graph import BYTES, Kernel, Parameter, Tensor
from planner.workload.writer import Writer

TIME_FEATURES = 256
STEP = ("linear_1", "linear_2")


def given(w: Writer, *shape: float, dtype: str | None = None, name: str = "input") -> Tensor:
    """A tensor of the batch, alive through the step; latents and text states come in the type of the matrix products."""
    x = w.graph.new(shape, dtype or w.s.formats.compute.replace("tf32", "fp32"), False, name)
    w.graph.add_operation(name, "elementwise", (), (x,), (), (), ())
    w.arguments = (*w.arguments, x)
    return x


def linear(w: Writer, path: str, x: Tensor, out: float) -> Tensor:
    """A linear layer with bias, as all of diffusers' transformers have."""
    return w.linear(path, x, out, bias=True)


def time_features(w: Writer, dtype: str) -> Tensor:
    """Sines and cosines of the time step [b, 256], in fp32, then in the type of what follows."""
    g = w.graph
    x = g.new((w.b, TIME_FEATURES), "fp32", False, "time_features")
    g.add_operation("time_features", "elementwise", (), (x,), (), (Kernel("elementwise", 2 * x.bytes),) * 8, ())
    return g.cast(x, dtype)


def embedder(w: Writer, path: str, x: Tensor, width: float, activation: str = "silu") -> Tensor:
    """Two linear layers with an activation between (TimestepEmbedding, PixArtAlphaTextProjection)."""
    inner = w.graph.unary(activation, linear(w, f"{path}.linear_1", x, width))
    return linear(w, f"{path}.linear_2", inner, width)


def embedder_linears(*paths: str) -> tuple[str, ...]:
    """Linear layers of embedders."""
    return tuple(f"{path}.{part}" for path in paths for part in STEP)


def class_embedding(w: Writer, path: str, classes: int, width: float) -> Tensor:
    """One learned row for each sample's class, with one more for the dropped class (classifier-free guidance)."""
    g = w.graph
    table = w.weight(path + ".weight", (classes + 1, width))
    y = g.new((w.b, width), table.dtype, table.requires_grad, "class_embedding")
    back = (Kernel("elementwise", table.bytes + 2 * y.bytes),)
    g.add_operation("embedding", "embedding", (table,), (y,), (), (Kernel("elementwise", 2 * y.bytes),), back)
    return y


def signals(w: Writer, path: str, conditioning: Tensor, count: int, width: float) -> list[Tensor]:
    """Shifts, scales and gates of a block: `count` parts [b, 1, h] of a linear layer of silu(conditioning)."""
    active = w.graph.unary("silu", conditioning)
    return w.graph.split(linear(w, path, active, count * width), [(w.b, 1, width)] * count)


def bare_norm(w: Writer, x: Tensor) -> Tensor:
    """LayerNorm without weights."""
    return w.graph.layer_norm(x, None, None, fused_dtype=None if w.s.eager else x.dtype)


def modulate(w: Writer, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x · (1 + scale) + shift, three kernels in eager code, one where a stack fuses."""
    g = w.graph
    if w.s.eager:
        return g.add(g.mul(x, g.unary("one_plus", scale, save="none")), shift, name="shift")
    needs = x.requires_grad or scale.requires_grad or shift.requires_grad
    y = g.new(x.shape, x.dtype, needs, "modulate")
    saved = tuple(t for t, other in ((x, scale), (scale, x)) if other.requires_grad)
    back = (Kernel("elementwise", 2 * x.bytes), Kernel("reduction", 2 * x.bytes))
    g.add_operation(
        "modulate", "elementwise", (x, scale, shift), (y,), saved, (Kernel("elementwise", 2 * x.bytes),), back
    )
    return y


def gated(w: Writer, x: Tensor, gate: Tensor, branch: Tensor) -> Tensor:
    """x + gate · branch; the block's code keeps the product in a variable."""
    product = w.graph.mul(gate, branch, name="gate")
    w.kept = (*w.kept, product)
    return w.graph.add(x, product, name="residual")


def feed_forward(w: Writer, path: str, x: Tensor, width: float, dropout: float = 0.0) -> Tensor:
    """diffusers' FeedForward with a GELU in its tanh approximation, four times as wide inside."""
    inner = w.graph.dropout(w.graph.unary("gelu", linear(w, f"{path}.net.0.proj", x, 4 * width)), w.active(dropout))
    return linear(w, f"{path}.net.2", inner, width)


def attend(
    w: Writer, q: Tensor, k: Tensor, v: Tensor, *, heads: int, head_dim: int, seq: float, keys: float, bias: Tensor | None = None
) -> Tensor:
    """Attention over all positions, without a causal mask: [b, heads, seq, d]."""
    return w.graph.fused_attention(
        q, k, v, batch=w.b, heads=heads, kv_heads=heads, seq=seq, keys=keys, head_dim=head_dim, causal=False, window=None, bias=bias
    )  # fmt: skip


def table_rows(w: Writer, path: str, rows: float, width: float) -> Tensor:
    """A fixed table of sines and cosines that is stored with the model: memory without parameters."""
    return w.graph.parameter(Parameter(path, (rows, width), w.s.formats.graph, False, buffer=True))


def placed(w: Writer, x: Tensor, table: Tensor) -> Tensor:
    """x plus its positions, in the type of x. table: [1, t, h]."""
    g = w.graph
    wide = table.dtype if BYTES[table.dtype] > BYTES[x.dtype] else x.dtype
    y = g.new(x.shape, wide, x.requires_grad, "positions_add")
    moved = (Kernel("elementwise", x.bytes + y.bytes),)
    g.add_operation("positions_add", "elementwise", (x,), (y,), (), moved, (), alias=True)
    return g.cast(y, x.dtype)
