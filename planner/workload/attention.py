"""Self-attention with grouped heads, rotary positions and the kernels that compute its core.

Source: transformers 5.24 `modeling_*.py`.
"""

from __future__ import annotations

from planner.workload.architecture import Architecture
from planner.workload.context import arrive, check_kernel, depart
from planner.workload.graph import BYTES, Graph, Kernel, Tensor
from planner.workload.seq2seq import Cross, additive_mask, zero_bias
from planner.workload.writer import Writer


def attention(w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
    """What mixes positions: self-attention with grouped heads (Ainslie et al. 2023, arXiv:2305.13245), or the stack's own mixer."""
    arch, n, g = w.arch, w.names, w.graph
    if arch.mixer is not None:
        return w.s.adaptation.after(w, layer, "attention", x, arch.mixer.write(w, layer, index, x))
    heads, kv, d, b, t = arch.heads, arch.kv_heads, arch.head_dim, w.b, w.t
    q_shape, kv_shape = (b, heads, t, d), (b, kv, t, d)
    if arch.fused_qkv:
        fused = clipped(w, w.linear(f"{layer}.{n.fused}", x, (heads + 2 * kv) * d, bias=arch.qkv_bias))
        q, k, v = g.split(fused, [q_shape, kv_shape, kv_shape])
        if arch.qkv_regrouped:
            q, k, v = (g.copy(part, part.shape, name="regroup") for part in (q, k, v))
        q = g.view(qk_norm(w, f"{layer}.{n.qk_norms[0]}", q, heads), q_shape)
        k = g.view(qk_norm(w, f"{layer}.{n.qk_norms[1]}", k, kv), kv_shape)
        if arch.kv_repeated_early and kv != heads:
            k, v, kv = g.copy(k, q_shape, name="repeat_kv"), g.copy(v, q_shape, name="repeat_kv"), heads
    else:
        w.joined = {} if w.s.stack.joined_qkv else None
        q = w.linear(f"{layer}.{n.query}", x, heads * d, bias=arch.qkv_bias)
        if arch.query_scaled:
            q = g.unary("query_scale", q, save="none")
        early = not arch.qk_norm_last
        q = g.view(qk_norm(w, f"{layer}.{n.qk_norms[0]}", q, heads) if early else q, q_shape)
        k = w.linear(f"{layer}.{n.key}", x, kv * d, bias=arch.keys_biased)
        k = g.view(qk_norm(w, f"{layer}.{n.qk_norms[1]}", k, kv) if early else k, kv_shape)
        v = g.view(w.linear(f"{layer}.{n.value}", x, kv * d, bias=arch.qkv_bias), kv_shape)
        w.joined = None
        if w.s.stack.joined_qkv:
            q, k, v = parts_of_one(w, q, k, v)
            kv = heads
    if arch.clipped and not arch.fused_qkv:
        q, k, v = clipped(w, q), clipped(w, k), clipped(w, v)
    if arch.qk_clipped:
        q, k, v = (clamped_in_place(w, part) for part in (q, k, v))
    if arch.rotary_dim:
        tables = halved_tables(w, x.dtype) if arch.rotary_halved else ()
        q, k = rotate(w, q, heads, x.dtype, tables), rotate(w, k, kv, x.dtype, tables)
    if arch.qk_norm_last:
        q, k = (
            g.view(qk_norm(w, f"{layer}.{path}", part, count), part.shape)
            for path, part, count in zip(n.qk_norms, (q, k), (heads, kv), strict=True)
        )
    if arch.query_rescaled:
        q = g.unary("query_scale", q, save="none")
    if arch.query_tempered:
        q = g.cast(promoted(w, "temperature", q, "fp32"), q.dtype)
    q, k, v = arrive(w, q, *w.s.adaptation.prefix(w, index, k, v))
    bias = None if arch.position_bias is None else arch.position_bias.write(w, layer, index)
    if arch.sinks:
        y = sink_core(w, f"{layer}.{n.sinks}", q, k, v, index)
    else:
        y = core(w, q, k, v, index, bias=bias)
    y = g.view(depart(w, y), (b, t, heads * d))
    if n.context_norm:
        y = w.norm(f"{layer}.{n.context_norm}", y, heads * d)
    out = w.linear(f"{layer}.{n.out}", y, arch.hidden, bias=arch.out_bias)
    g.release(x, q, k, v)  # local variables of the module's forward and of its caller
    return w.s.adaptation.after(w, layer, "attention", x, out)


def parts_of_one(w: Writer, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values that come from one product (LitGPT's CausalSelfAttention.qkv): views of its output, which the values keep
    alive as a whole; keys and values of grouped heads are copied for every query head instead."""
    g = w.graph
    if k.shape != q.shape:
        return q, g.copy(k, q.shape, name="repeat_kv"), g.copy(v, q.shape, name="repeat_kv")
    parts = (q, k, v)
    whole = g.new((sum(t.numel for t in parts),), q.dtype, any(t.requires_grad for t in parts), "qkv")
    g.add_operation("join", "elementwise", parts, (whole,), (), (), ())
    q, k, v = g.split(whole, [t.shape for t in parts])
    return q, k, v


def cross_attention(w: Writer, layer: str, index: int, cross: Cross, x: Tensor) -> Tensor:
    """Queries of this stack over keys and values of a tower's output."""
    arch, g, source = w.arch, w.graph, w.carried[cross.source]
    heads, kv, d, keys = arch.heads, arch.kv_heads, arch.head_dim, source.shape[1]
    q = w.linear(f"{layer}.{cross.query}", x, heads * d, bias=arch.qkv_bias)
    if arch.query_scaled:
        q = g.unary("query_scale", q, save="none")
    q = g.view(q, (w.b, heads, w.t, d))
    k = w.linear(f"{layer}.{cross.key}", source, kv * d, bias=arch.keys_biased)
    k = g.view(k, (w.b, kv, keys, d))
    v = g.view(w.linear(f"{layer}.{cross.value}", source, kv * d, bias=arch.qkv_bias), (w.b, kv, keys, d))
    if w.s.adaptation.prefix_tokens and not w.s.adaptation.virtual_tokens:  # the prefix comes as a cache, which keeps copies of these too
        k, v = g.copy(k, name="cached"), g.copy(v, name="cached")
        w.held = (*w.held, k, v)
    y = core(w, q, k, v, index, cross=True, bias=zero_bias(w, cross, keys, q.dtype))
    out = w.linear(f"{layer}.{cross.out}", g.view(y, (w.b, w.t, heads * d)), arch.hidden, bias=arch.out_bias)
    g.release(x, q, k, v)
    return out


def qk_norm(w: Writer, path: str, x: Tensor, heads: float) -> Tensor:
    """Norm of queries or keys: over each head (Qwen 3) or over all of them (OLMo 2)."""
    kind, d = w.arch.qk_norm, w.arch.head_dim
    if kind == "none":
        return x
    if kind == "unit":  # without a weight (Llama 4)
        if not w.s.eager:
            return w.graph.layer_norm(x, None, None, fused_dtype=x.dtype, name="unit_norm")
        return w.graph.cast(w.normalized(x, d), x.dtype, name="norm_downcast")
    if kind == "heads":  # a norm for each head, joined again (StableLM)
        normed = w.norm(f"{path}.norms", w.graph.view(x, (w.b, w.t, heads, d)), d, rows=heads)
        return w.graph.copy(normed, name="cat")
    return w.norm(path, w.graph.view(x, (w.b, w.t, heads, d)), d) if kind == "head" else w.norm(path, x, heads * d)


def clipped(w: Writer, x: Tensor) -> Tensor:
    """Clamped where the family does so; keeps what it clamps."""
    return w.graph.unary("clamp", x) if w.arch.clipped else x


def clamped_in_place(w: Writer, x: Tensor) -> Tensor:
    """`x.clamp_()`: where autograd needs the input it keeps a copy of it, and the result takes the input's place."""
    g = w.graph
    if not w.s.eager or not x.requires_grad:
        return x
    original = g.new(x.shape, x.dtype, False, "before_clamp")
    y = Tensor(x.shape, x.dtype, x.storage, True)
    moved = (Kernel("elementwise", 2 * x.bytes),)
    g.add_operation("clamp", "elementwise", (x,), (y, original), (original,), moved * 2, moved)
    return y


def halved_tables(w: Writer, dtype: str) -> tuple[Tensor, ...]:
    """`cos[..., : d // 2].repeat_interleave(2)`: tables of a layer's own, for both queries and keys."""
    g, arch = w.graph, w.arch
    wide = "fp32" if arch.rotary_fp32 else dtype
    tables = tuple(g.new((1, w.t, 1, arch.rotary_dim), wide, False, "repeated_table") for _ in range(2))
    moved = (Kernel("elementwise", 2 * tables[0].bytes),)
    g.add_operation("rotary_tables", "elementwise", (), tables, (), moved * 2, ())
    return tables


def rotate(w: Writer, x: Tensor, heads: float, dtype: str, tables: tuple[Tensor, ...] = ()) -> Tensor:
    """Rotary positions (Su et al. 2021, arXiv:2104.09864): `x·cos + rotate_half(x)·sin`, five kernels in eager code, one in fused stacks."""
    g, arch = w.graph, w.arch
    if not w.s.eager:
        y = g.new(x.shape, x.dtype, x.requires_grad, "rotary")
        g.add_operation(
            "rotary",
            "elementwise",
            (x,),
            (y,),
            (),
            (Kernel("elementwise", 2 * x.bytes),),
            (Kernel("elementwise", 2 * x.bytes),),
        )
        return y
    part = (
        x
        if arch.rotary_dim == arch.head_dim and not arch.fresh_rotary
        else g.view(x, (w.b, heads, w.t, arch.rotary_dim))
    )
    if arch.rotary_complex:
        return complex_rotary(w, x)
    narrow, half = x.dtype, None
    if arch.rotary_fp32:
        dtype = "fp32"
    if arch.rotary_wide:
        part, half = g.cast(part, "fp32"), g.cast(g.unary("rotate_half", part, save="none", kernels=2), "fp32")
    elif arch.rotary_upcast:
        part = g.cast(part, "fp32")
    cosine = promoted(w, "rotary_cos", part, dtype, tables[:1])
    half = half or g.unary("rotate_half", part, save="none", kernels=2)
    y = g.add(cosine, promoted(w, "rotary_sin", half, dtype, tables[1:]), name="rotary_add")
    if arch.rotary_fp32 or arch.rotary_upcast:
        y = g.cast(y, narrow)
    if arch.fresh_rotary or arch.rotary_dim < arch.head_dim:  # torch.cat of the rotated part and the rest
        whole = g.new(x.shape, y.dtype, x.requires_grad, "rotary_cat")
        moved = x.bytes + whole.bytes
        g.add_operation(
            "rotary_cat",
            "elementwise",
            (y,),
            (whole,),
            (),
            (Kernel("elementwise", moved),),
            (Kernel("elementwise", moved),),
        )
        return whole
    return g.cast(y, x.dtype) if arch.rotary_wide else y


def complex_rotary(w: Writer, x: Tensor) -> Tensor:
    """Pairs as fp32 complex numbers times those of the positions; keeps nothing but the shared table."""
    y = w.graph.new(x.shape, x.dtype, x.requires_grad, "rotary")
    moved = (Kernel("elementwise", x.bytes + y.bytes),) * 4
    scratch = 0.0 if x.dtype == "fp32" else 8.0 * x.numel
    w.graph.add_operation("rotary", "elementwise", (x,), (y,), (), moved, moved, temporary=(scratch, scratch))
    return y


def promoted(w: Writer, name: str, x: Tensor, dtype: str, tables: tuple[Tensor, ...] = ()) -> Tensor:
    """x times a constant of type `dtype`: the result has the wider of the two types. tables: the constant, where a layer has its own."""
    g = w.graph
    wide = dtype if BYTES[dtype] > BYTES[x.dtype] else x.dtype
    y = g.new(x.shape, wide, x.requires_grad, name)
    moved = (Kernel("elementwise", x.bytes + y.bytes),)
    outputs: tuple[Tensor, ...] = (y,)
    saved: tuple[Tensor, ...] = tables if x.requires_grad else ()
    if w.arch.rotary_repeated:  # `repeat_interleave` makes a table of its own for every use
        table = g.new((1, w.t, 1, w.arch.rotary_dim), dtype, False, "repeated_table")
        outputs, saved = (y, table), (table,) if x.requires_grad else ()
    g.add_operation(name, "elementwise", (x, *tables), outputs, saved, moved, moved)
    return y


def core(
    w: Writer, q: Tensor, k: Tensor, v: Tensor, index: int, *, cross: bool = False, bias: Tensor | None = None
) -> Tensor:
    """softmax(q kᵀ + bias) v by the chosen kernel. cross: keys of another stack, all of which are seen."""
    arch, g = w.arch, w.graph
    window = None if cross else arch.window(index)
    turned = w.s.split.by_heads
    causal, keys = arch.causal and not cross, k.shape[2] if cross or turned else w.keys
    heads, seq = (q.shape[1], q.shape[2]) if turned else (arch.heads, w.t)
    repeated = k.shape[1] != heads
    given = masks(w, arch, index) or arch.two_way
    if w.s.processor and w.s.attention == "sdpa" and w.active(arch.attention_dropout) and not arch.attention_softcap:
        return math_core(w, q, k, v, keys=keys, causal=causal or given, bias=bias)
    if not cross and bias is None and w.s.attention == "sdpa" and given and not arch.attention_softcap:
        check_kernel(w, fused=False)
        return masked(w, q, k, v)
    unfused = w.s.attention == "eager" or (
        w.s.attention == "sdpa" and q.dtype == "fp32" and g.autocast is None and repeated and not w.s.processor
    )
    if unfused or (arch.attention_softcap and w.s.attention == "sdpa"):
        check_kernel(w, fused=False)
        if w.s.recompute_attention:
            return recomputed(w, q, k, v, keys=keys, causal=causal, bias=bias, window=window)
        return eager_core(w, q, k, v, keys=keys, causal=causal, bias=bias, window=window)
    if bias is not None:
        bias = additive_mask(g, bias, w.b, causal=causal, learned=not cross)
    out = g.fused_attention(
        q,
        k,
        v,
        batch=w.b,
        heads=heads,
        kv_heads=k.shape[1],
        seq=seq,
        keys=keys,
        head_dim=arch.head_dim,
        causal=causal,
        window=window,
        spread=1 if turned else w.s.split.cp,
        bias=bias,
    )
    # flash's output has the layout of q, so that the transpose back needs a copy; the fp32 kernel writes rows of tokens
    # (heads that were padded have been copied already)
    copied = arch.fresh_rotary and w.s.eager and out.dtype != "fp32" and not arch.head_dim % 8
    return g.copy(out) if copied else out


def math_core(
    w: Writer, q: Tensor, k: Tensor, v: Tensor, *, keys: float, causal: bool, bias: Tensor | None = None
) -> Tensor:
    """`_scaled_dot_product_attention_math`, what torch runs on a CPU when there is dropout: in fp32, both operands scaled before their product."""
    arch, g = w.arch, w.graph
    b, a, t, d = w.b, arch.heads, w.t, arch.head_dim
    full, every, scores = (b, a, t, d), (b, a, keys, d), (b, a, t, keys)
    narrow = (g.lower(q)).dtype
    q, k, v = (g.cast(g.lower(x), "fp32") for x in (q, k, v))
    repeated = k.shape[1] != a
    if repeated:
        k, v = g.copy(k, every, name="repeat_kv"), g.copy(v, every, name="repeat_kv")
    q, k = g.unary("scale", q, save="none"), g.unary("scale", k, save="none")
    if b > 1 and a > 1:  # heads of several sequences, read across tokens, are no row of matrices until they are copied
        q = g.copy(q, full)
        k, v = (k, v) if repeated else (g.copy(k, every), g.copy(v, every))
    autocast, g.autocast = g.autocast, None  # the operator runs below autocast
    try:
        weights = g.batched_matmul(q, k, t, keys, d, b * a, scores, "scores")
        if bias is not None:
            weights = g.add(weights, g.cast(bias, "fp32"), name="bias_add")
        elif causal:
            weights = g.add(weights, g.new((t, keys), "fp32", False, "mask"), name="mask_add")
        weights = g.unary("masked_rows", weights, save="none", kernels=3)  # _safe_softmax: rows without any key give 0, not NaN
        weights = g.dropout(g.softmax(weights), w.active(arch.attention_dropout))
        out = g.batched_matmul(weights, v, t, d, keys, b * a, full, "context")
    finally:
        g.autocast = autocast
    return g.cast(out, narrow)


def masks(w: Writer, arch: Architecture, index: int) -> bool:
    """Whether transformers hands a mask to the fused kernel: for more keys than queries, and for a window that the sequence outgrows."""
    window = arch.window(index)
    return w.keys != w.t or arch.masks_built or (window is not None and window <= w.t)


def sink_core(w: Writer, path: str, q: Tensor, k: Tensor, v: Tensor, index: int) -> Tensor:
    """Attention with a learned score per head beside those of the keys (transformers GptOssAttention, eager)."""
    arch, g = w.arch, w.graph
    sinks = w.weight(path, (arch.heads,))
    if w.s.attention != "eager":
        return core(w, q, k, v, index)
    check_kernel(w, fused=False)
    b, a, t, d, keys = w.b, arch.heads, w.t, arch.head_dim, w.keys
    every, scores = (b, a, keys, d), (b, a, t, keys)
    q = g.lower(q)
    if arch.kv_heads != a:
        k, v = g.copy(k, every, name="repeat_kv"), g.copy(v, every, name="repeat_kv")
    else:
        k, v = g.lower(k), g.copy(g.lower(v))
    raw = g.batched_matmul(q, k, t, keys, d, b * a, scores, "scores")
    weights = g.unary("attention_scale", raw, save="none")
    if arch.causal:  # the mask has the type of the embeddings
        wide = max(weights.dtype, w.s.formats.graph, key=BYTES.__getitem__)
        summed = g.new(scores, wide, weights.requires_grad, "mask_add")
        moved = (Kernel("elementwise", weights.bytes + summed.bytes),)
        g.add_operation("mask_add", "elementwise", (weights,), (summed,), (), moved, moved, alias=wide == weights.dtype)
        weights = summed
    combined = g.cat((weights, sinks), (b, a, t, keys + 1), name="sinks")
    shifted = g.unary("subtract_max", combined, save="none", kernels=2)
    probabilities = g.softmax(shifted, shifted.dtype)
    g.release(weights)
    used = g.cast(g.view(probabilities, scores), v.dtype)
    out = g.copy(g.batched_matmul(used, v, t, d, keys, b * a, (b, a, t, d), "context"))
    g.release(shifted, *((k, v) if arch.kv_heads != a else ()))
    w.kept = (*w.kept, used)
    return out


def masked(w: Writer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """sdpa with more keys than queries: transformers builds a boolean mask, torch makes an additive one of it in every layer (rows aligned
    to 8 elements) and takes the memory-efficient kernel, which has no grouped heads."""
    arch, g, heads = w.arch, w.graph, w.arch.heads
    if k.shape[1] != heads:
        shape = (w.b, heads, w.keys, arch.head_dim)
        # a single head is expanded, which moves nothing; several are copied
        k, v = (g.view(t, shape) if k.shape[1] == 1 else g.copy(t, shape, name="repeat_kv") for t in (k, v))
    q, k, v = g.lower(q), g.lower(k), g.lower(v)
    bias = g.new((w.b, 1, w.t, -(-w.keys // 8) * 8), q.dtype, False, "mask_bias")
    plain = w.b * w.t * w.keys * (BYTES[q.dtype] + 1)
    moved = (Kernel("elementwise", 2 * plain), Kernel("elementwise", 2 * bias.bytes))
    g.add_operation("mask_bias", "elementwise", (), (bias,), (), moved, (), temporary=(plain, 0.0))
    return g.fused_attention(
        q,
        k,
        v,
        batch=w.b,
        heads=heads,
        kv_heads=heads,
        seq=w.t,
        keys=w.keys,
        head_dim=arch.head_dim,
        causal=False,
        window=None,
        bias=bias,
    )


def recomputed(
    w: Writer, q: Tensor, k: Tensor, v: Tensor, *, keys: float, causal: bool, bias: Tensor | None = None, window: int | None = None
) -> Tensor:
    """The unfused core under a checkpoint (Korthikanti et al. 2022, sec. 4.2): keeps q, k, v only and runs forward again in backward."""
    inner = Writer(w.s, Graph(w.graph.autocast, w.graph.compute, w.graph.processor), w.shared, w.arch)
    out = eager_core(inner, q, k, v, keys=keys, causal=causal, bias=bias, window=window)
    operations = inner.graph.operations
    kept = {id(t.storage): t.storage.bytes for o in operations for t in o.saved if t.parameter is None}
    scores = max(t.bytes for o in operations for t in o.outputs)
    forward = [kernel for o in operations for kernel in o.forward]
    backward = [*forward, *(kernel for o in reversed(operations) for kernel in o.backward)]
    y = w.graph.new(out.shape, out.dtype, out.requires_grad, "attention_core")
    inputs = (q, k, v) if bias is None else (q, k, v, bias)
    saved = inputs if out.requires_grad else ()
    w.graph.add_operation(
        "attention_core",
        "attention",
        inputs,
        (y,),
        saved,
        forward,
        backward,
        temporary=(2 * scores, sum(kept.values()) + scores),
    )
    return y


def eager_core(
    w: Writer, q: Tensor, k: Tensor, v: Tensor, *, keys: float, causal: bool, bias: Tensor | None = None, window: int | None = None
) -> Tensor:
    """Attention as separate operators; the score matrix [b, a, s, s] exists several times."""
    arch, g = w.arch, w.graph
    b, a, t, d = w.b, arch.heads, w.t, arch.head_dim
    full, every, scores = (b, a, t, d), (b, a, keys, d), (b, a, t, keys)
    wanted = {"upcast": q.dtype, "cast": v.dtype, "plain": "", "wide": v.dtype}[arch.softmax]
    if arch.softmax == "wide":
        q, k = g.cast(q, "fp32", name="query_upcast"), g.cast(k, "fp32", name="key_upcast")
    if not arch.fresh_rotary:
        q = g.copy(g.lower(q))
    repeated = k.shape[1] != a
    if repeated:
        k, v = g.copy(k, every, name="repeat_kv"), g.copy(v, every, name="repeat_kv")
    elif w.keys != t:  # joined with a prefix, they are contiguous
        k, v = g.lower(k), g.lower(v)
    else:
        k, v = (g.lower(k) if arch.fresh_rotary else g.copy(g.lower(k))), g.copy(g.lower(v))
    weights = g.batched_matmul(q, k, t, keys, d, b * a, scores, "scores")
    if arch.score_scaling == "apart":
        weights = g.unary("attention_scale", weights, save="none")
    if arch.score_bias == "fp32":
        weights = g.add(weights, g.new((1, a, 1, keys), "fp32", False, "bias"), name="bias_add")
    if arch.attention_softcap:
        weights = g.unary(
            "scale", g.unary("softcap", g.unary("scale", weights, save="none"), save="output"), save="none"
        )
    if bias is not None:
        weights = g.add(weights, bias, name="bias_add")
    if causal or window is not None:
        weights = g.unary("mask_add", weights, save="none")
    if arch.scores_floored and arch.causal:
        weights = g.unary("maximum", weights, scratch=2.0)
    upcast = arch.softmax == "upcast"
    probabilities = g.softmax(weights if upcast else g.raise_(weights), "fp32" if upcast else None)
    if wanted:
        probabilities = g.cast(probabilities, wanted)
    probabilities = g.dropout(probabilities, w.active(arch.attention_dropout))
    out = g.copy(g.batched_matmul(probabilities, v, t, d, keys, b * a, full, "context"))
    if arch.scores_kept:
        g.release(weights)
    if repeated:
        g.release(k, v)  # the repeated heads
    if arch.probabilities_returned:
        w.kept = (*w.kept, probabilities)  # handed out of the attention module
    else:
        g.release(probabilities)
    return out
