"""Disentangled attention of DeBERTa (He et al. 2021, arXiv:2006.03654, eq. 4): content to content, content to position, position to content.

Written as transformers 5.24 `modeling_deberta_v2.py` executes it: scores of all relative positions, then a gather.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.run import Batch
from planner.workload.embeddings import embed
from planner.workload.graph import Kernel, Tensor
from planner.workload.writer import Writer

RELATIVE = "relative_embeddings"
"""Under this name the embedding stretch hands the normed table of relative positions to all layers."""


@dataclass(frozen=True)
class DisentangledFront:
    """Token embeddings, their product with the mask of ones, the square mask, and the table of relative positions.

    rows: rows of that table, 0 without relative attention · path: of the encoder.
    """

    rows: int
    path: str = "deberta.encoder"

    @property
    def fields(self) -> tuple[str, ...]:
        return ()

    def resolve(self, batch: Batch) -> Batch:
        return batch

    def tokens(self, batch: Batch) -> int:
        return batch.seq_len or 0

    def sequences(self, batch: Batch) -> int:
        return batch.micro

    def counted(self, batch: Batch) -> int:
        return batch.seq_len or 0

    def write(self, w: Writer, require_grad: bool) -> Tensor:
        g = w.graph
        x = embed(w, require_grad)
        mask = g.new((w.b, 1, w.t, w.t), "int64", False, "mask")
        moved = (Kernel("elementwise", mask.bytes),)
        g.add_operation("mask", "elementwise", (x,), (mask,), (), moved, ())
        w.arguments = (*w.arguments, mask)
        if self.rows:
            table = w.weight(f"{self.path}.rel_embeddings.weight", (self.rows, w.arch.hidden))
            relative = w.norm(f"{self.path}.LayerNorm", table, w.arch.hidden)
            w.carried[RELATIVE] = relative
            w.held = (*w.held, relative)
            w.arguments = (*w.arguments, relative)
        return x


@dataclass(frozen=True)
class DisentangledAttention:
    """One attention module. span: relative positions to each side, 0 without relative attention · shared: positions go
    through the content's projections · c2p, p2c: which position scores there are."""

    span: int
    shared: bool
    c2p: bool
    p2c: bool
    path: str = "attention.self"

    @property
    def linears(self) -> tuple[str, ...]:
        names = ["query_proj", "key_proj", "value_proj"]
        if self.span and not self.shared:
            names += ["pos_key_proj"] * self.c2p + ["pos_query_proj"] * self.p2c
        return (*(f"{self.path}.{name}" for name in names), "attention.output.dense")

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        g, arch = w.graph, w.arch
        b, a, t, d = w.b, arch.heads, w.t, arch.head_dim
        prefix = f"{layer}.{self.path}"
        q, k, v = (self._heads(w, f"{prefix}.{name}_proj", x, t) for name in ("query", "key", "value"))
        scaled = g.unary("attention_scale", k, save="none")
        scores = g.batched_matmul(q, scaled, t, t, d, b * a, (b, a, t, t), "scores")
        if self.span:
            scores = g.add(scores, self._positions(w, prefix, q, k), name="position_add")
        mask = g.new((b, 1, t, t), "bool", False, "inverse_mask")
        g.add_operation("mask_not", "elementwise", (), (mask,), (), (Kernel("elementwise", 10 * mask.bytes),), ())
        filled = g.new(scores.shape, scores.dtype, scores.requires_grad, "masked_fill")
        moved = (Kernel("elementwise", 2 * scores.bytes),)
        saved = (mask,) if scores.requires_grad else ()
        g.add_operation("masked_fill", "elementwise", (scores, mask), (filled,), saved, moved, moved)
        probabilities = g.dropout(g.softmax(g.raise_(filled)), w.active(arch.attention_dropout))
        y = g.copy(g.batched_matmul(probabilities, v, t, d, t, b * a, (b, a, t, d), "context"))
        out = w.linear(f"{layer}.attention.output.dense", g.view(y, (b, t, a * d)), arch.hidden, bias=True)
        g.release(x)
        return out

    def _heads(self, w: Writer, path: str, x: Tensor, rows: float) -> Tensor:
        """A projection, copied to the order of heads."""
        arch, g = w.arch, w.graph
        batch = x.numel / x.shape[-1] / rows
        return g.copy(
            w.linear(path, x, arch.heads * arch.head_dim, bias=True), (batch, arch.heads, rows, arch.head_dim)
        )

    def _positions(self, w: Writer, prefix: str, q: Tensor, k: Tensor) -> Tensor:
        """Scores with relative positions: products with the whole table, of which each query and key takes its own."""
        g, arch = w.graph, w.arch
        b, a, t, d, rows = w.b, arch.heads, w.t, arch.head_dim, 2 * self.span
        table = g.dropout(w.carried[RELATIVE], w.active(arch.hidden_dropout))
        names = {
            "c2p": "key_proj" if self.shared else "pos_key_proj",
            "p2c": "query_proj" if self.shared else "pos_query_proj",
        }
        wanted = ["p2c", "c2p"] if self.shared else [n for n, on in (("c2p", self.c2p), ("p2c", self.p2c)) if on]
        made = {
            name: g.copy(self._heads(w, f"{prefix}.{names[name]}", table, rows), (b, a, rows, d), name="repeat")
            for name in wanted
        }
        total: Tensor | None = None
        for name, content, on in (("c2p", q, self.c2p), ("p2c", k, self.p2c)):
            if not on:
                continue
            every = g.batched_matmul(content, made[name], t, rows, d, b * a, (b, a, t, rows), name)
            index = g.new((t, t), "int64", False, "gather_index")
            taken = g.new((b, a, t, t), every.dtype, every.requires_grad, "gather")
            moved = (Kernel("elementwise", 2 * taken.bytes),)
            saved = (index,) if every.requires_grad else ()
            g.add_operation("gather", "elementwise", (every,), (taken, index), saved, moved, moved * 2)
            scaled = g.unary("position_scale", taken, save="none")
            total = (
                g.add(total, scaled, name="position_sum") if total is not None else g.unary("plus", scaled, save="none")
            )
        assert total is not None
        return total
