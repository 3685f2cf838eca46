"""The PDF: made offline, the same twice, vectors and text, and nothing of a text is markup."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("typst")

from planner import Run, estimate
from planner.advise import suggest
from planner.cli import main
from planner.errors import PlanError
from planner.report import Subject, export, pdf
from planner.report.content import build

RUN = {"model": "gpt2", "hardware": {"gpu": "RTX 4090"}, "data": {"tokens": "10M"}}


@pytest.fixture(scope="module")
def subject() -> Subject:
    run = Run.model_validate(RUN)
    made = estimate(run)
    return Subject(made, suggest(run, made), run)


def test_it_is_a_pdf_and_the_same_twice(subject: Subject) -> None:
    first = pdf.render(subject)
    assert first.startswith(b"%PDF-1.")
    assert first.rstrip().endswith(b"%%EOF")
    assert pdf.render(subject) == first


def test_it_holds_every_section_and_its_charts_as_vectors(subject: Subject) -> None:
    content = pdf.content(subject)
    document = build(subject)
    assert [s["title"] for s in content["sections"]] == [s.title for s in document.sections]
    charts = [b for s in content["sections"] for b in s["blocks"] if b["kind"] == "chart"]
    assert len(charts) == 3
    assert all(chart["alt"] and chart["svg"].startswith("<svg ") for chart in charts)
    assert b"/Subtype/Image" not in pdf.render(subject).replace(b" ", b"")


def test_text_is_never_markup(subject: Subject) -> None:
    evil = '#panic("out") $x$ *bold* \\u{1F600} "quoted" <label> @ref // gone'
    told = subject.estimate.model_copy(update={"assumptions": (evil,)})
    bad = Subject(told, subject.suggestions, subject.run)
    assert any(evil in block.get("items", []) for s in pdf.content(bad)["sections"] for block in s["blocks"])
    assert pdf.render(bad).startswith(b"%PDF")


def test_without_typst_it_says_what_to_do(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "typst", None)
    monkeypatch.setattr(pdf, "find_spec", lambda name: None)
    with pytest.raises(PlanError, match="pip install typst"):
        export(subject.estimate, "pdf")


def test_the_command_writes_it(tmp_path: Path) -> None:
    run = tmp_path / "run.yaml"
    run.write_text("model: gpt2\nhardware: {gpu: RTX 4090}\n")
    assert main(["report", str(run), "--format", "pdf", "-o", str(tmp_path / "r.pdf")]) == 0
    assert (tmp_path / "r.pdf").read_bytes().startswith(b"%PDF")
