"""AdamW and its relatives with two or three moments: foreach, fused, LAMB, Lion, AdEMAMix, schedule-free."""

from __future__ import annotations

from planner.workload.graph import BYTES
from planner.workload.optimizers.base import Step, Task, launches, register


def foreach_adamw(task: Task) -> Step:
    """torch's multi-tensor AdamW; the fused one where the stack uses it, the plain loop on a processor."""
    if task.fused:
        return fused_adamw(task)
    size = task.bytes
    if task.operators:
        return _operators(task, 39, 18)
    if task.single:  # the same passes tensor by tensor; the root and its corrected copy live together (torch _single_tensor_adamw)
        return Step({"exp_avg": size, "exp_avg_sq": size}, 2 * task.widest, 20 * size, 8 * task.tensors)
    # decay r/w, lerp r2w, mul r/w, addcmul r2w, sqrt r/w, div r/w, add r/w, addcdiv r3w: 20 passes over parameter-sized data; sqrt makes one copy
    return Step({"exp_avg": size, "exp_avg_sq": size}, size, 20 * size, launches(8, task.tensors))


def fused_adamw(task: Task) -> Step:
    """torch's fused AdamW; only it keeps the count of steps on the device, an fp32 number per tensor."""
    size = task.bytes
    states = {"exp_avg": size, "exp_avg_sq": size, "step": 4.0 * task.tensors}
    return Step(states, 0.0, 7 * size, launches(1, task.tensors))


def _operators(task: Task, passes: float, kernels: float) -> Step:
    """Written out: m (2 + 2 + 3 passes), v (2 + 2 + 2 + 3), root, epsilon, quotient (2 + 2 + 3), decay (2 + 3), rate (2), weights (3), assignments (6)."""
    size = task.bytes
    return Step({"exp_avg": size, "exp_avg_sq": size}, 2 * task.widest, passes * size, kernels * task.tensors)


register(
    "adamw",
    "AdamW",
    "Two moments per parameter; one kernel per arithmetic step over all tensors (foreach), or one in all where the stack fuses it.",
    "Loshchilov & Hutter 2019, arXiv:1711.05101; torch _multi_tensor_adamw",
)(foreach_adamw)
register("adamw-fused", "AdamW, fused", "The same in one kernel: no temporaries.", "torch _fused_adamw")(fused_adamw)


@register(
    "adamw-schedule-free",
    "AdamW, schedule-free",
    "The base point z and the second moment; needs no learning-rate schedule.",
    "Defazio et al. 2024, arXiv:2405.15682; schedulefree 1.4 AdamWScheduleFree (foreach)",
)
def _schedule_free(task: Task) -> Step:
    size = task.bytes
    # mul, addcmul, div (a copy), sqrt, add, div, add, lerp, add, sub over parameter-sized data
    return Step({"z": size, "exp_avg_sq": size}, size, 26 * size, launches(10, task.tensors))


@register(
    "lamb",
    "LAMB",
    "AdamW with a trust ratio per tensor, fused over tensors; for very large batches.",
    "You et al. 2020, arXiv:1904.00962, algorithm 2; Apex FusedLAMB",
)
def _lamb(task: Task) -> Step:
    size = task.bytes
    if task.operators:  # norms of the update and of the weights and their ratio come in, decay and the rate are scaled with it
        return _operators(task, 45, 24)
    # one stage reads g, p, m, v and writes m, v, update; norms of p and update; a second stage scales
    return Step({"exp_avg": size, "exp_avg_sq": size}, 0.0, 12 * size, launches(4, task.tensors))


@register(
    "lion", "Lion", "One moment per parameter; the sign of it is the update.", "Chen et al. 2023, arXiv:2302.06675"
)
def _lion(task: Task) -> Step:
    size = task.bytes
    widest = max((t.parameter.numel * BYTES[t.parameter.dtype] for t in task.trained), default=0.0)
    # per tensor in Python: decay r/w, interpolation, sign, add, lerp
    return Step({"exp_avg": size}, widest, 12 * size, 6 * task.tensors)


@register(
    "sophia",
    "Sophia-G",
    "A moment and a diagonal curvature estimate, renewed every 10 steps by one more forward and backward on sampled labels.",
    "Liu et al. 2023, arXiv:2305.14342, algorithm 3; the authors' SophiaG",
    ("every",),
)
def _sophia(task: Task) -> Step:
    size = task.bytes
    # per tensor: decay, momentum (2), |m|, rho·h, + eps, ratio, clamp, sign, addcmul; |m|, rho·h and rho·h + eps are alive together
    moved = (2 + 2 + 3 + 2 + 2 + 2 + 3 + 2 + 2 + 4) * size
    extra = 1.0 / (task.every or 10)
    return Step({"exp_avg": size, "hessian": size}, 3 * task.widest, moved, 10 * task.tensors, gradients=extra)
