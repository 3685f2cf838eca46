"""What weight gradients need that are computed later than those of activations (zero-bubble schedules)."""

from __future__ import annotations

from planner.estimate.memory import COMPONENTS, rounded
from planner.workload.graph import Operation
from planner.workload.trace import Stretch, Workload

_INDEX = {name: i for i, name in enumerate(COMPONENTS)}


def is_weight_product(operation: Operation) -> bool:
    """Whether part of the operation's backward is the gradient of a weight."""
    return any(kernel.layout == "wgrad" for kernel in operation.backward)


def kept_for_weights(workload: Workload) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Inputs of the trained layers and the gradients of their outputs, by component: of the layers, and of the head [bytes].

    All else that a micro batch keeps is free once the gradients of its activations are known (Qi et al. 2023, arXiv:2401.10241, sec. 2.2).
    """
    blocks, head = [0.0] * len(COMPONENTS), [0.0] * len(COMPONENTS)
    for stretch in workload.stretches:
        books = head if stretch.name == "head" else blocks
        for i, size in enumerate(_of(stretch)):
            books[i] += size * stretch.count
    return tuple(blocks), tuple(head)


def _of(stretch: Stretch) -> list[float]:
    sizes, seen = [0.0] * len(COMPONENTS), set[int]()
    for operation in stretch.operations:
        if not is_weight_product(operation):
            continue
        for tensor in operation.saved:
            storage = tensor.storage
            if tensor.parameter is None and storage.category != "weights" and id(storage) not in seen:
                seen.add(id(storage))
                sizes[_INDEX[storage.category]] += rounded(storage.bytes)
        for tensor in operation.outputs:
            if tensor.requires_grad:
                sizes[_INDEX[tensor.storage.category]] += rounded(tensor.bytes)
    return sizes
