from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from planner.errors import PlanError
from planner.estimate.result import Estimate
from planner.evidence.predict import Predictor
from planner.evidence.rows import Row, rows
from planner.evidence.score import measured_tokens, score, statistics, summarise
from planner.evidence.validate import PREDICTED, format_summary, score_rows, write_rows
from planner.run import Run

from .conftest import make_estimate


def predictor(**changes: Any) -> Predictor:
    return Predictor(engine=lambda run, profile: make_estimate(run, **changes))


def test_ratios_coverage_and_verdict(llama_row: Row) -> None:
    scored = score(llama_row, predictor().predict(llama_row))
    assert scored.prediction.tokens_per_s_gpu == pytest.approx(4 * 2 * 1024 / 2)
    assert scored.tokens_ratio == pytest.approx(2.0)
    assert scored.tokens_covered is False
    assert scored.memory_ratio == pytest.approx(1.0)
    assert scored.memory_covered is True
    assert scored.fit_hit is True
    assert scored.prediction.tokens_low == pytest.approx(4096 * 2.0 / 2.5)


@pytest.mark.parametrize(
    ("kind", "gib"),
    [("allocated", 10.0), ("active", 10.0), ("reserved", 12.0), ("unknown", 12.0), (None, 12.0)],
)
def test_memory_is_compared_with_its_own_counter(llama_row: Row, kind: str | None, gib: float) -> None:
    assert predictor().predict(replace(llama_row, mem_kind=kind)).memory_gib == pytest.approx(gib)


def test_nvidia_smi_counts_the_context_too(llama_row: Row) -> None:
    row = replace(llama_row, mem_kind="nvidia-smi")
    found = predictor().predict(row).memory_gib
    assert found is not None
    assert 12.0 < found < 15.0


def test_interval_keeps_its_ratio_on_every_counter(llama_row: Row) -> None:
    p = predictor().predict(llama_row)
    assert (p.memory_low_gib, p.memory_high_gib) == (pytest.approx(9.0), pytest.approx(12.0))


def test_engine_s_refusal_is_the_reason(llama_row: Row) -> None:
    def refuse(run: Run, profile: object) -> Estimate:
        raise PlanError("optimizer", "lamb", "is not covered", "Use adamw.")

    p = Predictor(engine=refuse).predict(llama_row)
    assert p.skipped == "optimizer: 'lamb' is not covered. Use adamw."
    assert score(llama_row, p).fit_hit is None


def test_a_fault_of_ours_is_not_hidden_as_a_skip(llama_row: Row) -> None:
    def fail(run: Run, profile: object) -> Estimate:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Predictor(engine=fail).predict(llama_row)


def test_equal_configurations_are_estimated_once(llama_row: Row) -> None:
    calls: list[Run] = []

    def engine(run: Run, profile: object) -> Estimate:
        calls.append(run)
        return make_estimate(run)

    shared = Predictor(engine=engine)
    shared.predict(llama_row)
    shared.predict(replace(llama_row, id="r2", tokens_per_s_gpu=1.0))
    assert len(calls) == 1


def test_statistics_of_known_ratios() -> None:
    figures = statistics([1.1, 0.9, 1.0, 2.0])
    assert figures == {"n": 4, "median": pytest.approx(0.1), "p90": pytest.approx(0.73), "bias": pytest.approx(0.05)}
    assert statistics([]) is None


def test_summary_counts_what_was_compared(llama_row: Row) -> None:
    table = [
        llama_row,
        replace(llama_row, id="r2", source_group="t", tokens_per_s_gpu=4096.0),
        replace(llama_row, id="r3", outcome="oom", targets="fit", tokens_per_s_gpu=None, peak_mem_gib=None),
        replace(llama_row, id="r4", micro_batch=None, global_batch=None),
    ]
    summary = summarise(score_rows(table, predictor()))
    assert (summary["rows"], summary["predicted"], summary["skipped"]) == (4, 3, 1)
    assert summary["skipped_reasons"] == {"micro_batch is blank": 1}
    assert summary["tokens"]["all"]["n"] == 2
    assert summary["tokens"]["by_source"]["t"] == {"n": 1, "median": 0.0, "p90": 0.0, "bias": 0.0, "coverage": 1.0}
    assert summary["tokens"]["all"]["coverage"] == 0.5
    assert summary["fit"] == {"ran": 2, "ran_hits": 2, "out_of_memory": 1, "out_of_memory_hits": 0}
    text = format_summary(summary)
    assert "4 rows, 3 predicted, 1 skipped" in text
    assert "micro_batch is blank" in text
    assert "100.0%" in text


def test_empty_comparison_is_said_not_hidden(llama_row: Row) -> None:
    summary = summarise(score_rows([replace(llama_row, seq_len=None)], predictor()))
    assert summary["tokens"]["all"] is None
    assert "no row to compare" in format_summary(summary)


def test_rows_are_written_back_with_their_predictions(tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_text(
        "id,note,hf_id,gpu,gpus,framework,seq_len,micro_batch,tokens_per_s_gpu\n"
        'a,"kept, as it is",openai-community/gpt2,A100 SXM4 80GB,1,hf-trainer,1024,8,4000\n'
        "b,,openai-community/gpt2,A100 SXM4 80GB,1,hf-trainer,,8,4000\n",
        encoding="utf-8",
    )
    out = tmp_path / "out.csv"
    write_rows(score_rows(rows(source), predictor()), out)
    with out.open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert set(PREDICTED) <= set(first)
    assert (first["note"], first["predicted_tokens_per_s_gpu"], first["predicted_fits"], first["skipped"]) == (
        "kept, as it is",
        "4096",
        "1",
        "",
    )
    assert (second["predicted_tokens_per_s_gpu"], second["skipped"]) == ("", "seq_len is blank")
    with pytest.raises(PlanError, match="cannot be written"):
        write_rows(score_rows(rows(source), predictor()), tmp_path / "no" / "folder.csv")


def test_tokens_follow_from_what_the_row_prints(llama_row: Row) -> None:
    bare = replace(llama_row, tokens_per_s_gpu=None)
    assert measured_tokens(replace(bare, samples_per_s=4.0)) == pytest.approx(2048.0)
    assert measured_tokens(replace(bare, step_time_s=4.0)) == pytest.approx(2048.0)
    assert measured_tokens(bare) is None
