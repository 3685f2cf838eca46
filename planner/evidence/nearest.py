"""The published runs most like a given one: what was really measured near it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

from planner.catalog.accelerators import find_accelerator
from planner.errors import PlanError
from planner.estimate.result import Estimate
from planner.estimate.uncertainty import SAME_STACK
from planner.evidence.accuracy import scored_rows
from planner.evidence.mapping import STACKS
from planner.evidence.rows import Row, rows

WEIGHTS: Final = {"parameters": 1.0, "gpus": 0.5, "tokens": 0.25}
"""Cost of a factor of two in parameters, in accelerators, and in tokens of a micro step."""
OTHER_DEVICE: Final = 2.0
OTHER_GENERATION: Final = 1.0
OTHER_METHOD: Final = 1.5
OTHER_STACK: Final = 1.0


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A measured row and its distance from the run in question (0 is the same in all that is compared)."""

    row: Row
    distance: float


NEAR: Final = 1.5
"""Up to here a measured run is near: the same accelerator, method and stack within a few factors of two, or one of them exchanged."""
RELATED: Final = 3.0
"""Up to here it says something; beyond, the plan is an extrapolation."""
Level = Literal["near", "related", "none"]


@dataclass(frozen=True, slots=True)
class Measured:
    """A neighbour with what was predicted for it: ratios predicted / measured, None where nothing was measured or predicted."""

    neighbour: Neighbour
    tokens_ratio: float | None
    memory_ratio: float | None


@dataclass(frozen=True, slots=True)
class Support:
    """What the published runs nearest to a plan say about it. level: near, related, or none where nothing is close enough to trust."""

    level: Level
    runs: tuple[Measured, ...]

    @property
    def near(self) -> int:
        """How many of the runs are near."""
        return sum(run.neighbour.distance <= NEAR for run in self.runs)


def support(estimate: Estimate, k: int = 5) -> Support:
    """The `k` nearest published runs of a plan and how wrong the planner was on them, held out where that was fitted."""
    ratios = _ratios()
    runs = tuple(Measured(n, *ratios.get(n.row.id, (None, None))) for n in nearest(run_facts(estimate), k))
    closest = min((run.neighbour.distance for run in runs), default=math.inf)
    return Support("near" if closest <= NEAR else "related" if closest <= RELATED else "none", runs)


@cache
def _ratios() -> dict[str, tuple[float | None, float | None]]:
    return {
        line["id"]: (line["held_out_tokens_ratio"] or line["tokens_ratio"], line["held_out_memory_ratio"] or line["memory_ratio"])
        for line in scored_rows()
    }


def run_facts(estimate: Estimate) -> dict[str, Any]:
    """What `nearest` compares, from an estimate."""
    run = estimate.run
    gpu = run.hardware.gpu
    return {
        "parameters": estimate.parameters,
        "gpu": gpu if isinstance(gpu, str) else (gpu or {}).get("base"),
        "gpus": run.hardware.gpus,
        "method": run.method.name,
        "stack": run.stack,
        "tokens": run.batch.micro * (run.batch.seq_len or 0) or None,
    }


def nearest(facts: Mapping[str, Any], k: int = 5) -> list[Neighbour]:
    """The `k` measured runs nearest to a run, the nearest first; repeats of one configuration count once.

    Arguments
    ---------
    facts: any of parameters [1], gpu (catalogue name), gpus, method, stack, tokens (of one micro step and replica); see `run_facts`.
    """
    wanted = _Point(
        parameters=facts.get("parameters"),
        gpu=facts.get("gpu"),
        generation=_generation(facts.get("gpu")),
        gpus=facts.get("gpus"),
        method=facts.get("method"),
        stack=_family(facts.get("stack")),
        tokens=facts.get("tokens"),
    )
    ranked = sorted(
        (Neighbour(row, _distance(wanted, point)) for row, point in _points()), key=lambda n: (n.distance, n.row.id)
    )
    chosen: list[Neighbour] = []
    seen: set[str] = set()
    for neighbour in ranked:
        if (key := neighbour.row.repeat_group or neighbour.row.id) not in seen:
            seen.add(key)
            chosen.append(neighbour)
        if len(chosen) >= k:
            break
    return chosen


@dataclass(frozen=True, slots=True)
class _Point:
    parameters: float | None
    gpu: str | None
    generation: str | None
    gpus: float | None
    method: str | None
    stack: str | None
    tokens: float | None


@cache
def _points() -> tuple[tuple[Row, _Point], ...]:
    found = []
    for row in rows():
        if row.outcome == "oom" or not row.params_b:
            continue
        point = _Point(
            parameters=row.params_b * 1e9,
            gpu=row.gpu,
            generation=_generation(row.gpu),
            gpus=row.gpus,
            method=row.method,
            stack=_family(STACKS.get(row.framework or "")),
            tokens=(row.micro_batch or 0) * (row.seq_len or 0) or None,
        )
        found.append((row, point))
    return tuple(found)


def _family(stack: str | None) -> str | None:
    return SAME_STACK.get(stack, stack) if stack else None


@cache
def _generation(gpu: str | None) -> str | None:
    try:
        return find_accelerator(gpu).arch if gpu else None
    except PlanError:
        return None


def _distance(a: _Point, b: _Point) -> float:
    distance = sum(weight * _octaves(getattr(a, name), getattr(b, name)) for name, weight in WEIGHTS.items())
    if a.gpu is not None and a.gpu != b.gpu:
        distance += OTHER_GENERATION if a.generation is not None and a.generation == b.generation else OTHER_DEVICE
    if a.method is not None and a.method != b.method:
        distance += OTHER_METHOD
    if a.stack is not None and a.stack != b.stack:
        distance += OTHER_STACK
    return distance


def _octaves(a: float | None, b: float | None) -> float:
    return abs(math.log2(a / b)) if a and b else 0.0
