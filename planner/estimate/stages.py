"""Pipeline stages of a run: which layers each has, and the traced workload of every stage that differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from planner.errors import PlanError
from planner.estimate.schedules import place_of
from planner.run import Parallel
from planner.workload import Setting, Workload, trace
from planner.workload.trace import Part, decisions


@dataclass(frozen=True)
class Stage:
    """One or several equal pipeline stages. indices: which ones · workload: of one micro step on one rank of them ·
    layers: of each of its chunks · front, head: the chunk that starts and the one that ends the model, None where another stage does."""

    indices: tuple[int, ...]
    part: Part
    workload: Workload
    layers: tuple[int, ...] = ()
    front: int | None = 0
    head: int | None = 0

    @property
    def shares(self) -> tuple[float, ...]:
        """Part of the stage's layers in each chunk."""
        return tuple(n / sum(self.layers) for n in self.layers) if sum(self.layers) else (1.0,)


def layers_of(stages: int, layers: int, chunks: int = 1) -> list[int]:
    """Layers of each chunk in the order of the model: as equal as can be, the first and the last the first to have fewer (they also hold
    embedding and head).

    Of several chunks a stage, the first and the last may have no layer at all, as Megatron-LM places them with
    account-for-embedding/loss-in-pipeline-split. Raises `PlanError` when there are more stages, or more chunks in all, than layers.
    """
    if stages > layers:
        raise PlanError("parallel.pp", stages, f"is more than the model's {layers} layers", f"Use at most {layers}.")
    places = stages * chunks
    if places > layers + (2 if chunks > 1 else 0):
        most = (layers + 2) // stages
        raise PlanError(
            "parallel.virtual_pp", chunks, f"is more than the {layers // stages} layers of a stage", f"Use at most {most}."
        )
    share, rest = divmod(layers, places)
    counts = [share] * places
    middle_first = sorted(range(places), key=lambda i: (i in (0, places - 1), i == places - 1, i))
    for i in middle_first[:rest]:
        counts[i] += 1
    return counts


def given_layers(stages: Sequence[int], p: Parallel, layers: int) -> list[int]:
    """Layers of each chunk as the run says. Raises `PlanError` where they are not all of the model's."""
    places = p.pp * p.virtual_pp
    shown = ", ".join(map(str, stages))
    if len(stages) != places:
        what = f"{p.pp} stages" + (f" of {p.virtual_pp} chunks" if p.virtual_pp > 1 else "")
        raise PlanError("parallel.stages", shown, f"are {len(stages)} numbers for {what}", f"Give {places}.")
    if sum(stages) != layers:
        raise PlanError("parallel.stages", shown, f"sum to {sum(stages)}, and the model has {layers} layers", f"Make them sum to {layers}.")
    if not all(stages[1:-1]) or (p.virtual_pp == 1 and not all(stages)):
        raise PlanError("parallel.stages", shown, "leave a stage without layers", "Give each at least 1.")
    return list(stages)


def stages_of(setting: Setting, head: str, checkpointing: str, p: Parallel) -> list[Stage]:
    """The different stages of a run, in order; equal ones are traced once."""
    arch = setting.arch
    if p.pp == 1:
        return [Stage((0,), Part(0, arch.layers), trace(setting, head, checkpointing), (arch.layers,))]
    if arch.towers:
        raise PlanError("parallel.pp", p.pp, f"is not planned for {arch.model_type} with its towers", "Use 1.")
    chunks, last = p.virtual_pp, p.pp * p.virtual_pp - 1
    counts = layers_of(p.pp, arch.layers, chunks) if p.stages is None else given_layers(p.stages, p, arch.layers)
    starts = [0, *accumulate(counts)]
    found: dict[object, tuple[list[int], Part, tuple[int, ...], int | None, int | None]] = {}
    for index in range(p.pp):
        places = [place_of(p.schedule or "1f1b", index, chunk, p.pp) for chunk in range(chunks)]
        layers = tuple(counts[place] for place in places)
        ranges = tuple((starts[place], starts[place + 1]) for place in places if counts[place])
        front, end = (places.index(place) if place in places else None for place in (0, last))
        kinds = tuple(decisions(arch, setting.adaptation, i) for a, b in ranges for i in range(a, b))
        if len(set(kinds)) == 1:  # alike wherever they stand: one run of equal layers is traced once
            ranges = ((ranges[0][0], ranges[0][0] + sum(layers)),)
        part = Part(ranges[0][0], ranges[0][1], front is not None, end is not None, ranges[1:])
        found.setdefault((front, end, layers, kinds), ([], part, layers, front, end))[0].append(index)
    return [
        Stage(tuple(indices), part, trace(setting, head, checkpointing, part), layers, front, end)
        for indices, part, layers, front, end in found.values()
    ]
