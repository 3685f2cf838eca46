"""Accuracy never gets worse unnoticed: every published row is predicted again, and the gate is shown to fail when predictions worsen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from planner.evidence import gate
from planner.evidence.report import judged
from planner.evidence.score import Scored


@pytest.fixture(scope="module")
def held_out() -> list[Scored]:
    return gate.recomputed()


def test_no_class_is_worse_than_the_record(held_out: list[Scored]) -> None:
    worse = gate.failures(held_out, gate.committed())
    assert not worse, "\n".join(map(str, worse))


def test_the_published_figures_are_those_of_today(held_out: list[Scored]) -> None:
    """Large gains are recorded too, or a later loss of them would pass."""
    now, record = gate.baseline(held_out), gate.committed()
    for quantity in ("tokens", "memory"):
        entry, today = (document[quantity]["all/all rows"] for document in (record, now))
        assert entry["median"] - today["median"] <= 2 * entry["tolerance"], "run python -m planner.evidence.report"


def worsened(held_out: Sequence[Scored], quantity: str, factor: float, source: str | None = None) -> list[Scored]:
    name = f"{quantity}_ratio"
    changed = []
    for s in held_out:
        ratio = getattr(s, name)
        if ratio is not None and source in (None, s.row.source_group):
            s = replace(s, **{name: 1 + (ratio - 1) * factor})
        changed.append(s)
    return changed


@pytest.mark.parametrize("quantity", ["tokens", "memory"])
def test_errors_grown_by_a_third_fail(held_out: list[Scored], quantity: str) -> None:
    found = gate.failures(worsened(held_out, quantity, 4 / 3), gate.committed())
    assert any(f.quantity == quantity and f.grouping == "all" and f.figure == "median error" for f in found)
    assert {f.quantity for f in found} == {quantity}


def test_one_source_alone_fails_its_own_class(held_out: list[Scored]) -> None:
    found = gate.failures(worsened(held_out, "tokens", 1.5, source="llm-foundry"), gate.committed())
    assert any((f.grouping, f.name) == ("source", "llm-foundry") for f in found)
    assert all((f.grouping, f.name) != ("source", "nemo") for f in found)


def test_worse_predictions_fall_out_of_the_intervals(held_out: list[Scored]) -> None:
    """Intervals that do not follow: the rows' residuals grow after the ranges were made."""
    out = [replace(s, memory_covered=False) if i % 4 == 0 and s.memory_covered else s for i, s in enumerate(held_out)]
    found = gate.failures(out, gate.committed())
    assert any(f.figure == "in interval" and f.quantity == "memory" and f.grouping == "all" for f in found)


def test_lost_rows_and_false_fits_fail(held_out: list[Scored]) -> None:
    kept = [s for s in held_out if s.row.source_group != "fms"]
    assert any(f.name == "fms" and f.figure == "rows predicted" for f in gate.failures(kept, gate.committed()))
    optimist = [
        replace(s, prediction=replace(s.prediction, fits=True)) if s.row.outcome == "oom" and i % 20 == 0 else s
        for i, s in enumerate(held_out)
    ]
    assert any(f.figure == "said to fit and ran out" for f in gate.failures(optimist, gate.committed()))


def test_coverage_is_judged_by_other_folds(held_out: list[Scored]) -> None:
    again = judged(held_out)
    assert [s.memory_covered for s in again] == [s.memory_covered for s in held_out]
    assert any(s.tokens_covered is False for s in again)
