"""AdaLoRA: an update in the form of a singular value decomposition, P Λ Q, whose ranks are pruned by importance during training.

Zhang et al. 2023, arXiv:2303.10512 (eq. 3-12), as peft's AdaLora runs it: all layers start at `initial_rank`, pruning sets singular values to zero,
so that memory and FLOPs stay those of the initial rank. The loss has ‖PᵀP − I‖ + ‖QQᵀ − I‖ of every layer (eq. 4). Assumed: the training loop
calls `update_and_allocate` after every step, as peft asks, which keeps three numbers a trained parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Kernel, Parameter, Tensor, matmul_kernel
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import add_in_place, made, uncached
from planner.workload.methods.targets import BITSANDBYTES, COMMON, SELECTION, WIDE_TARGETS, adapted
from planner.workload.optimizers import Optimizer, Step, Task

if TYPE_CHECKING:
    from planner.workload.writer import Writer

TARGETS = {**WIDE_TARGETS, "roberta": ("query", "key", "value", "dense")}
"""What peft adapts when no target is given."""
DEFAULT_INITIAL, DEFAULT_RANK = 12, 8


def _bind(method: Method, arch: Architecture) -> Adaptation:
    initial, rank, dropout = method.initial_rank or DEFAULT_INITIAL, method.rank or DEFAULT_RANK, method.dropout or 0.0
    if rank > initial:
        raise PlanError(
            "method.rank",
            rank,
            f"is more than the initial rank {initial}",
            "AdaLoRA only prunes: raise initial_rank, or lower rank.",
        )

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.adalora.SVDLinear.forward: `result += (dropout(x) @ (A * E).T @ B.T) * scaling / ranknum`."""
        g, r = w.graph, float(initial)
        y = layer(x)
        a, e = w.adapter(path + ".lora_A", (r, x.shape[-1])), w.adapter(path + ".lora_E", (r, 1))
        b = w.adapter(path + ".lora_B", (out, r))
        count = w.adapter(path + ".ranknum", (1,), trainable=False)
        taken = g.dropout(g.cast(x, a.dtype, name="adapter_input"), dropout)
        low = g.linear(taken, g.mul(a, e, name="singular_values"), name="lora_A")
        update = g.linear(low, uncached(w, b), name="lora_B")
        scaled = g.unary("adapter_scale", update, save="none")
        scaled = made(w, "rank_scale", (scaled, count), scaled.shape, scaled.dtype, (count,))
        g.release(x, taken)
        return add_in_place(w, y, scaled)

    return adapted(
        method,
        arch,
        beside,
        {"initial_rank": initial, "rank": rank},
        TARGETS,
        only="lora_only",
        finish=orthogonality,
        stepped=allocate,
        formula="sum over targets of r · (in + out + 1) + 1 with the initial rank",
        bases=(*BITSANDBYTES, "int4"),
    )


def orthogonality(w: Writer, loss: Tensor, added: list[tuple[Parameter, int]]) -> Tensor:
    """`sum ‖p pᵀ − I‖` over all A and B (peft.tuners.adalora.AdaLoraModel.forward). It is last in forward, so that its backward is first: the
    gradients of all adapters exist from the start."""
    g = w.graph
    dtype = g.autocast or "fp32"
    inputs: list[Tensor] = [loss]
    forward: list[Kernel] = []
    backward: list[Kernel] = []
    saved: list[Tensor] = []
    for parameter, count in added:
        if not parameter.trainable or not parameter.name.endswith((".lora_A", ".lora_B")):
            continue
        r, n = min(parameter.shape), max(parameter.shape)
        small = Kernel("elementwise", 8 * r * r)
        for i in range(count):
            name = f"{parameter.name}#{i}" if i else parameter.name
            p = g.parameter(Parameter(name, parameter.shape, parameter.dtype, True, adapter=True, shared=True))
            inputs.append(p)
            saved.append(g.new((r, r), "fp32", True, "covariance"))
            saved.append(g.new((1,), "fp32", True, "norm"))
            if g.autocast is not None:  # the parameter's cached copy, and that of its transpose
                saved += [g.new(p.shape, g.autocast, False, "autocast_weight") for _ in range(2)]
            forward += [matmul_kernel(r, r, n, dtype), small, small, small, small]
            backward += [
                small,
                small,
                matmul_kernel(r, n, r, dtype, layout="dgrad"),
                matmul_kernel(n, r, r, dtype, layout="wgrad"),
            ]
    total = g.new((1,), "fp32", True, "loss")
    g.add_operation("orthogonality", "matmul", inputs, (total, *saved), saved, forward, backward)
    return total


def allocate(optimizer: Optimizer, task: Task) -> Step:
    """The optimizer's step and peft's RankAllocator.update_ipt: sensitivity, its mean and its uncertainty, in each parameter's type."""
    step = optimizer.step(task)
    size = sum(4.0 * t.parameter.numel * t.times for t in task.trained)
    return replace(
        step,
        states={**step.states, "importance": 3 * size},
        moved=step.moved + 20 * size,
        kernels=step.kernels + 12 * task.tensors,
    )


register(
    MethodKind(
        "adalora",
        "AdaLoRA",
        "LoRA as a singular value decomposition whose ranks are pruned by importance.",
        ("initial_rank", "rank", "alpha", "dropout", *SELECTION, "bias", *COMMON),
        "Zhang et al. 2023, arXiv:2303.10512",
        _bind,
    )
)
