"""`planner search` and `planner compare` from the shell: documents, exit codes, one line for bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.cli import main
from planner.estimate.engine import estimate
from planner.run import parse_run

RUN: dict[str, Any] = {
    "model": {"base": "meta-llama/Llama-3.1-8B", "num_hidden_layers": 4}, "precision": "bf16", "data": "10M", "hardware": {"gpu": "L40S"},
}  # fmt: skip
NARROW = ["--micro", "1,2", "--tp", "1", "--pp", "1", "--offload", "none", "--checkpointing", "none,full"]


@pytest.fixture
def run_file(tmp_path: Path) -> str:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(RUN), encoding="utf-8")
    return str(path)


def test_search_ends_with_one_document(run_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", run_file, "--gpu", "L40S", "H100 SXM 80GB", "--gpus", "1-4", "--deadline", "24h", "--budget", "500", "--json", *NARROW]) == 0
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"evaluated", "seconds", "best", "pareto"} <= set(document)
    best = document["best"]
    assert best["fits"] is True and best["total_time_s"] <= 86400 and best["cost_usd"] <= 500
    again = estimate(parse_run(best["run"]))
    assert again.step_time_s == pytest.approx(best["step_time_s"], rel=1e-9)
    assert document["evaluated"] > 50 and len(document["pareto"]) >= 1
    assert any(one["total_time_s"] == best["total_time_s"] for one in document["pareto"])


def test_search_in_words(run_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", run_file, "--gpus", "1,2", "--objective", "cost", *NARROW]) == 0
    text = capsys.readouterr().out
    assert "configurations in" in text and "Best by cost" in text and "Next best" in text and "L40S" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpus", "8-1"], "is an empty range"),
        (["--gpus", "none"], "gpus"),
        (["--gpus", "1-99999"], "range of more than"),
        (["--gpu", "H9000"], "gpu"),
        (["--deadline", "soon"], "deadline"),
        (["--min-batch", "64", "--max-batch", "8"], "contradicts max-batch 8"),
        (["--gpus", "1", "--sharding", "zero3"], "contradicts sharding zero3"),
        (["--sharding", "zero9"], "sharding"),
        (["--gpus", "1", "--tp", "2"], "contradicts tp 2"),
        (["--method", "magic"], "magic"),
    ],
)
def test_bad_input_is_one_line(run_file: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", run_file, *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_nothing_fits_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "big.json"
    path.write_text(json.dumps({**RUN, "model": "meta-llama/Llama-3.1-70B"}), encoding="utf-8")
    assert main(["search", str(path), "--gpus", "1", "--json", *NARROW]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["best"] is None and document["pareto"] == [] and "Nothing fits" in document["reasons"][0]


def test_compare_ranks_files(run_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "two.yaml"
    other.write_text("model: gpt2\ndata: 10M\nhardware: {gpu: L40S}\n", encoding="utf-8")
    assert main(["compare", run_file, str(other), "--json"]) == 0
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["baseline"] == "run" and {row["name"] for row in document["runs"]} == {"run", "two"}
    assert [row["rank"] for row in document["runs"]] == [1, 2]
    assert main(["compare", run_file, str(other), "--objective", "cost"]) == 0
    assert "2 runs by cost" in capsys.readouterr().out
    assert main(["compare", run_file]) == 2
    other.write_text("model: no-such-model\n", encoding="utf-8")
    assert main(["compare", run_file, str(other)]) == 2
    assert "two.yaml: model" in capsys.readouterr().err
