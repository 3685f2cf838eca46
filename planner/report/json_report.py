"""JSON: the estimate as the command line prints it, with all that the report says beside it, and the lock that leads back to the identical plan.

`schemas/report-2.json` is the published JSON Schema of it, made from the models below (`python -m planner.report.schema` writes it anew). The
version rises when a key is removed or means something else.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_jsonable_python

from planner import __version__
from planner.advise import Suggestion, why_not
from planner.estimate.result import Estimate, MemoryPoint
from planner.lock import Lock, lock_of
from planner.report import comparing
from planner.report.blocks import Document
from planner.report.cells import sheets_of
from planner.report.content import build
from planner.report.registry import Comparison, Subject, register

SCHEMA_VERSION: Final = 2


class SuggestionEntry(BaseModel):
    """A change that was tried, with what it does. why_not: empty for one that would help."""

    title: str
    change: dict[str, Any]
    fits: bool | None
    delta_time_s: float | None
    delta_memory_bytes: float | None
    delta_cost_usd: float | None
    why_not: str = ""


class FigureEntry(BaseModel):
    """One of the four figures as it is shown."""

    name: str
    label: str
    value: str
    interval: str
    basis: str
    note: str


class TableEntry(BaseModel):
    """A table of the report as text. header: empty where the rows are sentences."""

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class JsonReport(Estimate):
    """A report of one plan: the keys of an estimate (SI units), and these."""

    model_config = ConfigDict(title="Plumbline report")

    schema_version: Literal[2]
    kind: Literal["report"]
    planner_version: str
    verdict: str
    headline: tuple[str, ...]
    figures: tuple[FigureEntry, ...]
    memory_curve: tuple[MemoryPoint, ...] = Field(description="Live memory over the step.")
    peak_moment: str
    limited_by: str
    assumptions: tuple[str, ...]
    interval_note: str
    details: dict[str, Any]
    suggestions: tuple[SuggestionEntry, ...]
    alternatives: tuple[SuggestionEntry, ...] = Field(description="What was tried and is not suggested, with the reason.")
    sections: tuple[TableEntry, ...] = Field(description="The report's tables and sentences in its order, as every other format has them.")
    lock: Lock = Field(description="Inputs, resolved values and what they stand on: read back, they give the identical plan.")


class PlanEntry(BaseModel):
    """One plan of a comparison, in the order of its rank."""

    name: str
    rank: int | None = Field(description="None for one that does not fit.")
    efficient: bool = Field(description="Nothing that fits is better in time, cost, energy and risk.")
    deltas: dict[str, float | None] = Field(description="Figure minus the baseline's.")
    report: JsonReport


class JsonComparison(BaseModel):
    """A report of several plans."""

    model_config = ConfigDict(title="Plumbline comparison")

    schema_version: Literal[2]
    kind: Literal["comparison"]
    planner_version: str
    verdict: str
    objective: str
    baseline: str
    sections: tuple[TableEntry, ...]
    plans: tuple[PlanEntry, ...]


def _render_many(comparison: Comparison) -> bytes:
    document, subjects = comparing.build(comparison), {one.name: one for one in comparison.subjects}
    plans = [
        {"name": row.name, "rank": row.rank, "efficient": row.efficient, "deltas": row.deltas, "report": told(subjects[row.name])}
        for row in comparison.ranked()
    ]
    head = {"schema_version": SCHEMA_VERSION, "kind": "comparison", "planner_version": __version__, "verdict": document.verdict}
    return _bytes(head | {"objective": comparison.objective, "baseline": comparison.subjects[0].name, "sections": _sections(document), "plans": plans})


@register("json", label="JSON, schema 2", ending="json", mime="application/json", position=40, many=_render_many)
def render(subject: Subject) -> bytes:
    """All keys of an estimate in SI units and all that the report says. Raises ValueError rather than writing NaN."""
    return _bytes(told(subject))


def told(subject: Subject) -> dict[str, Any]:
    """The report of one plan for JSON."""
    estimate, document = subject.estimate, build(subject)
    others = () if subject.advice is None else subject.advice.others
    refused = () if subject.advice is None else subject.advice.refused
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "report",
        "planner_version": __version__,
        "verdict": document.verdict,
        "headline": list(document.headline),
        "figures": [
            {"name": f.name, "label": f.label, "value": f.value_text, "interval": f.interval_text, "basis": f.basis_text, "note": f.chip}
            for f in document.figures
        ],
        **estimate.model_dump(mode="json"),
        "memory_curve": [point.model_dump(mode="json") for point in estimate.memory_curve],
        "peak_moment": estimate.peak_moment,
        "limited_by": estimate.limited_by,
        "assumptions": list(estimate.assumptions),
        "interval_note": estimate.interval_note,
        "details": _finite(to_jsonable_python(estimate.details, fallback=str)),
        "suggestions": [_suggestion(s) for s in subject.suggestions],
        "alternatives": [
            *(_suggestion(s, why_not(s, estimate)) for s in others),
            *(
                {"title": title, "change": {}, "fits": None, "delta_time_s": None, "delta_memory_bytes": None, "delta_cost_usd": None, "why_not": problem}
                for title, problem in refused
            ),
        ],
        "sections": _sections(document),
        "lock": lock_of(subject.run or estimate.run, estimate, subject.profile).model_dump(mode="json"),
    }


def _suggestion(s: Suggestion, reason: str = "") -> dict[str, Any]:
    return {
        "title": s.title,
        "change": to_jsonable_python(s.change),
        "fits": s.fits,
        "delta_time_s": s.delta_time_s,
        "delta_memory_bytes": s.delta_memory_bytes,
        "delta_cost_usd": s.delta_cost_usd,
        "why_not": reason,
    }


def _finite(value: Any) -> Any:
    """Facts for display, with None for what is not known: a run that never ends has failures without number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


def _sections(document: Document) -> list[dict[str, Any]]:
    """Tables and sentences; the ledger is in `terms` already."""
    return [{"name": s.name, "title": s.title, "header": s.header, "rows": s.rows} for s in sheets_of(document) if s.name not in ("figures", "terms")]


def _bytes(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, allow_nan=False, ensure_ascii=False, indent=1) + "\n").encode("utf-8")
