"""DeBERTa's first attention: queries, keys and values in one weight without biases, two biases added behind it, and absolute spans.

He et al. 2020, arXiv:2006.03654. Source: transformers 5.24 `modeling_deberta.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from planner.workload.disentangled import Disentangled
from planner.workload.graph import Kernel, Tensor
from planner.workload.writer import Writer


@dataclass(frozen=True)
class FusedDisentangled(Disentangled):
    """`span` is the farthest distance that the model tells apart; a shorter sequence uses the middle of its table."""

    own: ClassVar[tuple[str, str]] = ("pos_proj", "pos_q_proj")

    @property
    def linears(self) -> tuple[str, ...]:
        return ("attention.self.in_proj", *(self._own() if self.span else ()), "attention.output.dense")

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        g, arch = w.graph, w.arch
        b, a, t, d, path = w.b, arch.heads, w.t, arch.head_dim, f"{layer}.attention.self"
        w.held = (*w.held, x)  # the encoder lists the hidden states of all layers
        part, square = (b, a, t, d), (b, a, t, t)
        fused = w.linear(f"{path}.in_proj", x, 3 * a * d)
        q, k, v = g.split(fused, [part] * 3)
        q = g.add(q, w.weight(f"{path}.q_bias", (a * d,)), name="bias_add")
        v = g.add(v, w.weight(f"{path}.v_bias", (a * d,)), name="bias_add")
        q = g.unary("scale", q, save="none")
        scores = g.batched_matmul(g.copy(g.lower(q)), g.copy(g.lower(k)), t, t, d, b * a, square, "scores")
        added = self._scores(w, path, q, k) if self.span and (self.to_position or self.to_content) else None
        scores = g.unary("zero_plus", scores, save="none") if added is None else g.add(scores, added, name="position_scores")
        scores = self._masked(w, scores)
        weights = g.dropout(g.softmax(g.raise_(scores)), w.active(arch.attention_dropout))
        out = g.batched_matmul(g.lower(weights), g.copy(g.lower(v)), t, d, t, b * a, part, "context")
        out = g.copy(out, (b, t, a * d))
        g.release(fused, scores, weights, q, v, *(() if added is None else (added,)))
        return w.linear(f"{layer}.{w.names.out}", out, arch.hidden, bias=True)

    def _scores(self, w: Writer, path: str, q: Tensor, k: Tensor) -> Tensor:
        """The scores of contents with positions: both products, looked up by distance."""
        g, arch = w.graph, w.arch
        b, a, t, d, span = w.b, arch.heads, w.t, arch.head_dim, 2 * min(w.t, self.span)
        table = w.weight(self.table + ".weight", (2 * self.span, arch.hidden))
        dropped = g.dropout(table, w.active(arch.hidden_dropout))
        middle = Tensor((1, span, arch.hidden), dropped.dtype, dropped.storage, dropped.requires_grad)
        back = (Kernel("elementwise", dropped.bytes),)
        g.add_operation("slice", "elementwise", (dropped,), (middle,), (), (), back)
        kinds = zip(self.own, (q, k), (False, True), (self.to_position, self.to_content), strict=True)
        wanted = [(name, content, bias) for name, content, bias, there in kinds if there]
        total: Tensor | None = None
        local: list[Tensor] = [dropped]
        for name, content, bias in wanted:
            positions = w.linear(f"{path}.{name}", middle, a * d, bias=bias)
            repeated = g.copy(g.lower(positions), (b, a, d, span), name="repeat")
            every = g.batched_matmul(g.copy(g.lower(content)), repeated, t, span, d, b * a, (b, a, t, span), "position_product")
            picked, places = self._looked_up(w, every)
            total = self._summed(w, total, picked)
            local += [positions, picked, places]
        g.release(*local)
        assert total is not None
        return total
