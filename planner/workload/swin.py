"""Swin: attention in windows that shift from layer to layer, in stages of halving resolution (Liu et al. 2021, arXiv:2103.14030).

Source: transformers 5.24, `SwinLayer`, `SwinAttention`, `SwinPatchMerging`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from planner.errors import PlanError
from planner.workload.graph import Kernel, Tensor
from planner.workload.mlp import mlp
from planner.workload.patches import Patches
from planner.workload.vision_attention import biased_core, finish, project, relative_bias
from planner.workload.vision_blocks import drop_path
from planner.workload.writer import Writer


@dataclass(frozen=True)
class SwinBlock:
    """One layer of a stage. window, shift: as configured [patch] · merge: the stage's last layer, behind which 2 × 2
    neighbours become one position of twice the width; path of the merging, relative to the layer's stage ·
    reshaped: whether the stage ends with a copy of its result as an image."""

    linears: tuple[str, ...]
    stage: int
    window: int
    shift: int
    qkv_bias: bool
    drop_path: bool = False
    merge: str = ""
    reshaped: Literal["", "passing", "kept"] = ""

    def resolution(self, w: Writer) -> tuple[int, int]:
        """Rows and columns of positions in this stage; an odd number is padded before it is halved."""
        front = w.s.arch.front
        assert isinstance(front, Patches)
        rows, columns = front.grid(w.s.given)
        scale = 2**self.stage
        return -(-rows // scale), -(-columns // scale)

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        g, arch, b, h = w.graph, w.arch, w.b, w.arch.hidden
        rows, columns = self.resolution(w)
        window = self.window
        if min(rows, columns) < window:
            raise PlanError(
                "batch.image_size",
                w.s.given.image_size,
                f"leaves {rows} × {columns} positions in stage {self.stage + 1}, less than a window of {window}",
                "Use larger images.",
            )
        shift = 0 if min(rows, columns) == window else self.shift
        tall, wide = -(-rows // window) * window, -(-columns // window) * window
        count, area = (tall // window) * (wide // window), window * window
        y = g.view(w.norm(f"{layer}.{w.names.norms[0]}", x, h), (b, rows, columns, h))
        padded = g.copy(y, (b, tall, wide, h), name="pad")
        y = g.copy(padded, name="roll") if shift else padded
        windows = g.view(y, (b * count, area, h)) if wide == window else g.copy(y, (b * count, area, h), name="windows")
        mask = self._mask(w, padded, count, area) if shift else None
        attended = self._attention(w, layer, windows, mask)
        y = g.dropout(attended, w.active(arch.hidden_dropout))
        y = g.view(y, (b, tall, wide, h)) if wide == window else g.copy(y, (b, tall, wide, h), name="windows")
        if shift:
            y = g.copy(y, name="roll")
        if (tall, wide) != (rows, columns):
            y = g.copy(y, (b, rows, columns, h), name="crop")
        y = g.view(y, (b, rows * columns, h))
        g.release(padded)
        dropped = drop_path(w, y) if self.drop_path and w.s.stack.dropout else y
        x = g.add(x, dropped, name="residual")
        after = g.dropout(mlp(w, layer, w.norm(f"{layer}.{w.names.norms[1]}", x, h)), w.active(arch.hidden_dropout))
        x = g.add(after, x, name="residual")
        w.kept = (*w.kept, windows, attended, y, *(() if mask is None else (mask,)))
        if self.merge:
            x = self._merge(w, layer, x, rows, columns)
        if self.reshaped:
            copied = g.copy(x, name="reshaped")
            if self.reshaped == "kept":  # until the next stage is over, and that is the last one
                w.held = (*w.held, copied)
        return x

    def _mask(self, w: Writer, x: Tensor, count: int, area: int) -> Tensor:
        """-100 between positions that the shift brought together, [windows, area, area] in the type of the hidden states."""
        g = w.graph
        mask = g.new((count, area, area), x.dtype, False, "shift_mask")
        kernels = tuple(Kernel("elementwise", 2 * mask.bytes) for _ in range(5))
        g.add_operation("shift_mask", "elementwise", (), (mask,), (), kernels, (), temporary=(2 * mask.bytes, 0.0))
        return mask

    def _attention(self, w: Writer, layer: str, x: Tensor, mask: Tensor | None) -> Tensor:
        g, heads = w.graph, w.arch.heads
        q, k, v = project(w, layer, x, (self.qkv_bias,) * 3)
        path = f"{layer}.attention.relative_position_bias.relative_position_bias_table"
        area = x.shape[1]
        bias = relative_bias(w, path, (2 * self.window - 1) ** 2, heads, area, interpolated=False)
        local = [bias]
        if mask is not None:
            repeated = g.new((x.shape[0], 1, area, area), mask.dtype, False, "shift_masks")
            moved = (Kernel("elementwise", mask.bytes + repeated.bytes),)
            g.add_operation("repeat", "elementwise", (mask,), (repeated,), (), moved, ())
            whole = g.new((x.shape[0], heads, area, area), _wider(bias, repeated), bias.requires_grad, "combined_mask")
            moved = (Kernel("elementwise", bias.bytes + repeated.bytes + whole.bytes),)
            back = (Kernel("reduction", whole.bytes),)
            g.add_operation("mask_add", "elementwise", (bias, repeated), (whole,), (), moved, back)
            local += [repeated, whole]
            bias = whole
        y = biased_core(w, q, k, v, bias)
        return finish(w, layer, x, y, q, k, v, *local)

    def _merge(self, w: Writer, layer: str, x: Tensor, rows: int, columns: int) -> Tensor:
        """Patch merging: four neighbours joined, a norm, and a linear layer to twice the width."""
        g, b, h = w.graph, w.b, w.arch.hidden
        path = f"{layer.rsplit('.blocks.', 1)[0]}.{self.merge}"
        tall, wide = -(-rows // 2), -(-columns // 2)
        if rows % 2 or columns % 2:
            x = g.copy(x, (b, 2 * tall * 2 * wide, h), name="pad")
        joined = g.new((b, tall * wide, 4 * h), x.dtype, x.requires_grad, "merged")
        moved = (Kernel("elementwise", x.bytes + joined.bytes),)
        g.add_operation("cat", "elementwise", (x,), (joined,), (), moved, moved)
        y = w.linear(f"{path}.reduction", w.norm(f"{path}.norm", joined, 4 * h), 2 * h, base=False)
        g.release(x)
        return y


def _wider(x: Tensor, y: Tensor) -> str:
    return x.dtype if x.bytes / x.numel >= y.bytes / y.numel else y.dtype
