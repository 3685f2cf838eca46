"""Head only (linear probing): everything below the output head is frozen, so that backward ends in the head."""

from __future__ import annotations

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.methods.base import Adaptation, MethodKind, register


def _bind(method: Method, arch: Architecture) -> Adaptation:
    n = arch.names
    prefixes = tuple({f"{path}." for path in (arch.output_layer, n.head, n.classifier) if path})

    def trains(path: str) -> bool:
        return path.startswith(prefixes)

    return Adaptation(method.name, trains=trains, per_layer=True, formula="none; the output head is trained")


register(
    MethodKind(
        "head",
        "Head only",
        "Trains the output head (a linear probe); the rest is frozen.",
        (),
        "Alain & Bengio 2016, arXiv:1610.01644",
        _bind,
    )
)
