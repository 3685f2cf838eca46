"""Diffusion transformers with two streams: image and text tokens have weights of their own and attend to each other.

Esser et al. 2024, arXiv:2403.03206 (sec. 4, MM-DiT); Flux adds blocks in which both are one stream and attention and feed-forward stand side by
side. Source: diffusers 0.42 `transformer_sd3.py`, `transformer_flux.py`, `attention.py` (JointTransformerBlock).

Between blocks the two streams are one tensor [b, t, h] here, whose parts cost nothing to take: text first where `text_first`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.run import Batch
from planner.workload.conditioning import (
    attend,
    bare_norm,
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
from planner.workload.diffusion import CONDITIONING, Latents
from planner.workload.dit import ATTENTION, FEED_FORWARD
from planner.workload.graph import Kernel, Tensor
from planner.workload.rotary import rotated_pairs
from planner.workload.writer import Writer

ADDED = ("add_q_proj", "add_k_proj", "add_v_proj")
ROTARY = "rotary"


def parted(w: Writer, x: Tensor, lengths: Sequence[float]) -> list[Tensor]:
    """The streams of the tensor that stands for them between blocks."""
    parts = [Tensor((w.b, n, x.shape[-1]), x.dtype, x.storage, x.requires_grad) for n in lengths]
    w.graph.add_operation("streams", "view", (x,), parts, (), (), ())
    return parts


def joined(w: Writer, parts: Sequence[Tensor]) -> Tensor:
    """One tensor that stands for the streams until the next block."""
    first = parts[0]
    needs = any(t.requires_grad for t in parts)
    y = w.graph.new((w.b, sum(t.shape[1] for t in parts), first.shape[-1]), first.dtype, needs, "streams")
    w.graph.add_operation("streams", "view", parts, (y,), (), (), ())
    return y


def sliced(w: Writer, x: Tensor, tokens: float) -> Tensor:
    """`x[:, a:b]`: a view; its backward writes a gradient of the whole, zeros outside."""
    y = Tensor((w.b, tokens, *x.shape[2:]), x.dtype, x.storage, x.requires_grad)
    back = (Kernel("elementwise", x.bytes), Kernel("elementwise", 2 * y.bytes))
    w.graph.add_operation("slice", "elementwise", (x,), (y,), (), (), back)
    return y


def flat(w: Writer, x: Tensor) -> Tensor:
    """Rows of a part in one piece, as a matrix product needs them; of a single sample they are."""
    return w.graph.copy(x) if w.b > 1 else x


# -- attention -----------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JointAttention:
    """Attention over both streams. norm: of queries and keys, `none`, `rms` (diffusers' own operators) or `fused` (torch's kernel).

    text_first: order of the streams · rotary: positions rotate queries and keys · last: the text's output is not used.
    """

    norm: str = "none"
    text_first: bool = False
    rotary: bool = False
    last: bool = False

    @property
    def linears(self) -> tuple[str, ...]:
        return (*ATTENTION, *ADDED, *(() if self.last else ("to_add_out",)))

    def project(self, w: Writer, path: str, x: Tensor, names: Sequence[str], norms: Sequence[str]) -> list[Tensor]:
        """Queries, keys and values of one stream."""
        arch, inner = w.arch, w.arch.heads * w.arch.head_dim
        q, k, v = (linear(w, f"{path}.{name}", x, inner) for name in names)
        if self.norm != "none":
            q, k = (
                head_norm(w, f"{path}.{name}", w.graph.view(t, (w.b, x.shape[1], arch.heads, arch.head_dim)), self.norm)
                for name, t in zip(norms, (q, k), strict=True)
            )
        return [q, k, v]

    def write(self, w: Writer, path: str, image: Tensor, text: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(image, text) to (image, text)."""
        g, arch = w.graph, w.arch
        inner, n = arch.heads * arch.head_dim, image.shape[1]
        q, k, v = self.project(w, path, image, ATTENTION[:3], ("norm_q", "norm_k"))
        total = n
        others: tuple[Tensor, ...] = ()
        if text is not None:
            total = n + text.shape[1]
            others = tuple(self.project(w, path, text, ADDED, ("norm_added_q", "norm_added_k")))
            pairs = [(o, t) if self.text_first else (t, o) for o, t in zip(others, (q, k, v), strict=True)]
            q, k, v = (g.cat(pair, (w.b, total, inner)) for pair in pairs)
        if self.rotary:
            q, k = (rotated_pairs(w, t) for t in (q, k))
        wide = q.dtype
        out = attend(w, q, k, v, heads=arch.heads, head_dim=arch.head_dim, seq=total, keys=total)
        moved = not self.text_first and (text is not None or self.norm != "none") and out.dtype != "fp32"
        # flash's output has the layout of q: of joined heads it takes a copy to have rows of tokens
        out = g.cast(g.copy(out, name="rows") if moved and w.s.eager else out, wide)
        out = g.view(out, (w.b, total, inner))
        if text is None:
            return self.finish(w, path, (image, q, k, v), linear(w, f"{path}.to_out.0", out, arch.hidden)), None
        said: Tensor | None
        if self.text_first:
            other, own = g.split(out, [(w.b, total - n, inner), (w.b, n, inner)])
            own = linear(w, f"{path}.to_out.0", flat(w, own), arch.hidden)
            said = linear(w, f"{path}.to_add_out", flat(w, other), arch.hidden)
        else:
            own, other = sliced(w, out, n), sliced(w, out, total - n)
            said = None if self.last else linear(w, f"{path}.to_add_out", flat(w, other), arch.hidden)
            own = linear(w, f"{path}.to_out.0", flat(w, own), arch.hidden)
        return self.finish(w, path, (image, q, k, v, *others), own), said

    @staticmethod
    def finish(w: Writer, path: str, variables: Sequence[Tensor], y: Tensor) -> Tensor:
        """The processor's variables go when it returns."""
        w.graph.release(*variables)
        return y


