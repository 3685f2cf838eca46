"""peft's LoraFAOptimizer: AdamW on B alone, of a gradient that is multiplied with the inverse of A Aᵀ."""

from __future__ import annotations

from planner.workload.graph import BYTES, Kernel, matmul_kernel
from planner.workload.optimizers.base import Decomposition, Step, Task, register

B = ".lora_B"


@register(
    "lora-fa",
    "LoRA-FA's AdamW",
    "AdamW for method lora_fa: two moments of B, whose gradient is first corrected by a pseudo-inverse of rank × rank per layer; plain AdamW for all else.",
    "Zhang et al. 2023, arXiv:2308.03303; peft 0.21 LoraFAOptimizer",
)
def _lora_fa(task: Task) -> Step:
    moments = moved = kernels = widest = before = 0.0
    products: list[tuple[Kernel, float]] = []
    decompositions: list[Decomposition] = []
    for t in task.trained:
        p, size = t.parameter, task.size(t.parameter)
        element = BYTES[task.dtype(p)]
        moments += size * t.times
        if B not in p.name:  # plain AdamW, tensor by tensor; the denominator stays until the next is made
            moved += 14 * size * t.times
            kernels += 8 * t.times
            widest, before = max(widest, before + size), size
            continue
        rank, half = float(p.shape[-1]), 2.0 * p.numel
        products.append((matmul_kernel(rank, rank, task.hidden, task.product if element == 4 else task.dtype(p)), t.times))
        products.append((matmul_kernel(p.numel / rank, rank, rank, "bf16"), t.times))
        decompositions.append(Decomposition("svd", rank, rank, t.times))
        moved += (14 * size + 4 * half + 2 * size) * t.times
        kernels += 24 * t.times
        # the loop's variables hold the gradient and the denominator of the pair before, the product in bf16 beside them, then this pair's own
        widest = max(widest, before + 2 * half, before / 2 + max(half + size, 2 * size))
        before = 2 * size
    return Step({"exp_avg": moments, "exp_avg_sq": moments}, widest, moved, kernels, tuple(products), tuple(decompositions))
