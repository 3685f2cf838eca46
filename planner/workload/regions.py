"""Borders of the tensor-parallel region, and what crosses them: collectives as operations of the graph.

Shoeybi et al. 2019, arXiv:1909.08053, sec. 3 (f and g); Korthikanti et al. 2022, arXiv:2205.05198, sec. 4.2 (g and g-bar,
which gather and scatter along the sequence, and whose gathered input is gathered again in backward instead of being kept).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from planner.workload.graph import BYTES, Kernel, Tensor

if TYPE_CHECKING:
    from planner.workload.writer import Writer


class Wire(NamedTuple):
    """One collective: its kind, the group of ranks, and whether it runs beside the compute of the same part."""

    kind: str
    group: str
    hidden: bool = False


def wire(kind: str, group: str, size: float, *, hidden: bool = False) -> Kernel:
    """A collective over `size` bytes of the whole tensor."""
    return Kernel("collective", size, extra=Wire(kind, group, hidden))


def _gathered(w: Writer, x: Tensor) -> float:
    """Bytes of a tensor that ranks gather for products: torchao casts it before it travels where one scale serves all of it
    (torchao 0.18 `float8_tensor_parallel.py`), other recipes afterwards."""
    scaled = w.s.formats.scaled
    if scaled is None or scaled.library != "torchao" or scaled.recipe.name not in ("delayed", "current"):
        return x.bytes
    return x.numel * BYTES[scaled.recipe.stored]


def enter(w: Writer, x: Tensor) -> Tensor:
    """What column-parallel layers read: all tokens of the sequence, whose gradient is summed over the group."""
    split, g = w.s.split, w.graph
    if split.tp == 1 or w.alone:
        return x
    if not split.sequence:
        y = Tensor(x.shape, x.dtype, x.storage, x.requires_grad)
        summed = (wire("all_reduce", "tp", x.bytes),)
        g.add_operation("enter_region", "collective", (x,), (y,), (), (), summed, alias=True)
        return y
    y = g.new((w.b, w.t, x.shape[-1]), x.dtype, x.requires_grad, "gathered")
    forward = wire("all_gather", "tp", _gathered(w, y))
    back: tuple[Kernel, ...] = (wire("reduce_scatter", "tp", y.bytes),)
    if w.s.stack.regathers:
        y.kept_as = x
        back = (*back, forward)
    g.add_operation("enter_region", "collective", (x,), (y,), (), (forward,), back)
    return y


def leave(w: Writer, y: Tensor) -> Tensor:
    """The sum of the partial results of row-parallel layers."""
    split, g = w.s.split, w.graph
    if split.tp == 1 or w.alone:
        return y
    if not split.sequence:
        z = Tensor(y.shape, y.dtype, y.storage, y.requires_grad)
        summed = (wire("all_reduce", "tp", y.bytes),)
        g.add_operation("leave_region", "collective", (y,), (z,), (), summed, (), alias=True)
        return z
    z = g.new((w.b, w.t / split.tp, y.shape[-1]), y.dtype, y.requires_grad, "scattered")
    forward = (wire("reduce_scatter", "tp", y.bytes),)
    g.add_operation("leave_region", "collective", (y,), (z,), (), forward, (wire("all_gather", "tp", _gathered(w, y)),))
    return z


def statistics(w: Writer, logits: Tensor) -> None:
    """The loss over a divided vocabulary: maximum, target's logit and sum of each token are reduced (Shoeybi et al. 2019, sec. 3)."""
    if w.s.split.tp == 1 or w.alone:
        return
    size = logits.numel / logits.shape[-1] * BYTES["fp32"]
    kernels = tuple(wire("all_reduce", "tp", size) for _ in range(3))
    w.graph.add_operation("loss_statistics", "collective", (), (), (), kernels, ())


def exchange(w: Writer, x: Tensor, rows: float) -> Tensor:
    """Tokens travel to the ranks of their experts, or back: all-to-all. rows: that leave the operation.

    What arrives is as much as left where experts are balanced; the busiest rank, and a padded one, has more, and waits for them all.
    """
    split, g = w.s.split, w.graph
    if split.ep == 1 and rows == x.shape[0]:
        return x
    y = g.new((rows, x.shape[-1]), x.dtype, x.requires_grad, "exchanged")
    if split.ep == 1:  # rows are copied to places of as many tokens as each expert has
        moved = (Kernel("elementwise", x.bytes + y.bytes),)
        g.add_operation("pad", "elementwise", (x,), (y,), (), moved, moved)
        return y
    kernels = (wire("all_to_all", "ep", max(x.bytes, y.bytes)),)
    g.add_operation("exchange", "collective", (x,), (y,), (), kernels, kernels)
    return y
