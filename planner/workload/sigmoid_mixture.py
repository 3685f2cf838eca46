"""Routed experts whose scores are sigmoids, with a bias that steers the choice alone (LFM2-MoE).

Wang et al. 2024, arXiv:2408.15664 (bias without a balancing loss). Source: transformers 5.24 `Lfm2MoeTopKRouter`.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.workload.architecture import Experts
from planner.workload.graph import Kernel, Tensor
from planner.workload.moe import gather, routed
from planner.workload.pointwise import apply, outer
from planner.workload.routing import top
from planner.workload.writer import Writer


@dataclass(frozen=True)
class SigmoidMixture:
    """biased: a buffer is added to the scores for the choice · normed: chosen weights are divided by their sum."""

    experts: Experts
    biased: bool
    normed: bool

    def divided(self, tp: int) -> SigmoidMixture:
        """The router of one tensor-parallel rank is whole; experts are divided as those of other mixtures."""
        return self

    @property
    def linears(self) -> tuple[str, ...]:
        return ()  # routers and stacked experts are parameters

    def write(self, w: Writer, layer: str, x: Tensor) -> Tensor:
        g, n, tokens, e = w.graph, w.names, w.b * w.t, self.experts
        flat = g.view(x, (tokens, w.arch.hidden))
        logits = g.linear(flat, w.weight(f"{layer}.{n.router}.weight", (e.count, w.arch.hidden)), name="router")
        scores = g.unary("sigmoid", logits, save="output")
        if self.biased:
            _, chosen = top(w, apply(g, "router_bias", (scores,), scores.shape, "fp32"), e.active)
            weights = gather(w, scores, chosen, (tokens, e.active))
        else:
            weights, chosen = top(w, scores, e.active)
        if self.normed:
            total = g.new((tokens, 1), "fp32" if g.autocast else weights.dtype, weights.requires_grad, "router_total")
            moved = (Kernel("reduction", weights.bytes),)
            g.add_operation("router_total", "elementwise", (weights,), (total,), (), moved, moved)
            weights = outer(g, weights, total, weights.shape, "router_normalize")
        weights = g.unary("router_scale", weights, save="none")
        y = routed(w, f"{layer}.{n.experts}", e, flat, weights, chosen)
        return g.view(y, (w.b, w.t, w.arch.hidden))
