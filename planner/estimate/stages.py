"""Pipeline stages of a run: which layers each has, and the traced workload of every stage that differs."""

from __future__ import annotations

from dataclasses import dataclass

from planner.errors import PlanError
from planner.estimate.partition import head_in_layers, layers_by_cost
from planner.workload import Setting, Workload, trace
from planner.workload.trace import Part, decisions


@dataclass(frozen=True)
class Stage:
    """One or several equal pipeline stages. indices: which ones · workload: of one micro step on one rank of them."""

    indices: tuple[int, ...]
    part: Part
    workload: Workload


def layers_of(stages: int, layers: int, chunks: int = 1) -> list[int]:
    """Layers of each stage: as equal as can be, the first and the last the first to have fewer (they also hold embedding and head).

    Raises `PlanError` when there are more stages, or more chunks in all, than layers.
    """
    if stages > layers:
        raise PlanError("parallel.pp", stages, f"is more than the model's {layers} layers", f"Use at most {layers}.")
    share, rest = divmod(layers, stages)
    counts = [share] * stages
    middle_first = sorted(range(stages), key=lambda i: (i in (0, stages - 1), i == stages - 1, i))
    for i in middle_first[:rest]:
        counts[i] += 1
    if chunks > share:
        raise PlanError(
            "parallel.virtual_pp", chunks, f"is more than the {share} layers of a stage", f"Use at most {share}."
        )
    return counts


def stages_of(setting: Setting, head: str, checkpointing: str, pp: int, chunks: int) -> list[Stage]:
    """The different stages of a run, in order; equal ones are traced once."""
    arch = setting.arch
    if pp == 1:
        return [Stage((0,), Part(0, arch.layers), trace(setting, head, checkpointing))]
    if arch.towers:
        raise PlanError("parallel.pp", pp, f"is not planned for {arch.model_type} with its towers", "Use 1.")
    found: dict[object, tuple[list[int], Part]] = {}
    start = 0
    counts = layers_of(pp, arch.layers, chunks)
    if setting.stack.stages_by_cost:
        counts = layers_by_cost(pp, arch.layers, head_in_layers(arch))
    for index, count in enumerate(counts):
        part = Part(start, start + count, index == 0, index == pp - 1)
        start += count
        kinds = tuple(decisions(arch, setting.adaptation, i) for i in range(part.start, part.stop))
        found.setdefault((part.first, part.last, kinds), ([], part))[0].append(index)
    return [Stage(tuple(indices), part, trace(setting, head, checkpointing, part)) for indices, part in found.values()]
