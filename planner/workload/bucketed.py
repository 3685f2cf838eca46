"""Idefics3's tower and connector: positions by the part of the image in which a patch lies, and one linear layer over squares of patches.

Laurençon et al. 2024, arXiv:2408.12637. Source: transformers 5.24 `modeling_idefics3.py`, `modeling_smolvlm.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.workload.graph import Kernel, Tensor
from planner.workload.merging import Pictures
from planner.workload.writer import Writer


@dataclass(frozen=True)
class BucketedPictures(Pictures):
    """Patches whose positions are looked up for every image: an image of another size uses a part of the table, or a row twice."""

    def _positions(self, w: Writer, count: int) -> Tensor:
        g, h = w.graph, w.arch.hidden
        table = w.weight(self.positions_path + ".weight", (self._rows(), h))
        shape = (w.b, count, h)
        index = g.new(shape[:2], "int64", False, "position_ids")
        y = g.new(shape, table.dtype, table.requires_grad, "positions")
        moved = (Kernel("elementwise", 2 * y.bytes),)
        g.add_operation("embedding", "embedding", (table,), (y, index), (index,) if y.requires_grad else (), moved, moved)
        return y


@dataclass(frozen=True)
class SquareLinear:
    """Squares of patches become one wide token (pixel shuffle, two copies), then one linear layer. square: patches a side."""

    path: str
    width: int
    square: int
    final_norm: str

    @property
    def linears(self) -> tuple[str, ...]:
        return (self.path,)

    def write(self, w: Writer, x: Tensor) -> Tensor:
        g, h = w.graph, w.arch.hidden
        x = w.norm(self.final_norm, x, h)
        w.held = (*w.held, x)
        wide = self.square**2 * h
        y = g.copy(g.copy(x), (x.shape[0], x.shape[1] / self.square**2, wide))
        return w.linear(self.path, y, self.width, base=False)
