"""Mixture of experts: a router sends every token to a few of many gated MLPs, whose weights are stacked.

Source: transformers 5.24 `integrations/moe.py` (grouped products, its default) and the routers of `modeling_*.py`. Tokens are sorted by expert, so that
each projection is one grouped product over T·k rows; the count of rows decides FLOPs, the count of experts the weights.
"""

from __future__ import annotations

from planner.workload.architecture import Experts, Names
from planner.workload.graph import BYTES, Kernel, Tensor, matmul_kernel
from planner.workload.precision import QUANTIZED
from planner.workload.regions import exchange
from planner.workload.routing import route, top
from planner.workload.writer import Writer

LOOP_KERNELS = 12
"""Kernels of one expert in transformers 4's loop: find its tokens (three), index, two products, activation, product with the gate, third
product, weights' index and product, index_add (modeling_mixtral.py, MixtralSparseMoeBlock.forward, 4.4x)."""


def mixture(w: Writer, layer: str, experts: Experts, x: Tensor) -> Tensor:
    """Routed experts, and the shared one where the family has it."""
    g, n, arch = w.graph, w.names, w.arch
    flat = g.view(x, (x.numel / arch.hidden, arch.hidden))
    if experts.every and w.s.stack.every_expert:
        return g.view(every_expert(w, layer, experts, flat), x.shape)
    shared = None
    if experts.shared and experts.shared_first:
        shared = shared_expert(w, f"{layer}.{n.shared_expert}", experts, flat)
    weights, chosen = route(w, f"{layer}.{n.router}", experts, flat)
    sent = flat
    if experts.latent:
        before, after = latent_layers(layer, n)
        sent = w.linear(before, flat, experts.latent, bias=arch.mlp_bias)
    y = routed(w, f"{layer}.{n.experts}", experts, sent, weights, chosen)
    if experts.latent:
        y = w.linear(after, y, arch.hidden, bias=arch.mlp_bias)
    if experts.shared and shared is None:
        shared = shared_expert(w, f"{layer}.{n.shared_expert}", experts, flat)
    if shared is not None:
        if experts.shared_gate:
            score = w.linear(f"{layer}.{n.shared_expert}_gate", flat, 1, bias=False)
            shared = g.mul(g.unary("sigmoid", score, save="output"), shared, name="shared_gate")
        y = g.add(y, shared)
    if experts.norm_after:
        y = w.norm(f"{layer}.{experts.norm_after}", y, arch.hidden)
    return g.view(y, x.shape)


def latent_layers(layer: str, names: Names) -> tuple[str, str]:
    """Paths of the layers before and behind routed experts of another width."""
    beside = f"{layer}.{names.experts.rpartition('.')[0]}"
    return f"{beside}.fc1_latent_proj", f"{beside}.fc2_latent_proj"


def every_expert(w: Writer, layer: str, experts: Experts, x: Tensor) -> Tensor:
    """All experts on all tokens, each scaled by its score before (transformers Llama4TextMoe): E times the tokens in batched products."""
    g, n, count, (tokens, hidden) = w.graph, w.names, experts.count, x.shape
    scores = w.linear(f"{layer}.{n.router}", x, count, base=False)
    values, chosen = top(w, scores, experts.active)
    spread = g.new(scores.shape, scores.dtype, scores.requires_grad, "router_scores")
    kept = (chosen,) if spread.requires_grad else ()
    moved = (Kernel("elementwise", 2 * spread.bytes),)
    g.add_operation("scatter", "elementwise", (values, chosen), (spread,), kept, moved, moved)
    sigmoid = g.cast(g.unary("sigmoid", g.cast(spread, "fp32"), save="output"), scores.dtype)
    copies = g.copy(x, (count * tokens, hidden), name="repeat")
    rows = g.mul(copies, g.copy(sigmoid, (count * tokens, 1), name="transpose"), name="router_weight")

    def product(a: Tensor, path: str, width: float) -> Tensor:
        inner = a.shape[-1]
        weight = w.weight(f"{layer}.{n.experts}.{path}", (count, inner, width))
        y = g.batched_matmul(a, weight, tokens, width, inner, count, (count * tokens, width), "expert_linear")
        g.operations[-1].kind = "matmul"
        return y

    both = product(rows, "gate_up_proj", 2 * experts.ffn)
    gate, up = g.split(both, [(count * tokens, experts.ffn)] * 2)
    out = product(g.mul(up, w.activation(gate)) if w.s.eager else glu(w, gate, up), "down_proj", hidden)
    g.release(both)
    shared = shared_expert(w, f"{layer}.{n.shared_expert}", experts, x)
    total = g.new(shared.shape, out.dtype, out.requires_grad, "expert_sum")
    moved = (Kernel("reduction", out.bytes),)
    g.add_operation("expert_sum", "elementwise", (out,), (total,), (), moved, moved)
    y = Tensor(shared.shape, shared.dtype, shared.storage, shared.requires_grad or total.requires_grad)
    moved = (Kernel("elementwise", 3 * y.bytes),)
    g.add_operation("expert_add", "elementwise", (shared, total), (y,), (), moved, (), alias=True)
    g.release(rows, sigmoid, out)
    return y


