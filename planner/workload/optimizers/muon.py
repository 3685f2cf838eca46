"""Muon: the momentum of hidden matrices is orthogonalised by Newton-Schulz; everything else goes to AdamW."""

from __future__ import annotations

from planner.workload.graph import Kernel, matmul_kernel
from planner.workload.optimizers.adamw import foreach_adamw
from planner.workload.optimizers.base import Step, Task, Trained, is_matrix, register

ITERATIONS = 5


def is_hidden(t: Trained) -> bool:
    """Matrices of the blocks; embeddings, head, norms and biases are AdamW's."""
    return is_matrix(t.parameter) and t.place == "block"


@register(
    "muon",
    "Muon with AdamW",
    "One momentum for matrices of the blocks, orthogonalised by five Newton-Schulz iterations; AdamW for embeddings, head and vectors.",
    "Jordan et al. 2024, kellerjordan.github.io/posts/muon; Liu et al. 2025, arXiv:2502.16982; torch 2.13 Muon",
)
def _muon(task: Task) -> Step:
    hidden = [t for t in task.trained if is_hidden(t)]
    buffer = moved = kernels = widest = 0.0
    products: list[tuple[Kernel, float]] = []
    for t in hidden:
        p, size = t.parameter, task.size(t.parameter)
        rows, columns = p.shape[-2:]
        stack = p.numel / (rows * columns)
        small, large = min(rows, columns), max(rows, columns)
        gram, half = 2.0 * small * small * stack, 2.0 * p.numel
        buffer += size * t.times
        # X Xᵀ, the square of it with b A added, and X with a X added
        products.append((matmul_kernel(small, small, large, "bf16", batch=stack), ITERATIONS * t.times))
        products.append((matmul_kernel(small, small, small, "bf16", batch=stack), ITERATIONS * t.times))
        products.append((matmul_kernel(small, large, small, "bf16", batch=stack), ITERATIONS * t.times))
        # momentum and Nesterov (3 + 3), cast, norm, scaling, decay (2) and update (3)
        moved += (11 * size + 4 * half) * t.times
        kernels += (9 + 3 * ITERATIONS) * t.times
        # the update, the old and the new X, the Gram matrix and its polynomial
        widest = max(widest, size + 2 * half + 2 * gram)
    step = Step({"momentum_buffer": buffer}, widest, moved, kernels, tuple(products))
    return step.beside(foreach_adamw(task.of(t for t in task.trained if not is_hidden(t))))
