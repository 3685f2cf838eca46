"""Pipeline stages of a run: which layers each has, and the traced workload of every stage that differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from planner.errors import PlanError
from planner.estimate.partition import head_in_layers, layers_by_cost
from planner.estimate.schedules import V_SHAPED, place_of
from planner.workload import Architecture, Setting, Workload, trace
from planner.workload.methods import Adaptation
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
        total = sum(self.layers)
        return tuple(n / total for n in self.layers) if total else (1.0 / len(self.layers),) * len(self.layers)

    def cut(self, chunks: int) -> tuple[tuple[float, ...], int | None, int | None]:
        """Shares of the chunks, and those that start and end the model, were a stage of one chunk cut into several."""
        if len(self.layers) == chunks:
            return self.shares, self.front, self.head
        front, head = (None if self.front is None else 0), (None if self.head is None else chunks - 1)
        layers = split_layers(sum(self.layers), chunks, front, head)
        return replace(self, layers=layers).shares, front, head


def layers_of(stages: int, layers: int, chunks: int = 1, ends: Sequence[int] | None = None) -> list[int]:
    """Layers of each stage: as equal as can be; `ends`, the first and the last when left out, are the first to have fewer (they also hold
    embedding and head).

    Of several chunks a stage, the model's first and last may have no layer at all, as Megatron-LM places them with
    account-for-embedding/loss-in-pipeline-split. Raises `PlanError` when there are more stages, or more chunks in all, than layers.
    """
    if stages > layers:
        raise PlanError("parallel.pp", stages, f"is more than the model's {layers} layers", f"Use at most {layers}.")
    rims = (0, stages - 1) if ends is None else tuple(ends)
    share, rest = divmod(layers, stages)
    counts = [share] * stages
    middle_first = sorted(range(stages), key=lambda i: (i in rims, i == stages - 1, i))
    for i in middle_first[:rest]:
        counts[i] += 1
    for i, count in enumerate(counts):
        if chunks > count + (i in (0, stages - 1) if chunks > 1 else 0):
            raise PlanError("parallel.virtual_pp", chunks, f"is more than the {count} layers of a stage", f"Use at most {count}.")
    return counts


def split_layers(layers: int, chunks: int, front: int | None, head: int | None) -> tuple[int, ...]:
    """Layers of each chunk of a stage: those with embedding or head, by their positions, are the first to have fewer."""
    share, rest = divmod(layers, chunks)
    order = sorted(range(chunks), key=lambda c: (c in (front, head), c == head, c))
    return tuple(share + (order.index(c) < rest) for c in range(chunks))


def alike(arch: Architecture, adaptation: Adaptation) -> bool:
    """Whether no layer differs from another, so that it does not matter which of them a stage has."""
    return not adaptation.per_layer and not arch.shared_layers and len(arch.windows) <= 1 and len(arch.variants) <= 1


def given_layers(given: Sequence[int], stages: int, chunks: int, layers: int) -> list[int]:
    """Layers of each stage, or of each chunk in the order of the model, as the run says. Raises `PlanError` where they are not the model's."""
    shown = ", ".join(map(str, given))
    if len(given) not in (stages, stages * chunks):
        allowed = f"{stages}" + (f", or {stages * chunks} for its chunks" if chunks > 1 else "")
        raise PlanError("parallel.stages", shown, f"are {len(given)} numbers for {stages} stages", f"Give {allowed}.")
    if sum(given) != layers:
        raise PlanError("parallel.stages", shown, f"sum to {sum(given)}, and the model has {layers} layers", f"Make them sum to {layers}.")
    if not all(given if len(given) == stages else given[1:-1]):
        raise PlanError("parallel.stages", shown, "leave a stage without layers", "Give each at least 1.")
    return list(given)


def _chunks_of(setting: Setting, stages: int, chunks: int, schedule: str, given: Sequence[int] | None) -> list[int]:
    """Layers of every chunk, in the order of the model."""
    arch = setting.arch
    if given is not None:
        counts = given_layers(given, stages, chunks, arch.layers)
        if len(counts) == stages * chunks:
            return counts
    else:
        counts = layers_of(stages, arch.layers, chunks, (0,) if schedule in V_SHAPED else None)
        if setting.stack.stages_by_cost and schedule not in V_SHAPED:
            counts = layers_by_cost(stages, arch.layers, head_in_layers(arch))
    placed = [0] * (stages * chunks)
    for stage, total in enumerate(counts):
        places = [place_of(schedule, stage, chunk, stages) for chunk in range(chunks)]
        front, head = (places.index(place) if place in places else None for place in (0, len(placed) - 1))
        for place, layer_count in zip(places, split_layers(total, chunks, front, head), strict=True):
            placed[place] = layer_count
    return placed


def stages_of(
    setting: Setting,
    head: str,
    checkpointing: str,
    pp: int,
    chunks: int,
    schedule: str | None = None,
    given: Sequence[int] | None = None,
) -> list[Stage]:
    """The different stages of a run, in order; equal ones are traced once.

    schedule: where chunks stand · given: layers of each stage, as equal as can be when left out.
    """
    arch = setting.arch
    if pp == 1:
        return [Stage((0,), Part(0, arch.layers), trace(setting, head, checkpointing), (arch.layers,))]
    if arch.towers and arch.merge is None:  # later stages read what the tower makes
        raise PlanError("parallel.pp", pp, f"is not planned for {arch.model_type} with its towers", "Use 1.")
    schedule, last = schedule or "1f1b", pp * chunks - 1
    counts = _chunks_of(setting, pp, chunks, schedule, given)
    starts = [0, *accumulate(counts)]
    found: dict[object, tuple[list[int], Part, tuple[int, ...], int | None, int | None]] = {}
    for index in range(pp):
        places = [place_of(schedule, index, chunk, pp) for chunk in range(chunks)]
        layers = tuple(counts[place] for place in places)
        ranges = tuple((starts[place], starts[place + 1]) for place in places if counts[place]) or ((starts[places[0]],) * 2,)
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
