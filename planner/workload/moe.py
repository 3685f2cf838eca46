"""Mixture of experts: a router sends every token to a few of many gated MLPs, whose weights are stacked.

Source: transformers 5.24 `integrations/moe.py` (grouped products, its default) and the routers of `modeling_*.py`. Tokens are sorted by expert, so that
each projection is one grouped product over T·k rows; the count of rows decides FLOPs, the count of experts the weights.
"""

from __future__ import annotations

from planner.workload.architecture import Experts
from planner.workload.graph import BYTES, Kernel, Tensor, matmul_kernel
from planner.workload.precision import QUANTIZED
from planner.workload.regions import exchange
from planner.workload.writer import Writer


def mixture(w: Writer, layer: str, experts: Experts, x: Tensor) -> Tensor:
    """Routed experts, and the shared one where the family has it."""
    g, n, arch = w.graph, w.names, w.arch
    tokens = x.numel / arch.hidden
    flat = g.view(x, (tokens, arch.hidden))
    shared = shared_expert(w, f"{layer}.{n.shared_expert}", experts.shared, flat) if experts.shared else None
    weights, chosen = route(w, f"{layer}.{n.router}", experts, flat)
    y = routed(w, f"{layer}.{n.experts}", experts, flat, weights, chosen)
    if shared is not None:
        gate = g.unary("sigmoid", w.linear(f"{layer}.{n.shared_expert}_gate", flat, 1, bias=False), save="output")
        y = g.add(y, g.mul(gate, shared, name="shared_gate"))
    return g.view(y, x.shape)


def shared_expert(w: Writer, path: str, width: int, x: Tensor) -> Tensor:
    """A gated MLP that every token passes (Dai et al. 2024, arXiv:2401.06066)."""
    g = w.graph
    gate = w.linear(f"{path}.gate_proj", x, width)
    if w.s.eager:
        gate = w.activation(gate)
    up = w.linear(f"{path}.up_proj", x, width)
    product = g.mul(gate, up) if w.s.eager else glu(w, gate, up)
    return w.linear(f"{path}.down_proj", product, w.arch.hidden)


