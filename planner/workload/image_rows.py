"""Pixtral's tower: patches of all images in one sequence, kept apart by a mask, and squares of them merged by a linear layer.

Agrawal et al. 2024, arXiv:2410.07073. Source: transformers 5.24 `modeling_pixtral.py`, `modeling_mistral3.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.workload.attention import core, rotate
from planner.workload.graph import BATCH, Kernel, Tensor
from planner.workload.packed_vision import RowOfImages, one_by_one
from planner.workload.vision_attention import biased_core, finish
from planner.workload.writer import Writer

MASK = "image mask"
"""Name under which the mask between images is carried."""


@dataclass(frozen=True, kw_only=True)
class ImageRow(RowOfImages):
    """Pixtral's row, in which a convolution projects the patches of each image. norm: path of the norm behind it."""

    norm: str

    def write(self, w: Writer, require_grad: bool) -> Tensor:
        g, h, given = w.graph, w.arch.hidden, w.s.given
        count, side, size = self.images(given), self.side(given), self.side(given) * self.patch
        pixels = g.new((count, self.channels, size, size), "fp32", False, BATCH)
        g.add_operation("pixels", "embedding", (), (pixels,), (), (), ())
        w.arguments = (*w.arguments, pixels)
        weight = w.weight(self.path + ".weight", (h, self.channels, self.patch, self.patch))
        x = g.convolution(g.cast(pixels, w.s.formats.graph, name="pixels_cast"), weight, None, (count, h, side, side))
        if require_grad and not x.requires_grad:
            x = g.leaf(x)
        w.local = (*w.local, x)  # cut for every image: views
        x = w.norm(self.norm, g.copy(x, (1, w.t, h), name="cat"), h)
        w.local = (*w.local, x)
        tables = [g.new((w.t, w.arch.head_dim), x.dtype, False, name) for name in ("cosine", "sine")]
        moved = (Kernel("elementwise", 8 * tables[0].bytes),) * 4
        g.add_operation("rotary_tables", "elementwise", (), tables, (), moved, ())
        w.arguments = (*w.arguments, *tables)
        if w.s.attention != "flash":
            mask = g.new((1, 1, w.t, w.t), x.dtype, False, "mask")
            g.add_operation("mask", "elementwise", (), (mask,), (), (Kernel("elementwise", 2 * mask.bytes),), ())
            w.arguments, w.carried[MASK] = (*w.arguments, mask), mask
        return x


@dataclass(frozen=True)
class RowAttention:
    """Attention over the whole row behind a mask; flash goes image by image."""

    @property
    def linears(self) -> tuple[str, ...]:
        return tuple(f"attention.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj"))

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        g, arch = w.graph, w.arch
        front, heads, d = arch.front, arch.heads, arch.head_dim
        assert isinstance(front, ImageRow)
        q, k, v = (g.view(w.linear(f"{layer}.{path}", x, heads * d), (1, heads, w.t, d)) for path in self.linears[:3])
        q, k = rotate(w, q, heads, x.dtype), rotate(w, k, heads, x.dtype)
        if w.s.attention != "flash":
            return finish(w, layer, x, biased_core(w, q, k, v, w.carried[MASK]), q, k, v)
        count, whole = front.images(w.s.given), (w.b, w.t, w.keys)
        length = w.t / count
        pieces = [g.view(t, (count, heads, length, d)) for t in (q, k, v)]
        w.b, w.t, w.keys = count, length, length
        y = core(w, pieces[0], pieces[1], pieces[2], index)
        one_by_one(w, count)
        w.b, w.t, w.keys = whole
        return finish(w, layer, x, y, q, k, v)


@dataclass(frozen=True)
class SquareMerger:
    """A norm, squares of patches joined and led back to the tower's width, then two layers. path: of the projector · width: of the
    language model · squared: patches of a square."""

    path: str
    width: int
    squared: int
    activation: str = "gelu"
    bias: bool = False

    @property
    def linears(self) -> tuple[str, ...]:
        return (f"{self.path}.patch_merger.merging_layer", f"{self.path}.linear_1", f"{self.path}.linear_2")

    def write(self, w: Writer, x: Tensor) -> Tensor:
        g, h, front = w.graph, w.arch.hidden, w.arch.front
        assert isinstance(front, ImageRow)
        w.held = (*w.held, x)
        y = w.norm(f"{self.path}.norm", x, h)
        count, side = front.images(w.s.given), front.side(w.s.given)
        grids = g.copy(y, (count, h, side, side), name="unfold_input")
        unfolded = g.new((count, self.squared * h, y.shape[1] / self.squared / count), y.dtype, y.requires_grad, "unfold")
        moved = (Kernel("elementwise", 2 * y.bytes),)
        g.add_operation("unfold", "elementwise", (grids,), (unfolded,), (), moved, moved)
        joined = g.copy(unfolded, (y.shape[1] / self.squared, self.squared * h), name="cat")
        g.release(grids, unfolded)
        first, second, third = self.linears
        merged = w.linear(first, joined, h, base=False)
        z = w.linear(second, merged, self.width, bias=self.bias, base=False)
        z = w.linear(third, g.unary(self.activation, z), self.width, bias=self.bias, base=False)
        g.release(joined, merged)
        return z
