"""DiT and PixArt: one stream of image tokens, modulated by time and class, or by time with attention to a text.

Peebles & Xie 2022, arXiv:2212.09748; Chen et al. 2023, arXiv:2310.00426. Source: diffusers 0.42 `dit_transformer_2d.py`,
`pixart_transformer_2d.py`, `attention.py` (BasicTransformerBlock).
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.workload.conditioning import (
    attend,
    bare_norm,
    class_embedding,
    embedder,
    embedder_linears,
    feed_forward,
    gated,
    given,
    linear,
    modulate,
    signals,
    time_features,
)
from planner.workload.diffusion import CONDITIONING, TEXT, Denoising, Latents, image_part
from planner.workload.graph import Kernel, Parameter, Tensor
from planner.workload.writer import Writer

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")


def attention(w: Writer, path: str, x: Tensor, text: Tensor | None, heads: int, head_dim: int, bias: bool) -> Tensor:
    """Attention of image tokens to each other, or to the text's. Source: AttnProcessor2_0."""
    g, n, inner = w.graph, x.shape[1], heads * head_dim
    other = x if text is None else text
    keys = other.shape[1]
    q = w.linear(f"{path}.to_q", x, inner, bias=bias)
    k = w.linear(f"{path}.to_k", other, inner, bias=bias)
    v = w.linear(f"{path}.to_v", other, inner, bias=bias)
    mask = text_mask(w, heads, keys, q.dtype) if text is not None else None
    out = attend(w, q, k, v, heads=heads, head_dim=head_dim, seq=n, keys=keys, bias=mask)
    y = linear(w, f"{path}.to_out.0", g.view(out, (w.b, n, inner)), w.arch.hidden)
    y = g.dropout(y, w.active(w.arch.hidden_dropout))
    g.release(x, q, k, v)
    return g.unary("rescale", y, save="none") if w.s.eager else y


