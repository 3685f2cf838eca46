"""A real estimate with its suggestions, and one whose every text comes from somebody who means harm."""

from __future__ import annotations

import pytest

from planner import Estimate, Run, estimate
from planner.advise import Suggestion, suggest
from planner.estimate.result import Term
from planner.report import Subject

HOSTILE = '<script>alert("x")</script>'
MARKUP = f"{HOSTILE} **bold** [link](javascript:alert(1)) | cell `code` $1$"


@pytest.fixture(scope="session")
def run() -> Run:
    mapping = {
        "model": "openai-community/gpt2",
        "hardware": {"gpu": "H100 SXM 80GB"},
        "precision": "bf16-mixed",
        "batch": {"micro": 8, "accumulation": 2, "seq_len": 512},
        "data": {"tokens": "250M"},
    }
    return Run.model_validate(mapping)


@pytest.fixture(scope="session")
def subject(run: Run) -> Subject:
    result = estimate(run)
    suggestions = suggest(run, result)
    assert suggestions
    return Subject(result, suggestions, run)


@pytest.fixture(scope="session")
def hostile(subject: Subject, run: Run) -> Subject:
    """The same figures, with markup, script and formulas in every text."""
    real = subject.estimate
    term = Term(name="memory/weights/=1+1", value=real.peak_memory_bytes, unit="B", formula=f"=cmd {MARKUP}", inputs={"@x": MARKUP}, source=f"+{MARKUP}")
    written = run.model_copy(update={"model": MARKUP, "stack": "```\n# heading"})
    changes = {
        "fits": None,
        "fits_reason": MARKUP,
        "terms": (term,),
        "warnings": (MARKUP,),
        "assumptions": (MARKUP,),
        "limited_by": MARKUP,
        "peak_moment": MARKUP,
        "interval_note": MARKUP,
        "run": written,
        "details": {"model": {"name": MARKUP}, "price": {"usd_per_gpu_hour": 1.0, "provider": MARKUP, "date": "2026-01-01", "source": MARKUP}},
    }
    changed: Estimate = real.model_copy(update=changes)
    first = subject.suggestions[0]
    bad = Suggestion(MARKUP, {"model": MARKUP}, changed, None, 1.0, None, None, None, "x")
    return Subject(changed, (bad, first), written)