def route(w: Writer, path: str, experts: Experts, x: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and indices of the chosen experts, [T, k] each: softmax and top-k of a linear score."""
    g, tokens = w.graph, x.shape[0]
    weight = w.weight(path + ".weight", (experts.count, x.shape[-1]))
    scores = g.linear(x, w.s.adaptation.merged(w, path + ".weight", weight), name="router")
    if experts.routing == "chosen":
        values, chosen = top(w, g.cast(scores, "fp32", name="router_upcast"), experts.active)
        return g.cast(g.softmax(values, name="router_softmax"), x.dtype, name="router_downcast"), chosen
    values, chosen = top(w, g.softmax(scores, "fp32", name="router_softmax"), experts.active)
    if experts.routing == "renormalized":
        total = g.new((tokens, 1), "fp32", values.requires_grad, "router_total")
        moved = (Kernel("reduction", values.bytes),)
        g.add_operation("router_total", "elementwise", (values,), (total,), (), moved, moved)
        values = g.mul(values, total, name="router_normalize")
    return values if experts.wide else g.cast(values, scores.dtype, name="router_downcast"), chosen


def top(w: Writer, scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`torch.topk` over experts: keeps the indices."""
    g = w.graph
    values = g.new((scores.shape[0], k), scores.dtype, scores.requires_grad, "top_values")
    chosen = g.new((scores.shape[0], k), "int64", False, "top_indices")
    saved = (chosen,) if values.requires_grad else ()
    forward, backward = Kernel("reduction", 2 * scores.bytes), Kernel("elementwise", scores.bytes)
    g.add_operation("top_k", "elementwise", (scores,), (values, chosen), saved, (forward,), (backward,))
    return values, chosen


def routed(w: Writer, path: str, experts: Experts, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    """The chosen experts of every token, summed by weight."""
    g, arch = w.graph, w.arch
    rows, hidden = x.shape[0] * experts.active, arch.hidden
    order = [g.new((rows,), "int64", False, name) for name in ("sorted_experts", "permutation", "token")]
    sort = tuple(Kernel("elementwise", 16 * rows) for _ in range(4))
    g.add_operation("sort", "elementwise", (chosen,), order, (), sort, ())
    rows_in = gather(w, x, order[2], (rows, hidden))
    row_weights = gather(w, weights, order[1], (rows, 1))
    sent = exchange(w, rows_in)
    up = grouped(w, f"{path}.gate_up_proj", sent, experts, 2 * experts.ffn)
    half = (rows, experts.ffn)
    gate, value = g.split(up, [half, half])
    product = g.mul(w.activation(gate), value) if w.s.eager else glu(w, gate, value)
    out = exchange(w, grouped(w, f"{path}.down_proj", product, experts, hidden))
    weighted = g.mul(out, row_weights, name="expert_weight")
    y = g.new((x.shape[0], hidden), weighted.dtype, weighted.requires_grad, "expert_sum")
    inverse = g.new((rows,), "int64", False, "inverse_permutation")
    moved = (Kernel("elementwise", 2 * weighted.bytes), Kernel("reduction", weighted.bytes + y.bytes))
    saved = (inverse,) if y.requires_grad else ()
    back = (Kernel("elementwise", 2 * weighted.bytes),)
    g.add_operation(
        "expert_sum", "elementwise", (weighted,), (y, inverse), saved, moved, back, temporary=(weighted.bytes, 0.0)
    )
    g.release(rows_in, row_weights, out, weighted, *order)  # local variables of the experts' forward
    return g.cast(y, x.dtype, name="expert_output")


def gather(w: Writer, x: Tensor, index: Tensor, shape: tuple[float, ...]) -> Tensor:
    """`x[index]`: rows in a new order; keeps the index."""
    g = w.graph
    y = g.new(shape, x.dtype, x.requires_grad, "gather")
    saved = (index,) if y.requires_grad else ()
    moved = (Kernel("elementwise", 2 * y.bytes + index.bytes),)
    g.add_operation("gather", "elementwise", (x, index), (y,), saved, moved, moved)
    return y


def grouped(w: Writer, path: str, x: Tensor, experts: Experts, out: float) -> Tensor:
    """`torch.nn.functional.grouped_mm`: T·k rows spread over the experts' stacked weights, in the weights' type (autocast does not touch it).

    transformers 5 stacks the weights of all experts, which bitsandbytes leaves alone; where a stack quantizes experts they are unpacked
    one after the other, for forward and again for backward, as quantized linear layers are.
    """
    g = w.graph
    weight = w.weight(path, (experts.here, out, x.shape[-1]), base=w.s.stack.quantizes_experts)
    assert weight.parameter is not None
    quantized = weight.parameter.dtype in QUANTIZED
    if not quantized:
        weight = w.s.adaptation.merged(w, path, weight)
    x = g.cast(x, w.s.formats.compute if quantized else weight.dtype, name="expert_input")
    rows, inner = x.shape
    needs = x.requires_grad or weight.requires_grad
    y = g.new((rows, out), x.dtype, needs, "grouped_linear")
    saved = ([x] if weight.requires_grad else []) + ([weight] if x.requires_grad and not quantized else [])
    each, scaled, product, casts = rows / experts.here, w.s.formats.scaled, x.dtype, list[Kernel]()
    if scaled is not None and scaled.library == "transformer-engine" and scaled.takes(weight) and not quantized:
        # Transformer Engine's GroupedLinear; torchao leaves stacked weights alone
        product, kept = scaled.recipe.product, g.new(x.shape, scaled.recipe.stored, False, "quantized_columns")
        casts = scaled.cast(x.bytes, x.numel, scaled.copies)
        if not scaled.cached:
            casts += scaled.cast(weight.bytes, weight.numel, scaled.copies)
        g.add_operation("quantize", "elementwise", (x,), (kept,), (), casts, ())
        saved = [kept if t is x else t for t in saved]
    forward: tuple[Kernel, ...] = (matmul_kernel(each, out, inner, product, batch=experts.here),)
    backward = scaled.cast(y.bytes, y.numel, scaled.copies) if scaled is not None and casts and needs else []
    if x.requires_grad:
        backward.append(matmul_kernel(each, inner, out, product, batch=experts.here, layout="dgrad"))
    if weight.requires_grad:
        backward.append(matmul_kernel(out, inner, each, product, batch=experts.here, layout="wgrad"))
    scratch = 0.0
    if quantized:
        full = weight.numel * BYTES[x.dtype]
        unpack = Kernel("dequantize", 0.53 * weight.numel + full)
        forward, backward, scratch = (unpack, *forward), [unpack, *backward] if backward else [], full / experts.here
    g.add_operation(
        "grouped_linear",
        "matmul",
        (x, *(t for t in saved if t is not x and t is not weight), weight),
        (y,),
        saved,
        forward,
        backward,
        temporary=(scratch, scratch),
    )
    return y


def glu(w: Writer, gate: Tensor, up: Tensor) -> Tensor:
    """One fused kernel for activation(gate) · up; keeps both inputs."""
    g = w.graph
    y = g.new(gate.shape, gate.dtype, gate.requires_grad or up.requires_grad, "glu")
    saved = (gate, up) if y.requires_grad else ()
    moved = gate.bytes + up.bytes + y.bytes
    g.add_operation(
        "glu",
        "elementwise",
        (gate, up),
        (y,),
        saved,
        (Kernel("elementwise", moved),),
        (Kernel("elementwise", moved + 2 * y.bytes),),
    )
    return y
