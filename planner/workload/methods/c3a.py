"""C3A: the update is a block-circulant matrix, applied by Fourier transforms (Chen et al. 2024, arXiv:2407.19342, eq. 5-7; peft's C3A)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Kernel, Tensor, matmul_kernel
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import add_in_place, needs_linear
from planner.workload.methods.targets import COMMON, DEFAULT_TARGETS, SELECTION, adapted

if TYPE_CHECKING:
    from planner.workload.writer import Writer

TARGETS = {**DEFAULT_TARGETS, "gpt_bigcode": ("mlp.c_proj",)}
DEFAULT_BLOCK = 256


def _bind(method: Method, arch: Architecture) -> Adaptation:
    needs_linear(method, arch)
    size = method.block_size or DEFAULT_BLOCK

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.c3a: `result += (BlockCircularConvolution(x, kernel) / in).to(result)`; the kernel is fp32, transforms are complex64."""
        g, inner = w.graph, x.shape[-1]
        for width in (inner, out):
            if width % size:
                raise PlanError(
                    "method.block_size",
                    size,
                    f"does not divide the {width:.0f} features of {path}",
                    "Use a common divisor of all widths.",
                )
        y = layer(x)
        kernel = w.added(path + ".c3a_kernel", (out // size, inner // size, size), "fp32", True)
        taken = g.cast(x, "fp32", name="adapter_input")
        rows, m, n = x.numel / inner, out // size, inner // size
        convolved = g.new((*x.shape[:-1], out), "fp32", True, "convolution")
        wide_in, wide_out = 8.0 * rows * inner, 8.0 * rows * out
        spectrum = 8.0 * kernel.numel
        move_in, move_out = Kernel("elementwise", 2 * wide_in), Kernel("elementwise", 2 * wide_out)
        forward = [move_in, move_in, move_out]
        backward = [
            move_out,
            move_out,
            move_in,
            move_in,
            move_in,
            matmul_kernel(m, n, rows, "fp32", batch=size, layout="wgrad"),
        ]
        if n > 1:  # a sum over one block is an elementwise product
            forward.append(matmul_kernel(rows, m, n, "fp32", batch=size))
        if m > 1:
            backward.append(matmul_kernel(rows, n, m, "fp32", batch=size, layout="dgrad"))
        g.add_operation(
            "circulant",
            "matmul",
            (taken, kernel),
            (convolved,),
            (taken, kernel),
            forward,
            backward,
            # the input's gradient is the real part of a complex tensor, which stays whole beside the transformed input
            temporary=(
                wide_in + wide_out + spectrum,
                2 * wide_in + wide_out + spectrum - (taken.bytes if taken.requires_grad else 0.0),
            ),
        )
        scaled = g.unary("adapter_scale", convolved, save="none")
        g.release(x, taken, scaled)
        return g.cast(add_in_place(w, y, g.cast(scaled, y.dtype)), x.dtype, name="adapter_output")

    return adapted(
        method, arch, beside, {"block_size": size}, TARGETS, formula="sum over targets of in · out / n with blocks of n"
    )


register(
    MethodKind(
        "c3a",
        "C3A",
        "Trains a block-circulant update, applied by Fourier transforms.",
        ("block_size", *SELECTION, *COMMON),
        "Chen et al. 2024, arXiv:2407.19342",
        _bind,
    )
)
