"""JSON: the estimate as the command line prints it, with what the pages show beside it."""

from __future__ import annotations

import json

from pydantic_core import to_jsonable_python

from planner import __version__
from planner.report.registry import Subject, register

SCHEMA_VERSION = 1


@register("json", label="JSON, schema 1", ending="json", mime="application/json", position=40)
def render(subject: Subject) -> bytes:
    """All keys of an estimate in SI units, the memory curve, notes and suggestions. Raises ValueError rather than writing NaN."""
    estimate = subject.estimate
    document = {
        "schema_version": SCHEMA_VERSION,
        "planner_version": __version__,
        **estimate.model_dump(mode="json"),
        "memory_curve": [point.model_dump(mode="json") for point in estimate.memory_curve],
        "peak_moment": estimate.peak_moment,
        "limited_by": estimate.limited_by,
        "assumptions": list(estimate.assumptions),
        "interval_note": estimate.interval_note,
        "details": to_jsonable_python(estimate.details, fallback=str),
        "suggestions": [
            {
                "title": s.title,
                "change": to_jsonable_python(s.change),
                "fits": s.fits,
                "delta_time_s": s.delta_time_s,
                "delta_memory_bytes": s.delta_memory_bytes,
                "delta_cost_usd": s.delta_cost_usd,
            }
            for s in subject.suggestions
        ],
    }
    return (json.dumps(document, allow_nan=False, ensure_ascii=False, indent=1) + "\n").encode("utf-8")
