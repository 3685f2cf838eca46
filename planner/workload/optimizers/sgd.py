"""Plain gradient descent, with and without momentum."""

from __future__ import annotations

from planner.workload.optimizers.base import Step, Task, launches, register


@register("sgd", "SGD", "No state.", "torch.optim.SGD")
def _sgd(task: Task) -> Step:
    return Step({}, 0.0, 3 * task.bytes, launches(1, task.tensors))


@register("sgd-momentum", "SGD with momentum", "One momentum buffer per parameter.", "torch.optim.SGD")
def _momentum(task: Task) -> Step:
    size = task.bytes
    return Step({"momentum": size}, 0.0, 8 * size, launches(3, task.tensors))
