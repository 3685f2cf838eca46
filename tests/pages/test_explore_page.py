"""The Explore page: sweeps, the map, questions asked backwards, the price of one step, the tornado."""

from __future__ import annotations

import time
from typing import Any

import pytest

from planner import estimate
from planner.advise import apply
from planner.errors import PlanError
from planner.estimate.result import Estimate
from planner.run import Run, parse_run
from planner.search.backwards import Backwards
from planner.ui import asking, decision_charts, estimates, exploring, state
from planner.ui.charts import LIGHT
from tests.pages.conftest import Open
from tests.pages.test_pages import assert_whole, texts_of


@pytest.fixture
def run() -> Run:
    return parse_run(state.run_mapping(state.defaults()))


@pytest.fixture
def now(run: Run) -> Estimate:
    return estimate(run)


@pytest.mark.parametrize("name", exploring.KNOBS)
def test_every_sweep_is_drawn_and_its_own_value_is_the_plan(open_app: Open, name: str) -> None:
    app = open_app("explore")
    app.button_group(key="sweep").set_value(name).run()
    assert_whole(app)
    current = app.session_state["current"]
    points = exploring.swept(name, current.run, current.estimate.run, None)
    own = next(p for p in points if p.value == exploring.KNOBS[name].value(current.estimate.run))
    assert not isinstance(own.outcome, PlanError)
    assert own.outcome.step_time_s == current.estimate.step_time_s
    assert len(points) == exploring.MOST
    assert exploring.sentence(points, exploring.KNOBS[name].unit) in texts_of(app).replace("\\", "")


def test_a_sweep_is_the_engine_at_each_value(run: Run, now: Estimate) -> None:
    for point in exploring.swept("micro", run, now.run, None):
        there = estimate(apply(run, estimates.micro_batch(run, point.value)))
        assert not isinstance(point.outcome, PlanError)
        assert point.outcome.peak_reserved_bytes == there.peak_reserved_bytes
        assert point.outcome.cost_usd == there.cost_usd
        assert there.run.batch.micro * there.run.batch.accumulation == max(16, point.value)


def test_the_frontier_of_the_map_is_that_of_the_question(run: Run, now: Estimate) -> None:
    found = exploring.mapped(run, now.run, None)
    assert found is not None
    x, y = found.here
    here = found.cells[y][x]
    assert not isinstance(here, PlanError)
    assert here.step_time_s == now.step_time_s
    largest = Backwards(run).largest_micro_batch().change["batch.micro"]
    row = [m for m, one in zip(found.micros, found.cells[y], strict=True) if not isinstance(one, PlanError) and one.fits]
    assert max(row) <= largest < 2 * max(row)
    figure = decision_charts.heat_map([str(m) for m in found.micros], [str(n) for n in found.lengths], found.cells, found.here, LIGHT, found.seconds)
    grey, shown = figure.data
    for i, cells in enumerate(found.cells):
        for j, one in enumerate(cells):
            bad = isinstance(one, PlanError) or one.fits is False
            assert (grey.z[i][j] == 1.0) == bad
            assert (shown.z[i][j] is None) == bad


def test_what_the_map_leaves_out_needs_more_than_twice_the_memory(run: Run, now: Estimate) -> None:
    found = exploring.mapped(run, now.run, None)
    assert found is not None
    left = [(m, n) for n, row in zip(found.lengths, found.cells, strict=True) for m, one in zip(found.micros, row, strict=True) if one is exploring.FAR]
    assert len(left) >= 10
    for micro, length in left[:: len(left) // 5]:
        there = estimate(apply(run, estimates.micro_batch(run, micro) | {"batch.seq_len": length}))
        assert there.usable_memory_bytes is not None
        assert there.peak_reserved_bytes > 2 * there.usable_memory_bytes


@pytest.mark.parametrize("question", asking.QUESTIONS)
def test_questions_are_answered_with_what_can_be_applied(open_app: Open, question: str) -> None:
    app = open_app("explore", model="openai-community/gpt2", seq="512")
    app.button_group(key="ask").set_value([question]).run()
    assert_whole(app)
    limit = {"by_deadline": 86400.0, "under_budget": 500.0}.get(question)
    current = app.session_state["current"]
    found = asking.answer(question, current.run, None, limit)
    assert not isinstance(found, PlanError)
    assert found.text in texts_of(app).replace("\\", "")
    button = [b for b in app.button if b.key == f"ask_apply_{question}"]
    if found.estimate is not None and found.estimate.run != current.estimate.run:
        button[0].click().run()
        assert_whole(app)
        assert app.session_state["current"].estimate.run == found.estimate.run
        app.button(key="undo").click().run()
        assert app.session_state["current"].run == current.run
    else:
        assert not button


def test_a_wrong_deadline_is_one_error(open_app: Open) -> None:
    app = open_app("explore")
    app.button_group(key="ask").set_value(["by_deadline"]).run()
    app.text_input(key="ask_deadline").set_value("soon").run()
    assert_whole(app)
    assert len(app.error) == 1
    assert "`deadline`" in app.error[0].proto.title


def test_the_price_of_a_step_is_a_difference_of_estimates(run: Run, now: Estimate) -> None:
    prices = exploring.marginal(run, now, None)
    assert {price.label.split(" ")[0] for price in prices} >= {"Micro", "Sequence", "GPUs", "Rank", "Checkpointing"}
    for price in prices:
        there = estimate(apply(run, price.change))
        assert there.cost_usd is not None
        assert now.cost_usd is not None
        assert price.cost == pytest.approx(there.cost_usd - now.cost_usd)
        assert price.memory == pytest.approx(there.peak_reserved_bytes - now.peak_reserved_bytes)


@pytest.mark.parametrize("figure", ["time", "cost"])
def test_the_tornado_holds_the_plan_between_its_ends(run: Run, now: Estimate, figure: str) -> None:
    moved = exploring.swings(run, now, None, figure)
    base = now.total_time_s if figure == "time" else now.cost_usd
    assert base is not None
    widths = [abs(s.high - s.low) for s in moved]
    assert widths == sorted(widths, reverse=True)
    assert all(s.low <= base <= s.high for s in moved)
    assert {"Speed of a step", "Amount of data"} <= {s.label for s in moved}
    assert ("Price of a GPU-hour" in {s.label for s in moved}) == (figure == "cost")


def test_a_plan_that_was_seen_is_drawn_again_quickly(open_app: Open) -> None:
    app: Any = open_app("explore")
    times = []
    for _ in range(3):
        start = time.perf_counter()
        app.run()
        times.append(time.perf_counter() - start)
    assert min(times) < 1.0
