"""BOFT: a trained orthogonal matrix, block-diagonal between permutations, rotates the input; a trained scale follows each output.

Liu et al. 2023, arXiv:2311.06243 (eq. 2-4), as peft's BOFT runs it without its CUDA extension: one butterfly factor, dense matrices of the input's
width formed at every step, and a dense permutation kept with every layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Kernel, Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import buffer, made, needs_linear, product, without_bias
from planner.workload.methods.targets import ANY_BASE, COMMON, SELECTION, adapted, has_bias

if TYPE_CHECKING:
    from planner.workload.writer import Writer

DEFAULT_BLOCK = 4


def _bind(method: Method, arch: Architecture) -> Adaptation:
    needs_linear(method, arch)
    size = method.block_size or DEFAULT_BLOCK

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.boft.Linear.forward."""
        g, width, kind = w.graph, x.shape[-1], x.dtype
        if width % size:
            raise PlanError(
                "method.block_size",
                size,
                f"does not divide the {width:.0f} inputs of {path}",
                "Use a common divisor of the layers' inputs.",
            )
        blocks = width / size
        r = w.adapter(path + ".boft_R", (1, blocks, size, size))
        scale = w.adapter(path + ".boft_s", (out, 1))
        permutation = buffer(w, path + ".boft_P", (1, width, width), "fp32")
        square, small = (width, width), (blocks, size, size)
        identity = g.new(square, kind, False, "eye")
        g.add_operation("eye", "elementwise", (), (identity,), (), (Kernel("elementwise", identity.bytes),), ())
        skew = made(w, "skew", (r,), small, r.dtype, passes=3)
        rotation = made(w, "cayley", (skew,), small, r.dtype, passes=3)
        lu = g.new(small, r.dtype, False, "lu")
        solve = (Kernel("solve", 3 * rotation.bytes),)
        g.add_operation("solve", "elementwise", (rotation,), (lu,), (lu, rotation), solve, solve)
        diagonal = g.cast(made(w, "block_diagonal", (rotation,), square, r.dtype), kind)
        p = g.cast(permutation, kind)
        inner = product(w, "permute", diagonal, p, width, width, width, square)
        outer = product(w, "permute", p, inner, width, width, width, square)
        turned = g.cast(product(w, "permute", outer, identity, width, width, width, square), kind)
        factors = g.view(g.unary("ones_times", scale, save="none"), (out,))
        rows = x.numel / width
        rotated = product(w, "rotate", x, turned, rows, width, width, x.shape)
        y = layer(rotated)
        bias = has_bias(arch, path)
        if bias:
            y = without_bias(w, y)
        result = g.mul(y, factors, name="boft_scale")
        if bias:
            result = without_bias(w, result, "plus_bias")
        result = g.cast(result, kind, name="adapter_output")
        g.release(x, diagonal, p, outer, turned, rotated, rotation, factors)
        return result

    return adapted(
        method,
        arch,
        beside,
        {"block_size": size},
        only="boft_only",
        formula="sum over targets of in · n + out with blocks of n",
        bases=ANY_BASE,
    )


register(
    MethodKind(
        "boft",
        "BOFT",
        "Trains an orthogonal matrix of small blocks that rotates a layer's input, and a scale per output.",
        ("block_size", *SELECTION, "bias", *COMMON),
        "Liu et al. 2023, arXiv:2311.06243",
        _bind,
    )
)
