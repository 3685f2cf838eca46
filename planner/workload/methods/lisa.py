"""LISA: embeddings and head are always trained, and a few layers at a time, drawn anew every `period` steps (Pan et al. 2024, arXiv:2403.17919, algorithm 1).

Frozen layers keep no gradients and no optimizer states: those of layers that were active before are dropped. Planned for the draw that takes most
memory, the last layers, whose gradients exist while the activations of all others do.
"""

from __future__ import annotations

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.freeze import layer_index, one_stack

DEFAULT_ACTIVE, DEFAULT_PERIOD = 2, 20


def _bind(method: Method, arch: Architecture) -> Adaptation:
    one_stack(method.name, arch)
    active = method.active_layers or min(DEFAULT_ACTIVE, arch.layers)
    if active > arch.layers:
        raise PlanError(
            "method.active_layers", active, f"is more than the model's {arch.layers} layers", f"Use 1 to {arch.layers}."
        )

    def trains(path: str) -> bool:
        layer = layer_index(path, arch)
        return layer is None or layer >= arch.layers - active

    return Adaptation(
        "lisa",
        trains=trains,
        per_layer=True,
        resolved={"active_layers": active, "period": method.period or DEFAULT_PERIOD},
        notes=(
            f"{active} layers are trained at a time, planned as the last ones; optimizer states of other layers are dropped.",
        ),
        formula="none; layers take turns",
    )


register(
    MethodKind(
        "lisa",
        "LISA",
        "Trains embeddings, head and a few layers at a time, drawn at random.",
        ("active_layers", "period"),
        "Pan et al. 2024, arXiv:2403.17919",
        _bind,
    )
)
