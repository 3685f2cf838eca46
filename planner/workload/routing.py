"""How a token finds its experts: scores of a linear router, made into weights, and the choice of the largest.

Source: the routers of transformers 5.24 `modeling_*.py`.
"""

from __future__ import annotations

from planner.workload.architecture import Experts
from planner.workload.graph import BYTES, Kernel, Tensor
from planner.workload.writer import Writer


def route(w: Writer, path: str, experts: Experts, x: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and indices of the chosen experts, [T, k] each."""
    g, held = w.graph, w.graph.autocast
    if experts.unmixed:
        g.autocast = None
    values, chosen = weights(w, experts, score(w, path, experts, x))
    if experts.correction == "parameter":
        w.precise(f"{path}.moe_statics.e_score_correction_bias", (1, experts.count), trained=False)
    g.autocast = held
    return (g.cast(values, x.dtype, name="router_downcast") if experts.unmixed else values), chosen


def score(w: Writer, path: str, experts: Experts, x: Tensor) -> Tensor:
    """One score per token and expert [T, E]."""
    g, shape = w.graph, (experts.count, x.shape[-1])
    if experts.router_linear and not experts.precise:
        return w.linear(path, x, experts.count, base=False)
    bias = w.weight(path + ".bias", (experts.count,)) if experts.biased else None
    if not experts.precise and not experts.upcast:
        weight = w.s.adaptation.merged(w, path + ".weight", w.weight(path + ".weight", shape))
        return g.linear(x, weight, bias, name="router")
    x = g.cast(x, "fp32", name="router_input")
    weight = w.precise(path + ".weight", shape) if experts.precise else g.cast(w.weight(path + ".weight", shape), "fp32")
    if experts.router_linear:
        return w.linear(path, x, experts.count, base=False, weight=weight)
    return g.linear(x, w.s.adaptation.merged(w, path + ".weight", weight), name="router")


def weights(w: Writer, experts: Experts, scores: Tensor) -> tuple[Tensor, Tensor]:
    """From scores to the weights of the chosen experts."""
    g, kind = w.graph, experts.routing
    if kind in ("chosen", "chosen-own"):
        wide = g.cast(scores, "fp32", name="router_upcast") if kind == "chosen" else scores
        values, chosen = top(w, wide, experts.active)
        values = g.softmax(values, name="router_softmax")
        return g.cast(values, scores.dtype, name="router_downcast"), chosen
    if kind == "sampled":
        return sampled(w, scores)
    if kind.startswith("sigmoid"):
        wide = scores if experts.precise or experts.upcast else g.cast(scores, "fp32", name="router_upcast")
        probabilities = g.unary("sigmoid", wide, save="output")
    else:
        probabilities = g.softmax(scores, "fp32", name="router_softmax")
    if experts.correction == "none":
        if experts.limited:
            probabilities = masked(w, probabilities)
        values, chosen = top(w, probabilities, experts.active)
    else:
        values, chosen = picked(w, experts, probabilities)
    if kind.endswith("renormalized"):
        tokens = values.shape[0]
        total = g.new((tokens, 1), values.dtype, values.requires_grad, "router_total")
        moved = (Kernel("reduction", values.bytes),)
        g.add_operation("router_total", "elementwise", (values,), (total,), (), moved, moved)
        values = g.mul(values, total, name="router_normalize")
    if experts.scaled:
        values = g.unary("router_scale", values, save="none")
    return values if experts.wide or experts.unmixed else g.cast(values, scores.dtype, name="router_downcast"), chosen


def top(w: Writer, scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`torch.topk` over experts: keeps the indices."""
    g = w.graph
    values = g.new((scores.shape[0], k), scores.dtype, scores.requires_grad, "top_values")
    chosen = g.new((scores.shape[0], k), "int64", False, "top_indices")
    saved = (chosen,) if values.requires_grad else ()
    forward, backward = Kernel("reduction", 2 * scores.bytes), Kernel("elementwise", scores.bytes)
    g.add_operation("top_k", "elementwise", (scores,), (values, chosen), saved, (forward,), (backward,))
    return values, chosen


def picked(w: Writer, experts: Experts, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Chosen by corrected scores (of the best groups), weighed by the scores as they are: keeps the indices."""
    g, tokens = w.graph, scores.shape[0]
    chosen = g.new((tokens, experts.active), "int64", False, "top_indices")
    corrected = scores.numel * max(4.0, BYTES[scores.dtype])
    steps = 8 if experts.limited else 2  # scores of groups, their mask, and the masked scores
    moved = tuple(Kernel("elementwise", 2 * corrected) for _ in range(steps))
    scratch = (3.25 if experts.limited else 1.0) * corrected
    g.add_operation("choose", "elementwise", (scores,), (chosen,), (), moved, (), temporary=(scratch, 0.0))
    values = g.new(chosen.shape, scores.dtype, scores.requires_grad, "top_values")
    forward, backward = Kernel("elementwise", 2 * values.bytes), Kernel("elementwise", scores.bytes)
    saved = (chosen,) if values.requires_grad else ()
    g.add_operation("gather", "elementwise", (scores, chosen), (values,), saved, (forward,), (backward,))
    return values, chosen


def masked(w: Writer, scores: Tensor) -> Tensor:
    """Scores of experts outside the best groups become zero: keeps the mask."""
    g = w.graph
    mask = g.new(scores.shape, "bool", False, "group_mask")
    y = g.new(scores.shape, scores.dtype, scores.requires_grad, "masked_scores")
    moved = tuple(Kernel("elementwise", 2 * scores.bytes) for _ in range(5))
    saved = (mask,) if y.requires_grad else ()
    back = (Kernel("elementwise", 2 * scores.bytes),)
    g.add_operation(
        "group_mask", "elementwise", (scores,), (y, mask), saved, moved, back, temporary=(2 * scores.bytes, 0.0)
    )
    return y


def sampled(w: Writer, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Two rounds, each of an expert drawn from the scores near the largest (transformers `sparsemixer`)."""
    g, tokens = w.graph, scores.shape[0]
    one = (tokens, 1)
    values, indices = [], []
    left = scores
    for turn in range(2):
        mask = g.new(scores.shape, "bool", False, "threshold_mask")
        gates = g.new(scores.shape, left.dtype, scores.requires_grad, "masked_scores")
        moved = tuple(Kernel("elementwise", 2 * scores.bytes) for _ in range(8))
        kept = (mask,) if gates.requires_grad else ()
        back = (Kernel("elementwise", 2 * scores.bytes),)
        g.add_operation(
            "threshold", "elementwise", (left,), (gates, mask), kept, moved, back, temporary=(3 * scores.bytes, 0.0)
        )
        gates = g.softmax(g.raise_(gates), name="router_softmax")
        index, value = g.new(one, "int64", False, "drawn"), g.new(one, gates.dtype, gates.requires_grad, "multiplier")
        saved = (gates, index) if value.requires_grad else ()
        g.add_operation("draw", "elementwise", (gates,), (value, index), saved, moved, back)
        values.append(value)
        indices.append(index)
        if not turn:
            left = g.unary("scatter", scores, save="none")
    chosen = g.new((tokens, 2), "int64", False, "top_indices")
    g.add_operation("cat", "elementwise", indices, (chosen,), (), (Kernel("elementwise", 2 * chosen.bytes),), ())
    return g.cat(values, (tokens, 2)), chosen
