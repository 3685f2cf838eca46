"""What the allocator holds is fitted to other rows than those it is judged on."""

from __future__ import annotations

import pytest

from planner.estimate import constants
from planner.estimate.verdict import reserved_of
from planner.evidence.fit_memory import PRIOR_WEIGHT, SHARES, Implied, fitted, fold_shares, implied, memory_constants
from planner.evidence.predict import Prediction
from planner.evidence.rows import rows
from planner.evidence.score import score

SLACK = "reserved_slack"


def shown(values: list[float], path: str = SLACK, group: str = "") -> list[Implied]:
    return [Implied(path, group or str(i), 0, value) for i, value in enumerate(values)]


def test_a_share_is_the_median_drawn_towards_its_prior() -> None:
    prior = SHARES[SLACK].prior
    assert fitted([])[SLACK] == pytest.approx(prior)
    assert fitted(shown([0.1]))[SLACK] == pytest.approx((0.1 + PRIOR_WEIGHT * prior) / (1 + PRIOR_WEIGHT))
    assert fitted(shown([0.1] * 500 + [9.0] * 100))[SLACK] == pytest.approx(0.1, rel=0.01)


def test_a_group_of_many_rows_is_no_crowd() -> None:
    many, few = shown([0.2] * 16, group="one"), shown([0.05] * 5)
    assert fitted(many + few)[SLACK] < 0.06


def test_no_share_is_below_nothing() -> None:
    assert fitted(shown([-0.5] * 100))[SLACK] == 0.0


def test_a_row_shows_what_it_holds_over_its_tensors() -> None:
    row = next(r for r in rows() if r.source_group == "qwen" and r.mem_kind not in ("allocated", "active"))
    peak = row.peak_mem_gib or 0.0
    found = implied(score(row, Prediction(stack="hf-4", allocated_gib=peak / 1.1, reserved_gib=peak, memory_gib=peak)))
    assert found is not None and found.path == SLACK and found.value == pytest.approx(0.1)
    lacking = score(row, Prediction(stack="hf-4", allocated_gib=peak / 2, reserved_gib=peak / 2, memory_gib=peak / 2))
    assert implied(lacking) is None


def test_the_engine_takes_the_shares_of_a_fold_and_returns_to_its_own() -> None:
    before = reserved_of(1e10, "torchtitan")
    with memory_constants({"reserved_slack [torchtitan]": 0.5}):
        assert reserved_of(1e10, "torchtitan") == pytest.approx(1.5e10, rel=1e-3)
        assert reserved_of(1e10, "torchtitan-async-tp") == reserved_of(1e10, "torchtitan")
    assert reserved_of(1e10, "torchtitan") == before


def test_shipped_shares_lie_between_those_of_the_folds() -> None:
    table, folds = constants._table(), fold_shares()
    for path, share in SHARES.items():
        values = [fold[path] for fold in folds]
        assert min(values) * 0.99 <= share.value_of(table) <= max(values) * 1.01