def head_norm(w: Writer, path: str, x: Tensor, kind: str) -> Tensor:
    """RMS norm of each head: torch's one kernel, or diffusers' operators (RMSNorm in `normalization.py`)."""
    g, d = w.graph, x.shape[-1]
    weight = w.weight(path + ".weight", (d,))
    if kind == "fused" or not w.s.eager:
        return g.layer_norm(x, weight, None, fused_dtype=None if w.s.eager else x.dtype, name="rms_norm")
    x32 = g.cast(x, "fp32", name="norm_upcast")
    square = g.unary("pow", x32, scratch=2.0)
    mean = g.new((x.numel / d, 1), "fp32", x.requires_grad, "mean")
    moved = (Kernel("reduction", square.bytes),)
    g.add_operation("mean", "norm", (square,), (mean,), (), moved, (Kernel("elementwise", square.bytes),))
    normed = g.mul(x, g.unary("rsqrt", mean, save="output", kernels=2), name="normalize")
    if weight.dtype in ("bf16", "fp16"):
        normed = g.cast(normed, weight.dtype, name="norm_downcast")
    return g.mul(normed, weight, name="norm_weight")


# -- fronts --------------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JointFront(Latents):
    """Both streams, and a conditioning of time step and pooled text.

    states, pooled: widths of the text's states and of its pooled embedding · guided: the guidance scale is embedded too (distilled Flux) ·
    packed: latents come as tokens already, and positions rotate · counts: whether this stack counts the run's tokens.
    """

    states: int = 0
    pooled: int = 0
    guided: bool = False
    packed: bool = False
    counts: bool = True

    @property
    def linears(self) -> tuple[str, ...]:
        extra = ("time_text_embed.guidance_embedder",) if self.guided else ()
        paths = ("time_text_embed.timestep_embedder", "time_text_embed.text_embedder", *extra)
        return (*embedder_linears(*paths), "context_embedder", *(("x_embedder",) if self.packed else ()))

    def tokens(self, batch: Batch) -> int:
        return self.image_tokens(batch) + (batch.seq_len or 0)

    def counted(self, batch: Batch) -> int:
        return self.image_tokens(batch) if self.counts else 0

    def write(self, w: Writer, require_grad: bool) -> Tensor:
        g, h = w.graph, w.arch.hidden
        if self.packed:
            latents = given(w, w.b, self.image_tokens(w.s.given), self.channels, name="latents")
            image = linear(w, "x_embedder", latents, h)
        else:
            image = self.patches(w, self.positions, cropped=True)
        pooled = given(w, w.b, self.pooled, name="pooled_text")
        emb = embedder(w, "time_text_embed.timestep_embedder", time_features(w, pooled.dtype), h)
        if self.guided:
            guidance = embedder(w, "time_text_embed.guidance_embedder", time_features(w, pooled.dtype), h)
            emb = g.add(emb, guidance)
        emb = g.add(emb, embedder(w, "time_text_embed.text_embedder", pooled, h))
        states = given(w, w.b, w.s.given.seq_len or 0, self.states, name="text_states")
        text = linear(w, "context_embedder", states, h)
        w.carried[CONDITIONING] = emb
        w.arguments = (*w.arguments, emb)
        if self.packed:
            tables = [g.new((w.t, w.arch.head_dim), "fp32", False, name) for name in ("cosine", "sine")]
            moved = (Kernel("elementwise", 4 * tables[0].bytes),) * 6
            g.add_operation("rotary_tables", "elementwise", (), tables, (), moved, ())
            w.arguments = (*w.arguments, *tables)
        return joined(w, (text, image) if self.packed else (image, text))


