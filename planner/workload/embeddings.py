"""Token, position and segment embeddings."""

from __future__ import annotations

from planner.workload.graph import Kernel, Tensor
from planner.workload.writer import Writer


def embed(w: Writer, require_grad: bool) -> Tensor:
    """Token (and position, and segment) embeddings. require_grad: peft lets the output require a gradient so
    that checkpointed blocks have one to pass."""
    arch, n, g = w.arch, w.names, w.graph
    width = arch.embedding_width or arch.hidden
    w.s.adaptation.begin(w)
    x = lookup(w, n.embedding, arch.vocab, width, w.s.seq, tied=arch.tied and w.head_kind != "sequence-classification")
    if require_grad and not x.requires_grad:
        x = g.leaf(x)
    x = w.s.adaptation.prompt(w, x)
    if not n.embedding_norm and w.s.eager:
        w.held = (*w.held, x)  # `inputs_embeds`
    if arch.causal and (w.s.attention == "eager" or (w.s.attention == "sdpa" and w.keys != w.t)):
        mask = g.new((w.b, 1, w.t, w.keys), x.dtype if w.s.attention == "eager" else "bool", False, "mask")
        g.add_operation("mask", "elementwise", (x,), (mask,), (), (Kernel("elementwise", mask.bytes),), ())
        w.arguments = (mask,)
    if arch.rotary_dim:
        tables = [
            g.new((1, w.t, arch.rotary_dim), "fp32" if arch.rotary_fp32 else x.dtype, False, name) for name in ("cosine", "sine") * arch.rotary_bases
        ]
        moved = sum(t.bytes for t in tables)
        g.add_operation("rotary_tables", "elementwise", (), tables, (), (Kernel("elementwise", moved),), ())
        w.arguments = (*w.arguments, *tables)
    if arch.embedding_width:
        x = w.linear("model.decoder.project_in", x, arch.hidden, base=False)
    if arch.embedding_scaled:
        x = g.unary("embedding_scale", x, save="none")
    if arch.token_types:
        x = g.add(x, lookup(w, n.token_types, arch.token_types, arch.hidden, w.t))
    if arch.learned_positions:
        x = g.add(x, positions(w, n.positions, arch.learned_positions))
    if n.embedding_norm:
        x = w.norm(n.embedding_norm, x, arch.hidden)
    x = g.dropout(x, w.active(arch.embedding_dropout))
    if n.embedding_norm and w.s.eager:
        w.held = (*w.held, x)  # `embedding_output`
    return x


def lookup(w: Writer, path: str, rows: float, width: float, tokens: float, *, tied: bool = False) -> Tensor:
    """An embedding of `tokens` per sequence: backward writes a dense gradient of the whole table."""
    g = w.graph
    table = w.share(path + ".weight", (rows, width)) if tied else w.weight(path + ".weight", (rows, width))
    if w.s.adaptation.copies(path):
        table = w.copy_of(path + ".weight", (rows, width))
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


def positions(w: Writer, path: str, rows: float) -> Tensor:
    """Learned positions are looked up once for all sequences of the batch."""
    g = w.graph
    table = w.weight(path + ".weight", (rows, w.arch.hidden))
    y = g.new((1, w.t, w.arch.hidden), table.dtype, table.requires_grad, "positions")
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
