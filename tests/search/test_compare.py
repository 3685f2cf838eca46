"""Runs side by side: rank, differences to the first, and what nothing beats."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import PlanError
from planner.estimate.engine import estimate
from planner.run import parse_run
from planner.search.compare import compare
from tests.search.spaces import TINY

BASE: dict[str, Any] = {"model": TINY, "precision": "bf16", "data": "10M", "hardware": {"gpu": "H100 SXM 80GB"}}


def named(name: str, **changes: Any) -> Any:
    return name, estimate(parse_run({**BASE, **changes}))


def test_what_fits_is_ranked_and_what_does_not_stands_last() -> None:
    runs = [
        named("base"),
        named("too large", model="meta-llama/Llama-3.1-70B"),
        named("eight", hardware={"gpu": "H100 SXM 80GB", "gpus": 8}),
        named("slow", activation_checkpointing="full"),
    ]
    rows = compare(runs)
    assert [row.name for row in rows] == ["eight", "base", "slow", "too large"]
    assert [row.rank for row in rows] == [1, 2, 3, None]
    base, eight = rows[1], rows[0]
    assert base.deltas == {"time": 0, "cost": 0, "energy": 0, "reserved": 0}
    assert eight.deltas["time"] == pytest.approx((eight.estimate.total_time_s or 0) - (base.estimate.total_time_s or 0))
    assert eight.efficient and not rows[3].efficient
    assert rows[3].chance is not None and rows[3].chance < 0.01 < 0.99 < (base.chance or 0)
    assert compare(runs, "cost")[0].name == "base"


def test_times_are_those_of_a_sample_unless_all_say_how_much() -> None:
    rows = {row.name: row for row in compare([named("known"), named("unknown", data=None)])}
    assert rows["known"].time == pytest.approx(rows["unknown"].time)
    assert rows["known"].cost == pytest.approx(rows["unknown"].cost)
    assert rows["unknown"].document()["estimate"]["total_time_s"] is None


def test_one_run_is_no_comparison() -> None:
    with pytest.raises(PlanError, match="Give two runs or more"):
        compare([named("base")])