@dataclass(frozen=True)
class Continued:
    """The stack goes on where an earlier one ended. first: front of that stack · tower: its name."""

    first: JointFront
    tower: str

    @property
    def fields(self) -> tuple[str, ...]:
        return self.first.fields

    def resolve(self, batch: Batch) -> Batch:
        return batch

    def tokens(self, batch: Batch) -> int:
        return self.first.tokens(batch)

    def sequences(self, batch: Batch) -> int:
        return self.first.sequences(batch)

    def counted(self, batch: Batch) -> int:
        return self.first.image_tokens(batch)

    def write(self, w: Writer, require_grad: bool) -> Tensor:
        return w.carried[self.tower]


# -- blocks --------------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JointBlock:
    """Image and text with norms, gates and feed-forwards of their own around a joint attention.

    dual: a second attention of the image to itself (SD 3.5) · attention.last: the text ends here.
    """

    attention: JointAttention = JointAttention()
    dual: bool = False

    @property
    def linears(self) -> tuple[str, ...]:
        joint = tuple(f"attn.{name}" for name in self.attention.linears)
        own = tuple(f"attn2.{name}" for name in ATTENTION) if self.dual else ()
        text = () if self.attention.last else ("ff_context.net.0.proj", "ff_context.net.2")
        return ("norm1.linear", "norm1_context.linear", *joint, *own, *FEED_FORWARD, *text)

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        h, words, first = w.arch.hidden, w.s.given.seq_len or 0, self.attention.text_first
        lengths = (words, w.t - words) if first else (w.t - words, words)
        text, image = parted(w, x, lengths) if first else reversed(parted(w, x, lengths))
        emb, last = w.carried[CONDITIONING], self.attention.last
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate, *second = signals(
            w, f"{layer}.norm1.linear", emb, 9 if self.dual else 6, h
        )
        normed = bare_norm(w, image)
        y = modulate(w, normed, scale, shift)
        y2 = modulate(w, normed, second[1], second[0]) if self.dual else None
        of_text = signals(w, f"{layer}.norm1_context.linear", emb, 2 if last else 6, h)
        t_scale, t_shift = (of_text[0], of_text[1]) if last else (of_text[1], of_text[0])
        z = modulate(w, bare_norm(w, text), t_scale, t_shift)
        seen, said = self.attention.write(w, f"{layer}.attn", y, z)
        image = gated(w, image, gate, seen)
        if y2 is not None:
            alone = JointAttention(self.attention.norm)
            image = gated(w, image, second[2], alone.write(w, f"{layer}.attn2", y2, None)[0])
        y = modulate(w, bare_norm(w, image), mlp_scale, mlp_shift)
        image = gated(w, image, mlp_gate, feed_forward(w, f"{layer}.ff", y, h))
        w.kept = (*w.kept, y, z) if y2 is None else (*w.kept, y, z, y2)
        if said is None:
            return image
        text = gated(w, text, of_text[2], said)
        z = modulate(w, bare_norm(w, text), of_text[4], of_text[3])
        w.kept = (*w.kept, z)
        text = gated(w, text, of_text[5], feed_forward(w, f"{layer}.ff_context", z, h))
        w.kept = w.kept[:-1]  # the last product is no variable
        return joined(w, (text, image) if first else (image, text))


@dataclass(frozen=True)
class SingleBlock:
    """Flux's block of one stream: attention and feed-forward side by side, one projection and one gate for both."""

    attention: JointAttention = JointAttention("fused", text_first=True, rotary=True)

    @property
    def linears(self) -> tuple[str, ...]:
        return ("norm.linear", "proj_mlp", "proj_out", *(f"attn.{name}" for name in ATTENTION[:3]))

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        g, arch, h, words = w.graph, w.arch, w.arch.hidden, w.s.given.seq_len or 0
        lengths = (words, w.t - words)
        parts = [sliced(w, x, n) for n in lengths] if index else parted(w, x, lengths)
        x = g.cat(parts, (w.b, w.t, h))
        shift, scale, gate = signals(w, f"{layer}.norm.linear", w.carried[CONDITIONING], 3, h)
        y = modulate(w, bare_norm(w, x), scale, shift)
        inner = g.unary("gelu", linear(w, f"{layer}.proj_mlp", y, 4 * h))
        q, k, v = self.attention.project(w, f"{layer}.attn", y, ATTENTION[:3], ("norm_q", "norm_k"))
        q, k = (rotated_pairs(w, t) for t in (q, k))
        out = attend(w, q, k, v, heads=arch.heads, head_dim=arch.head_dim, seq=w.t, keys=w.t)
        seen = g.cast(g.view(out, (w.b, w.t, h)), q.dtype)
        g.release(q, k, v)
        both = g.cat((seen, inner), (w.b, w.t, 5 * h))
        made = g.mul(gate, linear(w, f"{layer}.proj_out", both, h), name="gate")
        w.kept = (*w.kept, y, inner, seen)
        return g.add(x, made, name="residual")
