"""The Compare page: alternatives, their order, what does not fit, a row that becomes the plan, and the search."""

from __future__ import annotations

import time
from typing import Any

import pytest
import streamlit as st

from planner import estimate
from planner.errors import PlanError
from planner.run import Run, parse_run
from planner.ui import changes, comparing, searching, state
from planner.ui.comparing import Choices
from tests.pages.conftest import Open
from tests.pages.test_pages import assert_whole, texts_of


@pytest.fixture
def run() -> Run:
    return parse_run(state.run_mapping(state.defaults()))


def row(app: Any, name: str, table: int = 0) -> dict[str, Any]:
    frame = app.dataframe[table].value
    return next(line for line in frame.to_dict("records") if line["plan"].removeprefix("★ ") == name)


def test_the_table_shows_what_the_engine_says_of_each_plan(open_app: Open) -> None:
    app = open_app("compare")
    assert_whole(app)
    shown = app.dataframe[0].value
    assert list(shown["rank"]) == list(range(1, len(shown) + 1))
    assert list(shown["time"]) == sorted(shown["time"])
    values = {key: app.session_state[key] for key in state.defaults() if key in app.session_state}
    there = estimate(parse_run(state.run_mapping(values | {"gpu": "H200 SXM 141GB"})))
    line = row(app, "1 × H200 SXM 141GB")
    assert line["cost"] == pytest.approx(there.cost_usd)
    now = app.session_state["current"].estimate
    assert there.total_time_s is not None
    assert line["time_delta"] == pytest.approx(100 * (there.total_time_s / now.total_time_s - 1))
    assert row(app, comparing.THIS)["plan"].startswith("★")
    assert len(app.get("plotly_chart")) == 1


def test_what_does_not_fit_stands_apart_with_its_reason(open_app: Open) -> None:
    app = open_app("compare", method="Full fine-tuning")
    app.multiselect(key="compare_gpus").set_value(["T4", "RTX 4090"]).run()
    app.multiselect(key="compare_counts").set_value([1, 8]).run()
    assert_whole(app)
    said = str(app.table[-1].value)
    assert said.count("GiB over") >= 3
    assert "1 × T4" in said
    assert ":gray[" in said


def test_another_baseline_changes_the_differences(open_app: Open) -> None:
    app = open_app("compare")
    before = row(app, comparing.THIS)["time_delta"]
    app.selectbox(key="compare_baseline").set_value("1 × H200 SXM 141GB").run()
    assert_whole(app)
    assert before == 0
    assert row(app, comparing.THIS)["time_delta"] > 0
    assert row(app, "1 × H200 SXM 141GB")["plan"].startswith("★")


def test_a_click_makes_a_row_the_plan_and_undo_brings_the_old_one_back(open_app: Open, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plans, _ = comparing.alternatives(run, estimate(run).run, Choices(gpus=("A100 SXM4 80GB",), counts=(4,), methods=("qlora",)))
    assert [plan.problem for plan in plans] == [""]
    wanted = plans[0].run
    assert wanted is not None
    kept: dict[str, Any] = {**state.defaults(), "click": {"row": 0, "label": "Use"}}
    monkeypatch.setattr(st, "session_state", kept)
    comparing.use("click", [wanted])
    now = parse_run(state.run_mapping({key: kept[key] for key in state.defaults()}))
    assert (now.hardware.gpu, now.hardware.gpus, now.method.name) == ("A100 SXM4 80GB", 4, "qlora")
    assert now == wanted
    changes.undo()
    assert {key: kept[key] for key in state.defaults()} == state.defaults()
    kept["click"] = None
    comparing.use("click", [wanted])
    assert {key: kept[key] for key in state.defaults()} == state.defaults()


def test_combinations_keep_the_global_batch_and_say_what_cannot_be(run: Run) -> None:
    now = estimate(run).run
    plans, left = comparing.alternatives(run, now, Choices(counts=(1, 2, 16), shardings=("zero3",)))
    assert left == 0
    alone = plans[0]
    assert alone.run is None
    assert "more than one data-parallel copy" in alone.problem
    for plan in plans[1:]:
        assert plan.run is not None
        batch = plan.run.batch
        assert batch.micro * batch.accumulation * plan.run.dp == 16
        assert plan.run.parallel.sharding == "zero3"
    many = Choices(gpus=("T4", "L4", "A10G", "L40S", "A30"), counts=(1, 2, 4, 8), methods=("lora", "full"), precisions=("bf16", "fp32"))
    plans, left = comparing.alternatives(run, now, many)
    assert left == 80 - comparing.MOST
    assert len(plans) <= comparing.MOST


@pytest.mark.parametrize(("text", "counts"), [("1-16", (1, 2, 4, 8, 16)), ("3-10", (3, 4, 8, 10)), ("8, 12", (8, 12)), ("4", (4,))])
def test_numbers_of_gpus_as_people_write_them(text: str, counts: tuple[int, ...]) -> None:
    assert searching.counts_of(text) == counts


@pytest.mark.parametrize("text", ["", "many", "8-2", "0"])
def test_no_numbers_of_gpus(text: str) -> None:
    with pytest.raises(PlanError):
        searching.counts_of(text)


def test_contradictory_limits_are_one_sentence(open_app: Open) -> None:
    app = open_app("compare")
    app.number_input(key="find_least").set_value(64)
    app.number_input(key="find_most").set_value(8).run()
    assert_whole(app)
    assert len(app.error) == 1
    assert "contradicts max-batch 8" in app.error[0].proto.title
    app.number_input(key="find_most").set_value(None)
    app.number_input(key="find_budget").set_value(-5.0).run()
    assert len(app.error) == 1
    assert "not above 0" in app.error[0].proto.title


def finished(app: Any) -> Any:
    """The page once the search has ended."""
    end = time.monotonic() + 90
    while searching.JOB in app.session_state and time.monotonic() < end:
        time.sleep(0.2)
        app.run()
    assert searching.JOB not in app.session_state
    return app


def test_a_search_answers_with_the_best_and_why_others_were_not_chosen(open_app: Open) -> None:
    app = open_app("compare", model="openai-community/gpt2", seq="512")
    app.text_input(key="find_counts").set_value("1-2")
    app.button(key="find").click().run()
    assert searching.JOB in app.session_state
    finished(app)
    assert_whole(app)
    said = texts_of(app).replace("\\", "")
    assert "Best by time" in said
    assert "configurations in" in said
    answer = app.session_state[searching.ANSWER]
    best = estimate(parse_run(answer["best"]))
    table = app.dataframe[-1].value
    assert table["hardware"][0].startswith("★")
    assert table["memory"][0] == pytest.approx(best.peak_reserved_bytes / 2**30)
    assert answer["complete"]


def test_a_search_without_an_answer_says_why_and_can_be_cancelled(open_app: Open) -> None:
    app = open_app("compare", method="Full fine-tuning")
    app.multiselect(key="find_gpus").set_value(["T4"])
    app.text_input(key="find_counts").set_value("1")
    app.button(key="find").click().run()
    finished(app)
    assert_whole(app)
    assert "Nothing" in app.warning[-1].value
    app = open_app("compare")
    app.text_input(key="find_counts").set_value("1-1024")
    app.button(key="find").click().run()
    app.session_state[searching.JOB].stop()
    finished(app)
    assert_whole(app)
    assert not app.session_state[searching.ANSWER]["complete"]
    assert "was not looked at" in texts_of(app)
