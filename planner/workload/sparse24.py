"""2:4 sparsity: in every four neighbours of a linear weight two are zero, which sparse tensor cores skip.

A frozen weight is stored packed: two values of four and 2 bits of index each, 4.5 of 8 bytes (NVIDIA, Mishra et al. 2021, arXiv:2104.08378). Its
forward product is sparse; the data gradient needs the transpose, which is not 2:4, so that the weight is unpacked for a dense product.
A trained weight stays dense and is pruned and packed both ways in every forward pass, so that forward and data gradient are sparse and the
weight gradient is dense (torch `_sparse_semi_structured_tile`; torchao SemiSparseLinear; Hu et al. 2024, arXiv:2404.01847).
FLOP are counted as if dense.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.workload.graph import BYTES, Kernel, Tensor, matmul_kernel

if TYPE_CHECKING:
    from planner.workload.writer import Writer

SUFFIX = "-2:4"
PACKED = 4.5 / 8
"""Bytes of a packed 16-bit weight over those of the dense one."""
RATE = 1.6
"""Rate of large sparse products over dense ones (assumed; the datasheets' peaks stand two to one)."""
METHODS = ("full", "lora", "rslora", "pissa")


def _sparse(m: float, n: float, k: float, dtype: str, layout: str = "forward") -> Kernel:
    """A product over half of k: as fast as a dense one of depth k / RATE."""
    return matmul_kernel(m, n, k / RATE, dtype, layout=layout)._replace(flops=2.0 * m * n * k)


def sparse_linear(w: Writer, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`x @ weight.T + bias` with a 2:4 weight."""
    g = w.graph
    x = g.lower(x)
    out, inner = weight.shape
    rows, dtype = x.numel / inner, x.dtype
    dense, packed = weight.numel * BYTES[dtype], PACKED * weight.numel * BYTES[dtype]
    trained = weight.requires_grad
    y = g.new((*x.shape[:-1], out), dtype, x.requires_grad or trained, "sparse_linear")
    forward = [_sparse(rows, out, inner, dtype)]
    backward: list[Kernel] = []
    inputs = [x, weight, *([bias] if bias is not None else [])]
    saved: list[Tensor] = []
    scratch = 0.0
    if trained:
        both = g.new((2 * packed / BYTES[dtype],), dtype, False, "packed_weight")
        g.add_operation("pack_weight", "elementwise", (), (both,), (), (Kernel("elementwise", dense + 2 * packed),), ())
        inputs.append(both)
        saved = [x, *([both] if x.requires_grad else [])]
        if x.requires_grad:
            backward.append(_sparse(rows, inner, out, dtype, "dgrad"))
        backward.append(matmul_kernel(out, inner, rows, dtype, layout="wgrad"))
    elif x.requires_grad:
        saved, scratch = [weight], dense
        backward = [Kernel("elementwise", packed + dense), matmul_kernel(rows, inner, out, dtype, layout="dgrad")]
    g.add_operation("sparse_linear", "matmul", inputs, (y,), saved, forward, backward, temporary=(0.0, scratch))
    return y
