"""Freezing: part of the weights is trained as it is, the rest gets no gradient.

A frozen linear layer has no weight gradient and keeps no input; below the lowest trained weight there is no backward at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.methods.base import Adaptation, MethodKind, register


def one_stack(method: str, arch: Architecture) -> None:
    """Refuse what is defined for the layers of one stack. Raises `PlanError` for models with an encoder or a tower before the layers."""
    if arch.towers:
        raise PlanError(
            "method.name", method, f"counts the layers of one stack; {arch.model_type} has several", "Use lora or freeze."
        )


def layer_index(path: str, arch: Architecture) -> int | None:
    """The layer that a parameter path belongs to, None for embeddings and head. Layers count through all stacks in the
    order of the forward pass: an encoder's first, then the decoder's. Where stacks are stages, they count instead; the
    layers of towers beside each other count from 0 in each."""
    before = 0
    for stack in arch.stacks:
        prefix = stack.names.layer.split("{i}")[0]
        if path.startswith(prefix):
            return before + int(path[len(prefix) :].split(".", 1)[0])
        before += 0 if arch.stages or _beside(arch) else stack.layers
    return None


def _beside(arch: Architecture) -> bool:
    return any(getattr(output, "beside", False) for output in arch.outputs)


def _embeddings(stack: Architecture) -> tuple[str, ...]:
    """Beginnings of the paths of what makes a stack's first hidden states."""
    n = stack.names
    parts = (path for part in (stack.front, stack.mixer) for path in getattr(part, "paths", ()))
    return (*(p for p in (n.embedding, n.positions, n.token_types, n.embedding_norm, n.early_norm, n.embedding_projection) if p), *parts)


def _by_name(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    try:
        compiled = [re.compile(pattern) for pattern in patterns]
    except re.error as error:
        raise PlanError(
            "method.trainable",
            patterns,
            f"is not a regular expression ({error})",
            "Give a part of a parameter name, or a valid expression.",
        ) from None
    return lambda path: any(pattern in path for pattern in patterns) or any(c.search(path) for c in compiled)


def _bind(method: Method, arch: Architecture) -> Adaptation:
    given = [name for name in ("trainable", "first", "last") if getattr(method, name) is not None]
    if len(given) != 1:
        raise PlanError(
            "method",
            ", ".join(given) or "freeze",
            "needs exactly one of trainable, first, last",
            "Write for example {name: freeze, first: 6}.",
        )
    if method.trainable is not None:
        patterns = (method.trainable,) if isinstance(method.trainable, str) else method.trainable
        return Adaptation("freeze", trains=_by_name(patterns), per_layer=True)
    count = method.first if method.first is not None else method.last
    assert count is not None
    depths = [stack.layers for stack in arch.stacks]
    depth, word = (arch.stages, "stages") if arch.stages else (max(depths) if _beside(arch) else sum(depths), "layers")
    if count > depth:
        raise PlanError(f"method.{given[0]}", count, f"is more than the model's {depth} {word}", f"Use 0 to {depth}.")
    n = arch.names
    embeddings = (
        *(path for stack in arch.stacks for path in _embeddings(stack)),
        "model.decoder.project_in",
    )

    def trains(path: str) -> bool:
        layer = layer_index(path, arch)
        if layer is not None:
            return layer >= count if method.first is not None else layer >= depth - count
        if method.first is not None:
            return not path.startswith(embeddings)
        return path.startswith(
            n.classifier + "."
        )  # a classification head starts from random values and is always trained

    return Adaptation("freeze", trains=trains, per_layer=True)


register(
    MethodKind(
        "freeze",
        "Layer freezing",
        "Keeps the first layers frozen, trains only the last ones, or the parameters whose name matches.",
        ("trainable", "first", "last"),
        "Lee et al. 2019, arXiv:1911.03090",
        _bind,
    )
)
