"""Context parallel: how attention sees the whole of a sequence of which every rank has a part.

ring: keys and values of the other ranks pass by beside the attention over those that are here (Liu et al. 2023, arXiv:2310.01889).
all-gather: they are gathered before it, and in backward again (Llama 3, arXiv:2407.21783, sec. 3.3.2).
ulysses: queries, keys and values are exchanged, so that a rank has the whole sequence of a part of the heads (Jacobs et al. 2023,
arXiv:2309.14509).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.workload.graph import Kernel, Tensor
from planner.workload.regions import wire

if TYPE_CHECKING:
    from planner.workload.architecture import Architecture
    from planner.workload.split import Split
    from planner.workload.writer import Writer

STEPS = "Use flash or sdpa attention, or cp: 1."


def arrive(w: Writer, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values as attention reads them, [b, heads, t, d] each."""
    split = w.s.split
    if split.cp == 1:
        return q, k, v
    if split.by_heads:
        return _turned(w, q, 1 / split.cp), _turned(w, k, 1 / split.cp), _turned(w, v, 1 / split.cp)
    g, hidden = w.graph, split.cp_kind == "ring"
    whole = split.cp * (k.bytes + v.bytes)
    forward = (wire("all_gather", "cp", whole, hidden=hidden),)
    back = (wire("all_gather", "cp", whole, hidden=hidden), wire("reduce_scatter", "cp", whole, hidden=hidden))
    # of a ring two blocks of keys and values, the one in use and the one that arrives; in backward their gradients beside
    scratch = 2 * (k.bytes + v.bytes) if hidden else whole
    keys, values = (Tensor(t.shape, t.dtype, t.storage, t.requires_grad) for t in (k, v))
    name = "ring" if hidden else "gather_keys"
    g.add_operation(name, "collective", (k, v), (keys, values), (), forward, back, temporary=(scratch, 2 * scratch))
    return q, keys, values


def depart(w: Writer, y: Tensor) -> Tensor:
    """The result of attention, again of this rank's part of the sequence and all its heads."""
    return _turned(w, y, w.s.split.cp) if w.s.split.by_heads else y


def _turned(w: Writer, x: Tensor, heads: float) -> Tensor:
    """Heads in exchange for positions: all-to-all. heads: how many times as many there are afterwards."""
    b, a, t, d = x.shape
    y = w.graph.new((b, a * heads, t / heads, d), x.dtype, x.requires_grad, "turned")
    sent = (wire("all_to_all", "cp", x.bytes), Kernel("elementwise", 4 * x.bytes))  # packed before and unpacked behind it
    w.graph.add_operation("turn_heads", "elementwise", (x,), (y,), (), sent, sent)
    return y


def check_context(arch: Architecture, split: Split) -> None:
    """Refuse what a part of every sequence cannot be computed from. arch: of one tensor-parallel rank. Raises `PlanError`."""
    if split.cp == 1:
        return
    if arch.towers or arch.front is not None or arch.merge is not None:
        raise PlanError("parallel.cp", split.cp, f"is not planned for {arch.model_type}, whose sequences are not of text alone", "Use 1.")
    if arch.position_bias is not None:
        raise PlanError("parallel.cp", split.cp, f"is not planned for the position bias of {arch.model_type}", "Use 1.")
    for kind in arch.kinds:
        for part in (kind.mixer, kind.layout):
            if part is not None and not getattr(part, "spans_context", False):
                raise PlanError(
                    "parallel.cp",
                    split.cp,
                    f"is not planned for {arch.model_type}, whose layers carry a state along the sequence or mix it in a way of their own",
                    "Use 1, with tensor parallel or pipeline stages.",
                )
        if not split.by_heads:
            continue
        kv = kind.heads if kind.mixer is not None else kind.kv_heads  # latent attention makes keys for every head
        for name, count in (("attention heads", kind.heads), ("key-value heads", kv)):
            if count % split.cp:
                per_rank = f" that are left to each of {split.tp} tensor-parallel ranks" if split.tp > 1 else ""
                raise PlanError(
                    "parallel.cp",
                    split.cp,
                    f"with cp_kind: ulysses does not divide the {count} {name}{per_rank}",
                    "Use a divisor, or cp_kind: ring.",
                )


def check_kernel(w: Writer, *, fused: bool) -> None:
    """Refuse attention that keeps its scores, or reads a mask, of a whole sequence."""
    if w.s.split.cp > 1 and not fused:
        raise PlanError("attention", w.s.attention, "keeps scores or a mask of the whole sequence, which context parallel divides", STEPS)
