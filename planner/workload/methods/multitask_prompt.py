"""Multitask prompt tuning: a shared prompt times a low-rank matrix of each task (Wang et al. 2023, arXiv:2303.02861, eq. 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Kernel, Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import product
from planner.workload.virtual_tokens import DEFAULT_TOKENS, ENCODER, check_single, check_width, prepend, table

if TYPE_CHECKING:
    from planner.workload.writer import Writer


def _bind(method: Method, arch: Architecture) -> Adaptation:
    check_width(arch, method.name)
    check_single(arch, method.name)
    tokens, tasks, rank = method.virtual_tokens or DEFAULT_TOKENS, method.tasks or 1, method.rank or 1

    def prompt(w: Writer, x: Tensor) -> Tensor:
        """peft's MultitaskPromptEmbedding: the prompt of every sequence, times the product of its task's columns and rows."""
        g, h = w.graph, arch.hidden
        shared = table(w, w.b, tokens, h)

        def chosen(name: str, shape: tuple[float, float]) -> Tensor:
            every = w.adapter(f"{ENCODER}.prefix_task_{name}", (tasks, *shape))
            y = g.new((w.b, *shape), every.dtype, True, name)
            moved = Kernel("elementwise", 2 * y.bytes)
            back = (Kernel("elementwise", every.bytes + 2 * y.bytes),)
            g.add_operation("index_select", "embedding", (every,), (y,), (), (moved,), back)
            return y

        columns, rows = chosen("cols", (tokens, rank)), chosen("rows", (rank, h))
        mine = product(w, "task_prompt", columns, rows, tokens, h, rank, (w.b, tokens, h), batch=w.b)
        return prepend(w, g.mul(shared, mine, name="task_scale"), x)

    return Adaptation(
        method.name,
        trains=lambda path: False,
        peft=True,
        resolved={"virtual_tokens": tokens, "tasks": tasks, "rank": rank},
        adapter_dtype=method.adapter_dtype,
        formula=f"p · h + tasks · r · (p + h) with p = {tokens}",
        virtual_tokens=tokens,
        prompt=prompt,
    )


register(
    MethodKind(
        "multitask_prompt",
        "Multitask prompt tuning",
        "Trains a prompt that tasks share, and a low-rank scale of it for each task.",
        ("virtual_tokens", "tasks", "rank", "adapter_dtype"),
        "Wang et al. 2023, arXiv:2303.02861",
        _bind,
    )
)
