"""What weight gradients need that are computed later than those of activations (zero-bubble schedules)."""

from __future__ import annotations

from planner.estimate.memory import COMPONENTS, rounded
from planner.workload.graph import Operation
from planner.workload.trace import Stretch, Workload

_INDEX = {name: i for i, name in enumerate(COMPONENTS)}


def kept_for_weights(workload: Workload) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What a micro batch keeps between the gradients of its activations and those of its weights, by component: of the layers, and of
    the head [bytes].

    Inputs of the trained layers and the gradients of their outputs (Qi et al. 2023, arXiv:2401.10241, sec. 2.2). Stacks on
    torch.distributed.pipelining keep the whole graph beside these gradients: its `stage_backward_input` retains it.
    """
    blocks, head = [0.0] * len(COMPONENTS), [0.0] * len(COMPONENTS)
    whole = workload.setting.stack.retains_split_graph
    for stretch in workload.stretches:
        books = head if stretch.name == "head" else blocks
        for saved, gradients in zip(_saved(stretch, whole), _output_gradients(stretch, whole), strict=True):
            i = _INDEX[saved[0]]
            books[i] += (saved[1] + gradients[1]) * stretch.count
    return tuple(blocks), tuple(head)


def _saved(stretch: Stretch, whole: bool) -> list[tuple[str, float]]:
    """What backward saved of activations: of all operations, or of those with a weight gradient."""
    sizes, seen = dict.fromkeys(COMPONENTS, 0.0), set[int]()
    for operation in stretch.operations:
        if not operation.grads or not (whole or _weight_product(operation)):
            continue
        for tensor in operation.saved:
            storage = tensor.storage
            if tensor.parameter is None and storage.category != "weights" and id(storage) not in seen:
                seen.add(id(storage))
                sizes[storage.category] += rounded(storage.bytes)
    return list(sizes.items())


def _output_gradients(stretch: Stretch, whole: bool) -> list[tuple[str, float]]:
    """Gradients of the outputs of operations with a weight gradient; torch's split keeps those of norms too."""
    sizes = dict.fromkeys(COMPONENTS, 0.0)
    for operation in stretch.operations:
        trained = any(t.parameter is not None and t.requires_grad for t in operation.inputs)
        if _weight_product(operation) or (whole and trained):
            for tensor in operation.outputs:
                if tensor.requires_grad:
                    sizes[tensor.storage.category] += rounded(tensor.bytes)
    return list(sizes.items())


def _weight_product(operation: Operation) -> bool:
    """Whether part of the operation's backward is the product that makes the gradient of a weight."""
    return any(kernel.layout == "wgrad" for kernel in operation.backward)
