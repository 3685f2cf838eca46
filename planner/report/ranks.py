"""What every rank holds and does: ranks that are alike stand in one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from planner import units
from planner.estimate.result import Estimate, MemoryPoint
from planner.report import pipeline
from planner.report.blocks import Block, Paragraph, Table
from planner.report.registry import Subject
from planner.summary import COMPONENTS, gpu_name

_HELD: Final = tuple(name for name in COMPONENTS if name != "reserved")


def blocks(subject: Subject) -> list[Block]:
    """A table with a line for each kind of rank; nothing for a run without a memory curve."""
    e = subject.estimate
    lines = rows(e)
    if not lines:
        return []
    held = [i for i, name in enumerate(_HELD) if any(line[1][i] for line in lines)]
    header = ("Ranks", *(COMPONENTS[_HELD[i]] for i in held), "Allocated", "Work in a step", "Waiting")
    table = tuple((line[0], *(units.format_bytes(line[1][i]) if line[1][i] else "–" for i in held), *line[2:]) for line in lines)
    return [Paragraph(sentence(e)), Table(header, table, frozenset(range(1, len(header))))]


def rows(e: Estimate) -> list[tuple[str, list[float], str, str, str]]:
    """(which ranks, bytes by component at their peak, allocated, work, waiting) of each kind of rank."""
    timeline, views = pipeline.timeline_of(e), pipeline.stages_of(e)
    gpus = e.run.hardware.gpus
    if timeline is None or not views:
        peak = _peak(e.memory_curve)
        if peak is None:
            return []
        name = "the only one" if gpus == 1 else f"all {units.format_integer(gpus)}"
        return [(name, _held(peak), units.format_bytes(peak.allocated), units.format_seconds(e.step_time_s), "–")]
    stages = len(timeline.busy)
    each = gpus // stages
    found = []
    for view in views:
        peak = _peak(view.curve)
        if peak is None:
            continue
        first = view.indices[0]
        where = f"{pipeline.name_of(view, stages)}, {units.format_integer(each * len(view.indices))} ranks"
        waits = units.format_percent(pipeline.waits(timeline, first), 2)
        found.append((where, _held(peak), units.format_bytes(peak.allocated), units.format_seconds(timeline.busy[first]), waits))
    return found


def sentence(e: Estimate) -> str:
    """How many ranks there are, and how they divide the work."""
    run, p = e.run, e.run.parallel
    degrees = [f"{name} {degree}" for name, degree in (("data", run.dp), ("tensor", p.tp), ("pipeline", p.pp), ("context", p.cp)) if degree > 1]
    if not degrees:
        return f"One rank on one {gpu_name(run)}."
    extra = f", experts over {p.ep} of the data-parallel ranks" if p.ep > 1 else ""
    balance = "" if p.pp > 1 else " All of them hold and do the same."
    return f"{units.format_integer(run.hardware.gpus)} ranks on {gpu_name(run)}: {' × '.join(degrees)}{extra}.{balance}"


def _peak(curve: Sequence[MemoryPoint]) -> MemoryPoint | None:
    return max(curve, key=lambda point: point.allocated, default=None)


def _held(point: MemoryPoint) -> list[float]:
    return [point.parts.get(name, 0.0) for name in _HELD]
