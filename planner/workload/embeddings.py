"""Token, position and segment embeddings."""

from __future__ import annotations

from planner.workload.graph import Kernel, Tensor
from planner.workload.regions import leave
from planner.workload.writer import Writer


def embed(w: Writer, require_grad: bool) -> Tensor:
    """Token (and position, and segment) embeddings. require_grad: peft lets the output require a gradient so
    that checkpointed blocks have one to pass."""
    arch, n, g = w.arch, w.names, w.graph
    width = arch.embedding_factor or arch.embedding_width or arch.hidden
    if w.prompted:
        w.s.adaptation.begin(w)
    tokens = w.t - (w.s.adaptation.virtual_tokens if w.prompted else 0)  # virtual ones join behind the embeddings
    tied = arch.tied and (bool(arch.tower) or w.head_kind != "sequence-classification")
    x = lookup(w, n.embedding, arch.vocab, width, tokens, tied=tied)
    width = arch.embedding_factor or arch.hidden  # behind OPT's projection all tables have the width of the blocks
    if require_grad and not x.requires_grad:
        x = g.leaf(x)
    if w.prompted:
        x = w.s.adaptation.prompt(w, x)
    if arch.merge is not None:
        x = arch.merge.write(w, x)
    if not n.embedding_norm and w.s.eager:
        w.held = (*w.held, x)  # `inputs_embeds`
    if arch.embeddings_reread:
        copied = w.carried["embeddings"] = g.copy(x, name="embeddings")
        w.arguments = (copied,)
    w.arguments = (*w.arguments, *masks(w, x))
    if (prepare := getattr(arch.mixer, "prepare", None)) is not None:  # what the blocks' mixers share
        prepare(w)
    if arch.rotary_dim:
        tables = [
            g.new(
                (w.b if arch.rotary_batched else 1, w.t, arch.rotary_dim),
                "fp32" if arch.rotary_fp32 else x.dtype,
                False,
                name,
            )
            for name in ("cosine", "sine") * arch.rotary_bases
        ]
        moved = sum(t.bytes for t in tables)
        g.add_operation("rotary_tables", "elementwise", (), tables, (), (Kernel("elementwise", moved),), ())
        w.arguments = (*w.arguments, *tables)
    if arch.causal_tables:
        square = g.new((arch.layers, arch.causal_tables, arch.causal_tables), "bool", False, "causal_tables")
        g.add_operation("causal_tables", "elementwise", (), (square,), (), (), ())
        w.arguments = (*w.arguments, square)
    if arch.embedding_width:
        x = w.linear("model.decoder.project_in", x, arch.hidden, base=False)
    if arch.embedding_scaled:
        x = g.unary("embedding_scale", x, save="none")
    if arch.token_dropout:  # mask tokens filled with zeros, a product and a quotient of constants, cast back
        for name in ("masked_fill", "scale", "scale"):
            x = g.unary(name, x, save="none")
    if arch.token_types:
        x = g.add(x, lookup(w, n.token_types, arch.token_types, width, w.t))
    if n.early_norm:
        x = w.norm(n.early_norm, x, arch.hidden)
    if arch.fixed_positions == "buffer":
        x = g.add(x, sinusoids(w))
    elif arch.batched_positions:
        x = g.add(x, lookup(w, n.positions, arch.learned_positions, arch.hidden, w.t))
    elif arch.learned_positions:
        x = g.add(x, positions(w, n.positions, arch.learned_positions, width))
    if arch.sinusoid_rows:
        table = g.new((arch.sinusoid_rows, width), x.dtype, False, "sinusoids")
        g.add_operation("sinusoids", "elementwise", (), (table,), (), (), ())
        w.arguments = (*w.arguments, table)
        x = g.unary("positions", x, save="none")
    if arch.extra_tables:
        x = g.add(x, lookup(w, n.extra_table, arch.extra_tables, width, w.t))
    x = leave(w, x)
    if n.embedding_norm:
        x = w.norm(n.embedding_norm, x, width)
    x = g.dropout(x, w.active(arch.embedding_dropout))
    if n.embedding_projection:
        x = w.linear(n.embedding_projection, x, arch.hidden, bias=True, base=False)
    if n.embedding_norm and w.s.eager:
        w.held = (*w.held, x)  # `embedding_output`
    return x


def masks(w: Writer, x: Tensor) -> tuple[Tensor, ...]:
    """Masks that transformers makes for all layers: additive ones for eager attention, boolean ones where a fused kernel has none of its own."""
    arch, g, eager = w.arch, w.graph, w.s.attention == "eager"
    if w.s.attention not in ("eager", "sdpa") or not arch.masked:
        return ()
    wide = eager or arch.mask_heads > 1
    windows = {arch.window(layer) for layer in range(arch.layers)}
    if eager:
        count = len(windows) if arch.causal else len(windows - {None})
    else:
        whole = w.keys != w.t or arch.two_way or any(kind.masks_built for kind in arch.kinds)
        count = int(whole) + sum(window is not None and window <= w.t for window in windows)
    shape = (w.b, arch.mask_heads, w.t, w.keys)
    made = tuple(g.new(shape, x.dtype if wide else "bool", False, "mask") for _ in range(count))
    if made:
        g.add_operation("mask", "elementwise", (x,), made, (), (Kernel("elementwise", made[0].bytes),) * count, ())
    return made


def lookup(w: Writer, path: str, rows: float, width: float, tokens: float, *, tied: bool = False) -> Tensor:
    """An embedding of `tokens` per sequence: backward writes a dense gradient of the whole table."""
    g = w.graph
    table = w.share(path + ".weight", (rows, width)) if tied else w.weight(path + ".weight", (rows, width))
    if w.s.adaptation.copies(path):
        table = w.copy_of(path + ".weight", (rows, width))
    if path == w.names.embedding:
        table = w.with_tokens(table)
    y = g.new((w.b, tokens, width), table.dtype, table.requires_grad, "embedding")
    moved = 2 * y.bytes
    g.add_operation(
        "embedding",
        "embedding",
        (table,),
        (y,),
        (),
        (Kernel("elementwise", moved),),
        (Kernel("elementwise", table.bytes + 2 * moved),),
    )
    return y


def sinusoids(w: Writer) -> Tensor:
    """Sinusoidal positions of every sequence, taken from a buffer (transformers M2M100SinusoidalPositionalEmbedding)."""
    g = w.graph
    table = w.buffer(w.names.positions + ".weights", (w.arch.learned_positions, w.arch.hidden))
    y = g.new((w.b, w.t, w.arch.hidden), table.dtype, False, "positions")
    g.add_operation("positions", "embedding", (table,), (y,), (), (Kernel("elementwise", 2 * y.bytes),), ())
    return y


def positions(w: Writer, path: str, rows: float, width: float) -> Tensor:
    """Positions are looked up once for all sequences of the batch."""
    g = w.graph
    make = w.fixed if w.arch.fixed_positions else w.weight
    table = make(path + ".weight", (rows, width))
    y = g.new((1, w.t, width), table.dtype, table.requires_grad, "positions")
    g.add_operation(
        "embedding",
        "embedding",
        (table,),
        (y,),
        (),
        (Kernel("elementwise", 2 * y.bytes),),
        (Kernel("elementwise", table.bytes + 2 * y.bytes),),
    )
    return y
