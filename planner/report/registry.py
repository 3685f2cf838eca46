"""Exporters: one registered file each, with its own label, file ending and media type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.advise import Suggestion
from planner.errors import PlanError
from planner.estimate.result import Estimate
from planner.registry import enter
from planner.run import Run


@dataclass(frozen=True, slots=True)
class Subject:
    """What a report is about: an estimate, what would help, and the run as its author wrote it (None when only the resolved run is known)."""

    estimate: Estimate
    suggestions: tuple[Suggestion, ...] = ()
    run: Run | None = None


@dataclass(frozen=True, slots=True)
class Exporter:
    """A registered format."""

    name: str
    label: str
    ending: str
    mime: str
    position: int
    render: Callable[[Subject], bytes]


EXPORTERS: dict[str, Exporter] = {}
"""Registered formats by name, in the order of their positions."""


def register(
    name: str, *, label: str, ending: str, mime: str, position: int
) -> Callable[[Callable[[Subject], bytes]], Callable[[Subject], bytes]]:
    """Decorator that adds an exporter; a second one of the same name is a mistake. `position` orders the formats in lists."""

    def add(render: Callable[[Subject], bytes]) -> Callable[[Subject], bytes]:
        enter(EXPORTERS, Exporter(name, label, ending, mime, position, render), "exporter")
        return render

    return add


def find_exporter(name: str) -> Exporter:
    """The exporter of a format. Raises `PlanError` that names the formats there are."""
    exporter = EXPORTERS.get(str(name).lower().lstrip("."))
    if exporter is None:
        raise PlanError("format", name, "is not a report format", f"Use one of {', '.join(EXPORTERS)}.")
    return exporter


def export(estimate: Estimate, format: str, *, suggestions: Sequence[Suggestion] = (), run: Run | None = None) -> bytes:
    """An estimate as a document.

    Arguments
    ---------
    estimate: what to report.
    format: name of a registered exporter: html, pdf, md, json, csv.
    suggestions: what would help, from `planner.advise.suggest`.
    run: the run as its author wrote it, so that defaults can be marked and the run file is printed as it was.

    Errors
    ------
    PlanError: no such format.
    """
    return find_exporter(format).render(Subject(estimate, tuple(suggestions), run))
