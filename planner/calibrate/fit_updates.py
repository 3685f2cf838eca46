"""Steps over all tensors, an optimizer's or clipping, from samples of equal tensors: what a step, a tensor and a byte cost."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from planner.calibrate.fit_summary import table_of
from planner.calibrate.result import Sample
from planner.device.measured import Host, Update
from planner.workload.graph import BYTES, Parameter
from planner.workload.optimizers import Task, Trained, find_optimizer

_SMALL: Final = 1024
"""Tensors up to so many elements tell what they cost by themselves."""
CLIP_PASSES: Final = 3.0
"""Gradients are read for the norm, and read and written once more."""


def _parts(sample: Sample) -> tuple[str, str, float, float]:
    """Name, format, elements of one tensor, and tensors. Older samples are of AdamW alone."""
    case = sample.case
    return str(case.get("name", "adamw")), str(case["dtype"]), float(case["numel"]), float(case["count"])


def moved_bytes(name: str, dtype: str, numel: float, single: bool) -> float:
    """What a step over one tensor moves, as the planner counts it [bytes]. single: one tensor after the other."""
    if name == "clip":
        return CLIP_PASSES * BYTES[dtype] * numel
    task = Task((Trained(Parameter("weight", (numel,), dtype, True)),), single=single)
    return float(find_optimizer(name).step(task).moved)


def hosts(samples: Sequence[Sample]) -> dict[str, Host]:
    """On a device that loops over tensors: by format for AdamW and clipping, by name/format for other optimizers."""
    groups: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for s in samples:
        groups[_parts(s)[:2]].append(s)
    found: dict[str, Host] = {}
    for (name, dtype), own in sorted(groups.items()):
        step_s, tensor_s = _fixed(own)
        points = {}
        for s in own:
            _, _, numel, count = _parts(s)
            if numel > _SMALL:
                points[moved_bytes(name, dtype, numel, True)] = max((s.seconds - step_s) / count - tensor_s, 1e-9)
        if points:
            found[dtype if name in ("adamw", "clip") else f"{name}/{dtype}"] = Host(step_s=step_s, tensor_s=tensor_s, table=table_of(points))
    return found


def updates(samples: Sequence[Sample]) -> dict[str, Update]:
    """On a device behind a queue, by name: the rate of the largest steps, and what issuing small ones takes."""
    groups: dict[str, list[Sample]] = defaultdict(list)
    for s in samples:
        groups[_parts(s)[0]].append(s)
    found: dict[str, Update] = {}
    for name, own in sorted(groups.items()):
        moved = [moved_bytes(name, dtype, numel, False) * count for _, dtype, numel, count in map(_parts, own)]
        rates = [m / s.seconds for m, s in zip(moved, own, strict=True) if m > max(moved) / 8]
        step_s, tensor_s = _fixed(own)
        found[name] = Update(rate=statistics.median(rates), step_s=step_s, tensor_s=tensor_s)
    return found


def _fixed(samples: Sequence[Sample]) -> tuple[float, float]:
    """Fixed time of a step and of one tensor, from steps over one and over many small tensors [s]."""
    small = [(count, s.seconds) for s in samples for _, _, numel, count in [_parts(s)] if numel <= _SMALL]
    one = [seconds for count, seconds in small if count == 1]
    many = [(count, seconds) for count, seconds in small if count > 1]
    if not many:
        return 0.0, 0.0
    step = statistics.median(one) if one else 0.0
    each = statistics.median(max(0.0, seconds - step) / (count - bool(one)) for count, seconds in many)
    return max(0.0, step - each), each
