"""docs/accuracy.md says what the shipped record says, and the record belongs to the shipped rows."""

from __future__ import annotations

import json
from dataclasses import replace

from planner.estimate import uncertainty
from planner.evidence.accuracy import NUMBERS, accuracy, accuracy_table, measurements_digest, scored_rows
from planner.evidence.document import render
from planner.evidence.predict import Predictor
from planner.evidence.quirks import QUIRKS, reason_of
from planner.evidence.report import DOCUMENT, record
from planner.evidence.rows import Row, rows
from planner.evidence.validate import score_rows

from .conftest import make_estimate


def test_document_is_rendered_from_the_record() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == render(accuracy()), "run python -m planner.evidence.report --render"


def test_record_belongs_to_the_shipped_rows() -> None:
    assert accuracy()["measurements_sha256"] == measurements_digest(), "run python -m planner.evidence.report"
    assert accuracy()["in_sample"]["rows"] == len(rows())


def test_scored_rows_agree_with_the_summary() -> None:
    table = scored_rows()
    assert [line["id"] for line in table] == [row.id for row in rows()]
    assert sum(line["skipped"] is None for line in table) == accuracy()["in_sample"]["predicted"]
    ratios = [line["tokens_ratio"] for line in table if line["tokens_ratio"] is not None]
    assert len(ratios) == accuracy()["in_sample"]["tokens"]["all"]["n"]
    assert all(isinstance(line[name], float | None) for line in table for name in NUMBERS)


def test_accuracy_table_has_every_class_once() -> None:
    for quantity in ("tokens", "memory"):
        lines = accuracy_table(quantity)
        assert lines[0]["grouping"] == "all"
        assert len({(line["grouping"], line["class"]) for line in lines}) == len(lines)
        assert lines[0]["n"] == sum(line["n"] for line in lines if line["grouping"] == "source")
        assert 0 <= lines[0]["median"] <= lines[0]["p90"]


def test_intervals_hold_nine_of_ten_held_out_rows() -> None:
    """Of the rows that their columns describe; a little fewer where rows that contradict their own columns count too."""
    shipped = json.loads(uncertainty.DATA.read_text(encoding="utf-8"))
    for kind, quantity in (("time", "tokens"), ("memory", "memory")):
        assert 0.87 <= shipped[kind]["held_out_coverage"] <= 0.93
        assert 0.78 <= accuracy()["held_out"][quantity]["all"]["coverage"] <= 0.95


def test_every_figure_of_the_document_comes_from_rows(llama_row: Row) -> None:
    table = [
        replace(llama_row, id=f"r{i}", source_group=f"s{i % 7}", tokens_per_s_gpu=2048.0 + 40 * i) for i in range(70)
    ]
    table.append(replace(llama_row, id="odd", seq_len=None))
    text = render(record(score_rows(table, Predictor(engine=lambda run, profile: make_estimate(run)))))
    assert "71 rows, 70 predicted, 1 not yet covered" in text
    assert "| s3 | 10 |" in text
    assert "| 1 | seq_len is blank |" in text
    assert "nan" not in text


def test_every_known_reason_concerns_rows() -> None:
    for quirk in QUIRKS:
        matching = [row for row in rows() if row.source_group == quirk.source and quirk.concerns(row)]
        assert matching, quirk.reason
        assert any(reason_of(row, quirk.quantity) == quirk.reason for row in matching), quirk.reason
