"""Attention whose scores add products of contents with relative positions (He et al. 2020, arXiv:2006.03654, eq. 4).

b: sequences · a: heads · t: tokens · d: head size · s: positions on each side. Source: transformers 5.24 `modeling_deberta_v2.py`, which has no
fused kernel: the position scores [b·a, t, 2s] are looked up by distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from planner.workload.graph import Kernel, Tensor
from planner.workload.writer import Writer

TABLE, DISTANCES, MASK = "relative positions", "distances", "pair mask"


@dataclass(frozen=True)
class Disentangled:
    """Self-attention with content-to-position and position-to-content scores.

    span: positions on each side, 0 where there are none · to_position, to_content: which of the two are added · shared: positions pass the
    projections of contents, else their own · table: path of the positions' embedding · norm: path of the norm behind it, or empty ·
    convolved: this layer's output is joined with a convolution of its input (DeBERTa-v2-xlarge's first) · kernel, groups, conv: of that.
    """

    span: int
    to_position: bool
    to_content: bool
    shared: bool
    table: str
    norm: str = ""
    convolved: bool = False
    kernel: int = 0
    groups: int = 1
    conv: str = ""
    separate: ClassVar[bool] = True
    """No kernel computes such scores, in any stack."""
    own: ClassVar[tuple[str, str]] = ("pos_key_proj", "pos_query_proj")
    """Names of the positions' own projections."""

    @property
    def linears(self) -> tuple[str, ...]:
        own = () if self.shared or not self.span else self._own()
        return (*(f"attention.self.{n}_proj" for n in ("query", "key", "value")), *own, "attention.output.dense")

    @property
    def paths(self) -> tuple[str, ...]:
        """Beginnings of the paths of what counts as embeddings: positions, and the convolution."""
        return tuple(path for path in (self.table, self.conv) if path)

    def _own(self) -> tuple[str, ...]:
        wanted = zip(self.own, (self.to_position, self.to_content), strict=True)
        return tuple(f"attention.self.{name}" for name, there in wanted if there)

    def prepare(self, w: Writer) -> None:
        """What all blocks use: the positions' embedding, the distances of all pairs, and the mask of all pairs."""
        g, h = w.graph, w.arch.hidden
        made = [g.new((w.b, 1, w.t, w.t), "fp32", False, MASK)]
        if self.span:
            table = w.share(self.table + ".weight", (2 * self.span, h))
            if self.norm:
                w.carried[TABLE] = w.norm(self.norm, table, h)
                w.arguments = (*w.arguments, w.carried[TABLE])
            made.append(g.new((1, w.t, w.t), "int64", False, DISTANCES))
            w.carried[DISTANCES] = made[-1]
        moved = tuple(Kernel("elementwise", 2 * t.bytes) for t in made)
        g.add_operation(DISTANCES, "elementwise", (), made, (), moved, ())
        w.arguments = (*w.arguments, *made)

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        g, arch = w.graph, w.arch
        b, a, t, d, path = w.b, arch.heads, w.t, arch.head_dim, f"{layer}.attention.self"
        w.held = (*w.held, x)  # the encoder lists the hidden states of all layers
        q, k, v = (self._heads(w, f"{path}.{n}_proj", x) for n in ("query", "key", "value"))
        scores = g.batched_matmul(q, g.unary("scale", k, save="none"), t, t, d, b * a, (b * a, t, t), "scores")
        added = self._positions(w, path, q, k) if self.span and (self.to_position or self.to_content) else None
        if added is not None:
            scores = g.add(scores, added, name="position_scores")
        scores = self._masked(w, scores)
        weights = g.dropout(g.softmax(g.raise_(scores)), w.active(arch.attention_dropout))
        out = g.batched_matmul(weights, v, t, d, t, b * a, (b * a, t, d), "context")
        out = g.copy(out, (b, t, a * d))
        g.release(scores, weights, q, k, v, *(() if added is None else (added,)))
        return w.linear(f"{layer}.{w.names.out}", out, arch.hidden, bias=True)

    def follow(self, w: Writer, x: Tensor, y: Tensor) -> Tensor:
        """norm(y + tanh(convolution(x))) behind the layer, outside its checkpoint."""
        if not self.convolved:
            return y
        g, h = w.graph, w.arch.hidden
        weight = w.weight(f"{self.conv}.conv.weight", (h, h / self.groups, self.kernel))
        turned = g.copy(x, (w.b, h, w.t))
        even = 1 - self.kernel % 2
        out = g.convolution(turned, weight, w.weight(f"{self.conv}.conv.bias", (h,)), (w.b, h, w.t - even), groups=self.groups)
        out = g.dropout(g.copy(out, x.shape), w.active(w.arch.hidden_dropout))
        summed = g.add(y, g.unary("tanh", out, save="output"), name="residual")
        return g.unary("mask", g.cast(w.norm(f"{self.conv}.LayerNorm", summed, h), summed.dtype), save="none")

    def _heads(self, w: Writer, path: str, x: Tensor) -> Tensor:
        """A projection, copied to the order of heads."""
        arch = w.arch
        y = w.linear(path, x, arch.heads * arch.head_dim, bias=True)
        return w.graph.copy(y, (x.shape[0] * arch.heads, x.shape[1], arch.head_dim))

    def _positions(self, w: Writer, path: str, q: Tensor, k: Tensor) -> Tensor:
        """The scores of contents with positions: both products, looked up by distance."""
        g, arch, span = w.graph, w.arch, 2 * self.span
        b, a, t, d = w.b, arch.heads, w.t, arch.head_dim
        table = w.carried[TABLE] if self.norm else w.weight(self.table + ".weight", (span, arch.hidden))
        dropped = g.view(g.dropout(table, w.active(arch.hidden_dropout)), (1, span, arch.hidden))
        names = ("key_proj", "query_proj") if self.shared else self.own
        wanted = [(n, c) for n, c, there in zip(names, (q, k), (self.to_position, self.to_content), strict=True) if there]
        repeated = [g.copy(self._heads(w, f"{path}.{name}", dropped), (b * a, span, d), name="repeat") for name, _ in wanted]
        local: list[Tensor] = [dropped, *repeated]
        total: Tensor | None = None
        for (_, content), positions in zip(wanted, repeated, strict=True):
            every = g.batched_matmul(content, positions, t, span, d, b * a, (b * a, t, span), "position_product")
            picked, places = self._looked_up(w, every)
            total = self._summed(w, total, g.unary("scale", picked, save="none"))
            local += [picked, places]
        g.release(*local)
        assert total is not None
        return total

    @staticmethod
    def _looked_up(w: Writer, every: Tensor) -> tuple[Tensor, Tensor]:
        """Of the scores with all positions [.., t, 2s] those of each pair's distance [.., t, t], and the places where they stood."""
        g = w.graph
        places = g.new((1, w.t, w.t), "int64", False, "places")
        picked = g.new((*every.shape[:-1], w.t), every.dtype, every.requires_grad, "picked")
        moved = (Kernel("elementwise", 2 * picked.bytes + places.bytes),)
        back = (Kernel("elementwise", every.bytes), Kernel("elementwise", 2 * picked.bytes))
        saved = (every, places) if every.requires_grad else ()
        g.add_operation("gather", "elementwise", (every, w.carried[DISTANCES]), (picked, places), saved, moved, back)
        return picked, places

    @staticmethod
    def _summed(w: Writer, total: Tensor | None, part: Tensor) -> Tensor:
        """`total += part`, in the memory of the first sum."""
        g = w.graph
        if total is None:
            return g.unary("zero_plus", part, save="none")
        moved = (Kernel("elementwise", 3 * part.bytes),)
        summed = Tensor(total.shape, total.dtype, total.storage, total.requires_grad or part.requires_grad)
        g.add_operation("add", "elementwise", (total, part), (summed,), (), moved, (), alias=True)
        return summed

    @staticmethod
    def _masked(w: Writer, scores: Tensor) -> Tensor:
        """`masked_fill(~mask, …)`: every layer makes the mask's opposite, and keeps it."""
        g = w.graph
        y = g.new(scores.shape, scores.dtype, scores.requires_grad, "masked_scores")
        mask = g.new((w.b, 1, w.t, w.t), "bool", False, "mask")
        moved = (Kernel("elementwise", 2 * y.bytes + mask.bytes),)
        saved = (mask,) if scores.requires_grad else ()
        g.add_operation("mask", "elementwise", (scores,), (y, mask), saved, moved, moved)
        return y
