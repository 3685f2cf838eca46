"""Moments of a low-rank projection of the gradient: GaLore and APOLLO."""

from __future__ import annotations

from planner.workload.graph import BYTES, Kernel, Parameter, matmul_kernel
from planner.workload.optimizers.base import Decomposition, Step, Task, Trained, is_matrix, register


def _projects(t: Trained) -> bool:
    """Matrices of the blocks are projected (transformers' `optim_target_modules: all-linear`); embeddings and head are not."""
    return is_matrix(t.parameter) and t.place == "block"


def _split(p: Parameter, rank: int) -> tuple[float, float, float]:
    """(smaller side, larger side, rank) of a matrix; the projection acts on the smaller one."""
    rows, columns = p.numel / p.shape[-1], p.shape[-1]
    return min(rows, columns), max(rows, columns), min(rank, rows, columns)


def _projected(task: Task, rank: int, back: bool, svd_every: int | None, passes: int, scratch: float) -> Step:
    """back: the update is projected back · svd_every: steps between renewals by singular values, None when the basis is random."""
    moment = basis = moved = kernels = widest = norms = before = 0.0
    products: list[tuple[Kernel, float]] = []
    decompositions: list[Decomposition] = []
    for t in task.trained:
        p, element = t.parameter, BYTES[task.dtype(t.parameter)]
        size = p.numel * element
        if not _projects(t):
            moment += size * t.times
            moved += 20 * size * t.times
            kernels += 8 * t.times
            # the denominator is made while the loop's variables still hold two tensors of the parameter before
            widest, before = max(widest, 2 * size, before + size), 2 * size
            continue
        small, large, r = _split(p, rank)
        moment += r * large * element * t.times
        # galore_torch's basis is a view of all singular vectors unless the cast from fp32 copies it
        basis += (small if svd_every and element == 4 else r) * small * element * t.times
        norms += element * t.times
        product = task.product if task.dtype(p) == "fp32" else task.dtype(p)
        products.append((matmul_kernel(r, large, small, product), t.times * (2 if back else 1)))
        moved += (passes * size + 20 * r * large * element) * t.times
        kernels += 20 * t.times
        before = size
        widest = max(widest, scratch * size + (2 * r * large * element if scratch < 2 else 0.0))
        if svd_every:
            decompositions.append(Decomposition("svd", large, small, t.times / svd_every))
    states = {"exp_avg": moment, "exp_avg_sq": moment, "projection": basis}
    if not back:
        states["update_norm"] = norms
    return Step(states, widest, moved, kernels, tuple(products), tuple(decompositions))


_APOLLO = "Zhu et al. 2024, arXiv:2412.05270; apollo_torch 1.0"


@register(
    "apollo",
    "APOLLO",
    "AdamW's moments of a random projection (rank 256) scale each channel of the gradient; embeddings and head keep full AdamW.",
    _APOLLO,
    ("rank",),
)
def _apollo(task: Task) -> Step:
    # g · s, · sqrt(scale), norm, / limiter, add, decay over gradient-sized data; the scaled gradient exists twice
    return _projected(task, task.rank or 256, False, None, 14, 2.0)


@register(
    "apollo-mini",
    "APOLLO-Mini",
    "The same at rank 1, with one scale per tensor.",
    _APOLLO,
    ("rank",),
)
def _apollo_mini(task: Task) -> Step:
    return _projected(task, task.rank or 1, False, None, 14, 2.0)


@register(
    "galore",
    "GaLore AdamW",
    "AdamW's moments of the gradient in its leading singular directions (rank 128), renewed every 200 steps.",
    "Zhao et al. 2024, arXiv:2403.03507; galore_torch 1.0",
    ("rank", "every"),
)
def _galore(task: Task) -> Step:
    return _projected(task, task.rank or 128, True, task.every or 200, 7, 1.0)
