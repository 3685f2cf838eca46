"""OFT: the input is rotated by trained orthogonal blocks before the frozen layer.

Qiu et al. 2023, arXiv:2306.07280 (eq. 3); Qiu et al. 2025, arXiv:2506.19847 for the form that rotates the input and takes Cayley's transform as a
Neumann series of five terms, which is peft's default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Kernel, Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import add_in_place, buffer, made, needs_linear, product
from planner.workload.methods.targets import ANY_BASE, COMMON, SELECTION, adapted

if TYPE_CHECKING:
    from planner.workload.writer import Writer

DEFAULT_BLOCK = 32
"""peft's `oft_block_size`."""


def divisor(width: int, wanted: int) -> int:
    """The divisor of `width` nearest to `wanted`, the lower of two (peft.tuners.oft.OFTLayer.adjust_oft_parameters)."""
    if wanted >= width:
        return width
    higher = next(n for n in range(wanted, width + 1) if width % n == 0)
    lower = next(n for n in range(wanted, 0, -1) if width % n == 0)
    return lower if wanted - lower <= higher - wanted else higher


def _bind(method: Method, arch: Architecture) -> Adaptation:
    needs_linear(method, arch)
    if method.rank is not None and method.block_size is not None:
        raise PlanError(
            "method.block_size",
            method.block_size,
            "cannot stand beside rank, the number of blocks",
            "Give one of the two.",
        )

    def sizes(width: int) -> tuple[int, int]:
        """(blocks, size of one)."""
        if method.rank is not None:
            blocks = divisor(width, method.rank)
            return blocks, width // blocks
        size = divisor(width, method.block_size or DEFAULT_BLOCK)
        return width // size, size

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.oft.Linear.forward: `base_layer(rotate(x.to(R.dtype)).to(x.dtype))`."""
        g, width = w.graph, x.shape[-1]
        blocks, size = sizes(int(width))
        elements = size * (size - 1) // 2
        weight = w.adapter(path + ".oft_R.weight", (blocks, elements))
        for name in ("rows", "cols"):
            buffer(w, f"{path}.oft_R.{name}", (elements,), "int64")
        whole = (blocks, size, size)
        matrix = made(w, "skew_fill", (weight,), whole, weight.dtype, passes=2)
        skew = made(w, "skew", (matrix,), whole, weight.dtype, passes=2)
        rotation = made(w, "cayley", (skew,), whole, weight.dtype, passes=2)
        power = skew
        for _ in range(3):
            power = product(w, "cayley_power", power, skew, size, size, size, whole, blocks)
            rotation = add_in_place(w, rotation, power)
        taken = g.cast(x, weight.dtype, name="adapter_input")
        rows = x.numel / width
        parts = Tensor(x.shape, taken.dtype, taken.storage, taken.requires_grad)
        # a view of blocks; backward copies its gradient back to rows
        g.add_operation("blocks", "elementwise", (taken,), (parts,), (), (), (Kernel("elementwise", 2 * taken.bytes),))
        rotated = product(w, "rotate", parts, rotation, rows, size, size, x.shape, blocks)
        merged = g.copy(rotated, name="rotated")
        wide = g.cast(merged, taken.dtype)
        g.release(taken, rotation, rotated, merged)  # local variables of the rotation's forward
        y = layer(g.cast(wide, x.dtype))
        g.release(x, wide)
        return g.cast(y, x.dtype, name="adapter_output")

    shown = {"rank": method.rank} if method.rank is not None else {"block_size": method.block_size or DEFAULT_BLOCK}
    return adapted(
        method,
        arch,
        beside,
        shown,
        only="oft_only",
        formula="sum over targets of (in / n) · n (n − 1) / 2 with blocks of n",
        bases=ANY_BASE,
    )


register(
    MethodKind(
        "oft",
        "OFT",
        "Trains orthogonal blocks that rotate a layer's input.",
        ("block_size", "rank", *SELECTION, "bias", *COMMON),
        "Qiu et al. 2023, arXiv:2306.07280",
        _bind,
    )
)