def text_mask(w: Writer, heads: int, keys: float, dtype: str) -> Tensor:
    """The text's padding as an additive mask, one row for each head."""
    g = w.graph
    mask = g.new((w.b, heads, 1, -(-keys // 8) * 8), dtype, False, "text_mask")
    g.add_operation("text_mask", "elementwise", (), (mask,), (), (Kernel("elementwise", 2 * mask.bytes),) * 2, ())
    return mask


# -- DiT -----------------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DiTFront(Latents):
    """Patches with fixed positions; every block embeds time and class itself."""

    def write(self, w: Writer, require_grad: bool) -> Tensor:
        return self.patches(w, self.positions)


@dataclass(frozen=True)
class ClassConditioning:
    """Time step and class embedded and added (CombinedTimestepLabelEmbeddings)."""

    classes: int

    def write(self, w: Writer, path: str, dtype: str) -> Tensor:
        h = w.arch.hidden
        time = embedder(w, f"{path}.timestep_embedder", time_features(w, dtype), h)
        return w.graph.add(time, class_embedding(w, f"{path}.class_embedder.embedding_table", self.classes, h))


@dataclass(frozen=True)
class DiTBlock:
    """adaLN-Zero: attention and feed-forward, each with shift, scale and gate. source: what the signals are made of."""

    source: ClassConditioning
    bias: bool = True

    @property
    def linears(self) -> tuple[str, ...]:
        return (
            *embedder_linears("norm1.emb.timestep_embedder"),
            "norm1.linear",
            *(f"attn1.{part}" for part in ATTENTION),
            *FEED_FORWARD,
        )

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        arch, h = w.arch, w.arch.hidden
        emb = f"{layer}.norm1.emb"
        conditioning = self.source.write(w, emb, x.dtype)
        if index == 0:  # the output layer runs the first block's embedder a second time
            for p in w.graph.parameters:
                if p.name.startswith(emb) and p.name not in w.shared:
                    w.shared[p.name] = Parameter(
                        p.name, p.shape, p.dtype, p.trainable, adapter=p.adapter, shared=True
                    )
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = signals(w, f"{layer}.norm1.linear", conditioning, 6, h)
        y = modulate(w, bare_norm(w, x), scale, shift)
        y = attention(w, f"{layer}.attn1", y, None, arch.heads, arch.head_dim, self.bias)
        x = gated(w, x, gate, y)
        y = modulate(w, bare_norm(w, x), mlp_scale, mlp_shift)
        w.kept = (*w.kept, y)
        return gated(w, x, mlp_gate, feed_forward(w, f"{layer}.ff", y, h, arch.hidden_dropout))


@dataclass(frozen=True)
class DiTOutput(Denoising):
    """The output layer makes its own conditioning with the embedder of the first block."""

    source: ClassConditioning = ClassConditioning(0)

    def conditioning(self, w: Writer) -> Tensor:
        first = w.names.layer.replace("{i}", "0")
        return self.source.write(w, f"{first}.norm1.emb", w.s.formats.compute.replace("tf32", "fp32"))


# -- PixArt --------------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PixArtFront(Latents):
    """Patches, one conditioning for all blocks, and the text's states projected to the model's width.

    sized: resolution and aspect ratio are part of the conditioning · states: width of the text encoder.
    """

    sized: bool = False
    states: int = 0

    @property
    def linears(self) -> tuple[str, ...]:
        extra = ("adaln_single.emb.resolution_embedder", "adaln_single.emb.aspect_ratio_embedder") if self.sized else ()
        paths = ("adaln_single.emb.timestep_embedder", *extra, *(("caption_projection",) if self.states else ()))
        return (*embedder_linears(*paths), "adaln_single.linear")

    def write(self, w: Writer, require_grad: bool) -> Tensor:
        g, h = w.graph, w.arch.hidden
        x = self.patches(w, self.positions)
        emb = embedder(w, "adaln_single.emb.timestep_embedder", time_features(w, x.dtype), h)
        if self.sized:
            third = h // 3
            parts = []
            for name, count in (("resolution", 2), ("aspect_ratio", 1)):
                features = given(w, w.b * count, 256, dtype=x.dtype, name="size_features")
                made = embedder(w, f"adaln_single.emb.{name}_embedder", features, third)
                parts.append(g.view(made, (w.b, count * third)))
            emb = g.add(emb, g.cat(parts, (w.b, h)))
        signal = linear(w, "adaln_single.linear", g.unary("silu", emb), 6 * h)
        text = given(w, w.b, w.s.given.seq_len or 0, self.states or h, name="text_states")
        if self.states:
            text = embedder(w, "caption_projection", text, h, "gelu")
        w.carried[CONDITIONING], w.carried["signals"], w.carried[TEXT] = emb, signal, text
        w.arguments = (*w.arguments, emb, signal, text)
        return x


@dataclass(frozen=True)
class PixArtBlock:
    """One table of shifts, scales and gates for each block, added to those of the time step (adaLN-single), and attention to the text."""

    cross: bool = True
    bias: bool = True

    @property
    def linears(self) -> tuple[str, ...]:
        both = ("attn1", "attn2") if self.cross else ("attn1",)
        return (*(f"{name}.{part}" for name in both for part in ATTENTION), *FEED_FORWARD)

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        g, arch, h = w.graph, w.arch, w.arch.hidden
        table = w.weight(f"{layer}.scale_shift_table", (6, h))
        both = g.add(g.view(table, (1, 6, h)), g.view(w.carried["signals"], (w.b, 6, h)), name="signals")
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = g.split(both, [(w.b, 1, h)] * 6)
        y = modulate(w, bare_norm(w, x), scale, shift)
        x = gated(w, x, gate, attention(w, f"{layer}.attn1", y, None, arch.heads, arch.head_dim, self.bias))
        if self.cross:
            seen = attention(w, f"{layer}.attn2", x, w.carried[TEXT], arch.heads, arch.head_dim, self.bias)
            x = g.add(seen, x, name="residual")
        y = modulate(w, bare_norm(w, x), mlp_scale, mlp_shift)
        w.kept = (*w.kept, y)
        return gated(w, x, mlp_gate, feed_forward(w, f"{layer}.ff", y, h, arch.hidden_dropout))


@dataclass(frozen=True)
class PixArtOutput(Denoising):
    """A table of shift and scale, added to the embedded time step."""

    @property
    def linears(self) -> tuple[str, ...]:
        return (self.projection,)

    def write(self, w: Writer, x: Tensor) -> Tensor:
        g, h = w.graph, w.arch.hidden
        table = w.weight("scale_shift_table", (2, h))
        both = g.add(g.view(table, (1, 2, h)), g.view(w.carried[CONDITIONING], (w.b, 1, h)), name="signals")
        shift, scale = g.split(both, [(w.b, 1, h)] * 2)
        y = modulate(w, bare_norm(w, image_part(w, x)), scale, shift)
        return self.loss(w, linear(w, self.projection, y, self.width))
