"""Serving in command and report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner.cli import main
from planner.estimate.engine import estimate
from planner.report.content import build
from planner.report.registry import Subject
from planner.run import parse_run


def test_the_command_answers_in_text_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("model: meta-llama/Llama-3.1-8B\nmethod: lora\nhardware: T4\n", encoding="utf-8")
    assert main(["serve", str(file), "--batch", "4", "--context", "8K"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "4 sequences of 8,000 tokens do not fit on one T4" in text and "compared with no published run" in text
    assert main(["serve", str(file), "--weights", "nf4", "--adapters", "beside", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["fits"] and told["most_batch"] >= 1 and not told["merged"]
    assert told["graph_tokens_per_s"] >= told["tokens_per_s"] > 0
    assert main(["serve", str(file), "--weights", "fp1"]) == 2


@pytest.mark.parametrize(("model", "there"), [("meta-llama/Llama-3.1-8B", True), ("google-bert/bert-base-uncased", False)])
def test_a_report_has_a_section_for_models_that_write_text(model: str, there: bool) -> None:
    sections = build(Subject(estimate(parse_run({"model": model})))).sections
    assert any(section.name == "serving" for section in sections) is there
