"""The block of vision transformers: norms before both branches, with a scale a channel and dropped branches where a family has them.

Source: transformers 5.24, `ViTLayer`, `Dinov2Layer`, `BeitLayer`, `DINOv3ViTLayer`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from planner.workload.attention import attention
from planner.workload.graph import Kernel, Tensor
from planner.workload.mlp import mlp
from planner.workload.writer import Writer


@dataclass(frozen=True)
class VisionBlock:
    """A pre-norm block.

    scales: names of the learned scale of each branch (Touvron et al. 2021, arXiv:2103.17239), relative to the block ·
    drop_path: whether whole branches are dropped for some samples (Huang et al. 2016, arXiv:1603.09382) ·
    keeps_norm: the first norm's output is a variable of the block's forward · mid_positions: name of carried positions
    that are added to the block's output.
    """

    linears: tuple[str, ...]
    scales: tuple[str, str] | None = None
    drop_path: bool = False
    keeps_norm: bool = False
    mid_positions: str = ""

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        g, arch = w.graph, w.arch
        branches: tuple[Callable[[Tensor], Tensor], ...] = (
            lambda y: attention(w, layer, index, y),
            lambda y: mlp(w, layer, y),
        )
        for number, branch in enumerate(branches):
            norm = f"{layer}.{w.names.norms[number]}"
            normed = w.norm(norm, x, arch.hidden)
            y = g.dropout(branch(normed), w.active(arch.hidden_dropout))
            if self.keeps_norm and not number:
                w.kept = (*w.kept, normed, y)
            if self.scales:
                y = g.mul(y, w.weight(f"{layer}.{self.scales[number]}", (arch.hidden,)), name="layer_scale")
            if self.drop_path and w.s.stack.dropout:
                y = drop_path(w, y)
            x = g.add(y, x, name="residual")
        if self.mid_positions:
            x = g.add(x, g.split(w.carried[self.mid_positions], [(1, w.t, arch.hidden)])[0], name="positions_add")
        return x


def drop_path(w: Writer, x: Tensor) -> Tensor:
    """`x.div(keep) * random`, one random number a sample."""
    g = w.graph
    scaled = g.unary("drop_path_scale", x, save="none")
    random = g.new((w.b,), x.dtype, False, "random")
    g.add_operation("random", "elementwise", (), (random,), (), (Kernel("elementwise", random.bytes),) * 3, ())
    return g.mul(scaled, random, name="drop_path")
