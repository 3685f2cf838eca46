"""Full-matrix preconditioners per side of a matrix: Shampoo in blocks, and SOAP, which runs Adam in Shampoo's eigenbasis."""

from __future__ import annotations

from collections import Counter

from planner.workload.graph import BYTES, Kernel, matmul_kernel
from planner.workload.optimizers.base import Decomposition, Step, Task, Trained, is_matrix, register

LARGEST = 10_000
BLOCK = 512
LARGEST_BLOCKED = 8192
SCHUR_NEWTON = 20
"""Iterations of the coupled Schur-Newton root; the implementation stops at a residual of 1e-6, which takes 15 to 30 (assumed 20)."""


def _sides(t: Trained) -> list[float]:
    """Sides of a matrix that get a preconditioner."""
    return [side for side in t.parameter.shape if side <= LARGEST] if is_matrix(t.parameter) else []


@register(
    "soap",
    "SOAP",
    "Adam in the eigenbasis of Shampoo's preconditioners: two square matrices per side of at most 10000, renewed every 10 steps by QR.",
    "Vyas et al. 2024, arXiv:2409.11321; pytorch_optimizer 4.1 SOAP",
    ("every",),
)
def _soap(task: Task) -> Step:
    every = task.every or 10
    moments = squares = moved = kernels = widest = 0.0
    products: list[tuple[Kernel, float]] = []
    decompositions: list[Decomposition] = []
    for t in task.trained:
        p, dtype = t.parameter, task.dtype(t.parameter)
        size, element = task.size(p), BYTES[dtype]
        sides = _sides(t)
        product = task.product if dtype == "fp32" else dtype
        moments += size * t.times
        squares += sum(side * side for side in sides) * element * t.times
        for side in sides:
            other = p.numel / side
            # project the gradient, the moment, and the update back; the outer product of the gradient
            products.append((matmul_kernel(side, other, side, product), 3 * t.times))
            products.append((matmul_kernel(side, side, other, product), t.times))
            products.append((matmul_kernel(side, side, side, product), t.times / every))
            decompositions.append(Decomposition("qr", side, side, t.times / every))
        moved += (22 * size + sum(3 * side * side * element for side in sides)) * t.times
        kernels += (12 + 6 * len(sides)) * t.times
        # the projected gradient, the denominator, the projected moment and the update; then the outer products of both sides
        widest = max(widest, 4 * size + sum(side * side for side in sides) * element)
    states = {"exp_avg": moments, "exp_avg_sq": moments, "statistics": squares, "eigenbasis": squares}
    return Step(states, widest, moved, kernels, tuple(products), tuple(decompositions))


def merged(shape: tuple[float, ...], block: int = BLOCK) -> list[float]:
    """Neighbouring dimensions joined while their product stays within a block."""
    result: list[float] = []
    product = 1.0
    for side in shape:
        product *= side
        if product > block:
            result.append(product // side)
            product = side
    result.append(product)
    return result if len(result) > 1 else [1.0]


def _pieces(side: float) -> Counter[float]:
    """Sizes of the blocks along one side."""
    whole, rest = divmod(side, BLOCK)
    return Counter({float(BLOCK): int(whole), **({rest: 1} if rest else {})})


@register(
    "shampoo",
    "Shampoo, blocked",
    "Preconditioners per block of 512 × 512 in fp32, their roots every 1000 steps; the size of the update is taken from SGD.",
    "Gupta et al. 2018, arXiv:1802.09568; Anil et al. 2020, arXiv:2002.09018; pytorch_optimizer 4.1 ScalableShampoo",
    ("every",),
)
def _shampoo(task: Task) -> Step:
    every = task.every or 1000
    momenta = squares = moved = kernels = widest = before = 0.0
    products: dict[Kernel, float] = {}

    def multiply(m: float, n: float, k: float, times: float) -> None:
        kernel = matmul_kernel(m, n, k, task.product)
        products[kernel] = products.get(kernel, 0.0) + times

    for t in task.trained:
        p, size = t.parameter, task.size(t.parameter)
        momenta += size * t.times
        moved += 24 * size * t.times
        kernels += 16 * t.times
        # SGD's update, the preconditioned blocks and their concatenation (and fp32 copies), beside three tensors of the parameter before
        wide = 3 * size if task.dtype(p) == "fp32" else 2 * size + 12 * p.numel
        widest, before = max(widest, before + wide), 3 * size
        shape = merged(p.shape)
        if len(shape) < 2 or any(side > LARGEST_BLOCKED for side in p.shape):
            continue
        pieces = [_pieces(side) for side in shape]
        blocks = 1
        for one in pieces:
            blocks *= sum(one.values())
        moved += 12 * p.numel * t.times
        kernels += 5 * blocks * len(shape) * t.times
        volume = p.numel / blocks
        for one in pieces:
            others = blocks // sum(one.values())
            for side, number in one.items():
                times = number * others * t.times
                squares += 4.0 * side * side * times
                if side > 1:
                    multiply(side, side, volume / side, times)  # statistics
                    multiply(side, volume / side, side, times)  # the preconditioned gradient
                    multiply(side, side, side, 4 * SCHUR_NEWTON * times / every)
    states = {"momentum": momenta, "graft_momentum": momenta, "statistics": squares, "preconditioners": squares}
    return Step(states, widest, moved, kernels, tuple(products.items()))