def shared_expert(w: Writer, path: str, experts: Experts, x: Tensor) -> Tensor:
    """A gated MLP that every token passes (Dai et al. 2024, arXiv:2401.06066)."""
    g, bias, width = w.graph, w.arch.mlp_bias, experts.shared
    if experts.shared_fused:
        both = w.linear(f"{path}.input_linear", x, 2 * width)
        gate, up = g.split(both, [(x.shape[0], width)] * 2)
        product = g.mul(w.activation(gate), up) if w.s.eager else glu(w, gate, up)
        return w.linear(f"{path}.output_linear", product, w.arch.hidden)
    if not experts.gated:
        hidden = w.activation(w.linear(f"{path}.up_proj", x, width, bias=bias))
        return w.linear(f"{path}.down_proj", hidden, w.arch.hidden, bias=bias)
    gate = w.linear(f"{path}.gate_proj", x, width, bias=bias)
    if w.s.eager:
        gate = w.activation(gate)
    up = w.linear(f"{path}.up_proj", x, width, bias=bias)
    product = g.mul(gate, up) if w.s.eager else glu(w, gate, up)
    return w.linear(f"{path}.down_proj", product, w.arch.hidden, bias=bias)


def routed(w: Writer, path: str, experts: Experts, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    """The chosen experts of every token, summed by weight."""
    g = w.graph
    rows, hidden = x.shape[0] * experts.active, x.shape[1]
    order = [g.new((rows,), "int64", False, name) for name in ("sorted_experts", "permutation", "token")]
    sort = tuple(Kernel("elementwise", 16 * rows) for _ in range(4))
    g.add_operation("sort", "elementwise", (chosen,), order, (), sort, ())
    rows_in = gather(w, x, order[2], (rows, hidden))
    row_weights = gather(w, weights, order[1], (rows, 1))
    sent = exchange(w, rows_in, rows * w.s.split.rows)
    up = grouped(w, f"{path}.gate_up_proj" if experts.gated else f"{path}.up_proj", sent, experts, (1 + experts.gated) * experts.ffn)
    local: tuple[Tensor, ...] = ()
    if experts.biased:
        up, bias = biased(w, f"{path}.gate_up_proj_bias", up, experts, order[0])
        local = (bias,)
    product = gated(w, experts, up) if experts.gated else w.activation(up)
    out = grouped(w, f"{path}.down_proj", product, experts, hidden)
    if experts.biased:
        out, bias = biased(w, f"{path}.down_proj_bias", out, experts, order[0])
        g.release(*local)  # the variable names the second bias from here on
        local = (bias,)
    out = exchange(w, out, rows)
    weighted = g.mul(out, row_weights, name="expert_weight")
    y = g.new((x.shape[0], hidden), weighted.dtype, weighted.requires_grad, "expert_sum")
    inverse = g.new((rows,), "int64", False, "inverse_permutation")
    moved: tuple[Kernel, ...] = (
        Kernel("elementwise", 2 * weighted.bytes),
        Kernel("reduction", weighted.bytes + y.bytes),
    )
    saved = (inverse,) if y.requires_grad else ()
    back: tuple[Kernel, ...] = (Kernel("elementwise", 2 * weighted.bytes),)
    if w.s.stack.routing_kernels:
        ahead, behind = w.s.stack.routing_kernels
        moved, back = (*moved, Kernel("elementwise", times=ahead)), (*back, Kernel("elementwise", times=behind))
    if w.s.stack.quantizes_experts:  # one expert after the other: small kernels beside what the grouped form has
        loop = Kernel("elementwise", times=LOOP_KERNELS * experts.here)
        moved, back = (*moved, loop), (*back, loop)
    g.add_operation(
        "expert_sum", "elementwise", (weighted,), (y, inverse), saved, moved, back, temporary=(weighted.bytes, 0.0)
    )
    g.release(rows_in, row_weights, out, weighted, *order, *local)  # local variables of the experts' forward
    return g.cast(y, x.dtype, name="expert_output")


def gated(w: Writer, experts: Experts, up: Tensor) -> Tensor:
    """activation(gate) · value; biased experts clamp both and interleave them (transformers GptOssExperts)."""
    g = w.graph
    half = (up.shape[0], experts.ffn)
    gate, value = g.split(up, [half, half])
    if not w.s.eager:
        return glu(w, gate, value)
    if not experts.biased:
        return g.mul(w.activation(gate), value)
    # every second column: the gradient of each slice is a tensor of the whole
    gate, value = g.unary("clamp", gate, scratch=2.0), g.unary("clamp", value, scratch=2.0)
    sigmoid = g.unary("sigmoid", g.unary("scale", gate, save="none"), save="output")
    return g.mul(g.unary("one_plus", value, save="none"), g.mul(gate, sigmoid))


def biased(w: Writer, path: str, x: Tensor, experts: Experts, order: Tensor) -> tuple[Tensor, Tensor]:
    """`x.add_(bias[order])`: the sum, in x's memory, and the bias of every row."""
    g = w.graph
    bias = gather(w, w.weight(path, (experts.count, x.shape[-1])), order, x.shape)
    y = Tensor(x.shape, x.dtype, x.storage, x.requires_grad or bias.requires_grad)
    g.add_operation(
        "bias_add", "elementwise", (x, bias), (y,), (), (Kernel("elementwise", 3 * x.bytes),), (), alias=True
    )
    return y, bias


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
    if w.s.stack.single_products:  # one launch for each expert, of which the product above has one
        one = Kernel("elementwise", times=(experts.here - 1) * (2 if casts else 1))
        forward, backward = (*forward, one), [*backward, *[one for k in backward if k.kind == "matmul"]]
    scratch = 0.0
    if quantized:
        full = weight.numel * BYTES[x.dtype]
        unpack = Kernel("dequantize", 0.53 * weight.numel + full, dtype="nf4")
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
