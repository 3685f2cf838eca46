"""Exporters: one registered file each, with its own label, file ending and media type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.advise import Advice, Suggestion, advise
from planner.device.profile import DeviceProfile
from planner.errors import PlanError
from planner.estimate.result import Estimate
from planner.registry import enter
from planner.run import Run
from planner.search.compare import Compared, compare
from planner.search.constraints import Objective


@dataclass(frozen=True, slots=True)
class Subject:
    """What a report is about: an estimate, what would help, and the run as its author wrote it (None when only the resolved run is known).

    profile: the measured device that the estimate stands on · advice: all that was tried, with what would not help, None when it is not known ·
    name: what tells it from others in a comparison.
    """

    estimate: Estimate
    suggestions: tuple[Suggestion, ...] = ()
    run: Run | None = None
    profile: DeviceProfile | None = None
    advice: Advice | None = None
    name: str = ""


def subject_of(run: Run, estimate: Estimate, profile: DeviceProfile | None = None, name: str = "") -> Subject:
    """All that a report of a run says: its estimate, what would help, what would not."""
    found = advise(run, estimate, profile)
    return Subject(estimate, found.suggestions, run, profile, found, name)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison report is about. subjects: the first is the baseline · objective: what ranks them."""

    subjects: tuple[Subject, ...]
    objective: Objective = "time"

    def ranked(self) -> tuple[Compared, ...]:
        """Best first, those that do not fit last. Raises `PlanError` for fewer than two."""
        return compare([(subject.name, subject.estimate) for subject in self.subjects], self.objective)


@dataclass(frozen=True, slots=True)
class Exporter:
    """A registered format. render: of one plan · many: of a comparison."""

    name: str
    label: str
    ending: str
    mime: str
    position: int
    render: Callable[[Subject], bytes]
    many: Callable[[Comparison], bytes]


EXPORTERS: dict[str, Exporter] = {}
"""Registered formats by name, in the order of their positions."""


def register(
    name: str, *, label: str, ending: str, mime: str, position: int, many: Callable[[Comparison], bytes]
) -> Callable[[Callable[[Subject], bytes]], Callable[[Subject], bytes]]:
    """Decorator that adds an exporter; a second one of the same name is a mistake. `position` orders the formats in lists."""

    def add(render: Callable[[Subject], bytes]) -> Callable[[Subject], bytes]:
        enter(EXPORTERS, Exporter(name, label, ending, mime, position, render, many), "exporter")
        return render

    return add


def find_exporter(name: str) -> Exporter:
    """The exporter of a format. Raises `PlanError` that names the formats there are."""
    exporter = EXPORTERS.get(str(name).lower().lstrip("."))
    if exporter is None:
        raise PlanError("format", name, "is not a report format", f"Use one of {', '.join(EXPORTERS)}.")
    return exporter


def export(
    estimate: Estimate, format: str, *, suggestions: Sequence[Suggestion] = (), run: Run | None = None, profile: DeviceProfile | None = None
) -> bytes:
    """An estimate as a document.

    Arguments
    ---------
    estimate: what to report.
    format: name of a registered exporter: html, pdf, md, json, csv, xlsx.
    suggestions: what would help, from `planner.advise.suggest`.
    run: the run as its author wrote it, so that defaults can be marked and the run file is printed as it was.
    profile: the measured device that the estimate stands on, so that the calibration is named.

    Errors
    ------
    PlanError: no such format.
    """
    return find_exporter(format).render(Subject(estimate, tuple(suggestions), run, profile))
