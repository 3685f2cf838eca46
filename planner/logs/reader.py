"""Formats of logs: one registered file each, recognised by what stands in a log and never by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from planner.errors import PlanError
from planner.logs.oom_message import in_source
from planner.logs.record import Point, Record
from planner.logs.source import MAX_POINTS, Source
from planner.registry import enter


@dataclass(frozen=True, slots=True)
class Reader:
    """A registered format. reference: the code that writes it · recognises: whether a log is one · read: what it says."""

    name: str
    label: str
    position: int
    reference: str
    recognises: Callable[[Source], bool]
    read: Callable[[Source], Record]


READERS: dict[str, Reader] = {}
"""Registered formats by name, in the order in which they are tried."""


def register(
    name: str, *, label: str, position: int, reference: str, recognises: Callable[[Source], bool]
) -> Callable[[Callable[[Source], Record]], Callable[[Source], Record]]:
    """Decorator that adds a format; a second one of the same name is a mistake."""

    def add(read: Callable[[Source], Record]) -> Callable[[Source], Record]:
        enter(READERS, Reader(name, label, position, reference, recognises, read), "log reader")
        return read

    return add


def read(source: Source) -> Record:
    """What a log says. Raises `PlanError` for one that no reader knows, that is damaged, or that says nothing."""
    for reader in READERS.values():
        if reader.recognises(source):
            found = reader.read(source)
            found = replace(found, digest=source.digest, oom=found.oom or in_source(source))
            if not found.points and found.oom is None and not set(found.facts) & {"train_seconds", "steps_per_s", "wall_seconds", "allocated_bytes"}:
                raise source.wrong(f"is a log of {reader.label} without a training step", "Wait until the run has logged some steps.")
            return found
    known = ", ".join(reader.label for reader in READERS.values())
    raise PlanError("log", source.name, "is nothing that a reader knows", f"Readable are: {known}.")


def kept(points: Iterator[Point]) -> tuple[tuple[Point, ...], tuple[str, ...]]:
    """As many points as are kept, and a sentence where there are more."""
    found: list[Point] = []
    for point in points:
        if len(found) == MAX_POINTS:
            return tuple(found), (f"Only the first {MAX_POINTS:,} entries were read.",)
        found.append(point)
    return tuple(found), ()
