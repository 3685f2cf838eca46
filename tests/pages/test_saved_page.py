"""The Saved page and the button that saves: a database of its own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest
import streamlit as st

from planner import estimate
from planner.catalog import find_accelerator
from planner.device import DeviceProfile, default_profile
from planner.evidence import own
from planner.run import parse_run
from planner.store import Store, open_store
from planner.store.plans import plan_of, save_plan
from planner.ui import saving, state
from tests.pages.conftest import Open
from tests.pages.test_pages import assert_whole


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("PLANNER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PLANNER_DATABASE_URL", f"sqlite:///{tmp_path / 'saved.sqlite'}")
    st.cache_resource.clear()
    with open_store() as found:
        return found


def plan(store: Store, name: str, **values: object) -> str:
    run = parse_run(state.run_mapping(state.defaults() | values))
    return save_plan(store, name, run, estimate(run), tags=["team"]).id


def test_nothing_saved_yet_says_how(open_app: Open, store: Store) -> None:
    app = open_app("saved")
    assert_whole(app)
    assert "Save plan" in app.info[0].value
    assert not app.dataframe


def test_the_button_saves_what_is_seen(open_app: Open, store: Store) -> None:
    app = open_app("plan", gpus="2")
    app.text_input(key="save_name").set_value("Two of them")
    app.text_input(key="save_tags").set_value("team, draft")
    app.button(key="save_now").click().run()
    assert_whole(app)
    assert "Saved as" in app.success[0].value
    kept = store.find()[0]
    assert (kept.name, kept.tags) == ("Two of them", ("draft", "team"))
    now = app.session_state["current"]
    assert kept.figures["step_time_s"] == pytest.approx(now.estimate.step_time_s)
    assert estimate(plan_of(store.document(kept.id))).step_time_s == pytest.approx(now.estimate.step_time_s)


def test_find_and_the_list(open_app: Open, store: Store) -> None:
    plan(store, "On an L40S", gpu="L40S")
    plan(store, "Default")
    app = open_app("saved")
    assert list(app.dataframe[0].value["name"]) == ["Default", "On an L40S"]
    app.text_input(key="saved_words").set_value("l40s").run()
    assert list(app.dataframe[0].value["name"]) == ["On an L40S"]
    app.text_input(key="saved_words").set_value("nothing has this").run()
    assert not app.dataframe
    assert "Nothing that is saved matches" in app.info[0].value


def test_a_database_that_fails_is_a_sentence_and_planning_goes_on(open_app: Open, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").write_text("This is a letter. " * 400)
    monkeypatch.setenv("PLANNER_DATABASE_URL", f"sqlite:///{tmp_path / 'other'}")
    app = open_app("saved")
    assert not app.exception
    assert "no SQLite database" in app.error[0].value + str(app.error[0].proto)
    app = open_app("plan")
    assert_whole(app)
    app.button(key="save_now").click().run()
    assert "no SQLite database" in app.error[0].value
    assert app.session_state["current"].error is None


def test_what_the_buttons_do(store: Store, open_app: Open) -> None:
    a, b = plan(store, "A"), plan(store, "B", gpu="L40S")
    ranked, problems = saving.compared([store.get(a), store.get(b)])
    assert [row.name for row in ranked] == ["A", "B"]
    assert problems == []
    bad = store.save("plan", "Old", {"run": {"model": "gpt2", "hardware": {"gpu": "no such card"}}})
    assert "Old cannot be planned" in saving.compared([store.get(a), store.get(b), bad])[1][0]
    assert saving.same_as_now(store.get(b), parse_run(state.run_mapping(state.defaults() | {"gpu": "L40S"})))
    assert not saving.same_as_now(store.get(a), parse_run(state.run_mapping(state.defaults() | {"gpu": "L40S"})))
    assert not saving.same_as_now(store.get(bad.id), parse_run(state.run_mapping(state.defaults())))


def test_what_was_measured_here_is_gathered_once(open_app: Open, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANNER_DATA", str(tmp_path))
    probe = own.Own(key="k", device="cpu", steps=(1.0, 3.0, 2.0), date="2026-01-02T03:04:05", row={"model": "gpt2", "method": "lora"})
    own.keep(probe)
    (tmp_path / "profiles").mkdir()
    profile = default_profile(find_accelerator("L40S"))
    profile.dump(tmp_path / "profiles" / "mine.json")
    for _ in range(2):
        app = open_app("saved")
        assert_whole(app)
        assert sorted(app.dataframe[0].value["kind"]) == ["probe", "profile"]
        st.cache_resource.clear()
    found = {one.kind: one for one in store.find()}
    assert found["probe"].figures["step_time_s"] == 2.0
    assert own.Own.model_validate(store.document(found["probe"].id).document) == probe
    assert DeviceProfile.model_validate(store.document(found["profile"].id).document) == profile
    own.keep(probe.model_copy(update={"date": "2026-01-03T03:04:05"}))
    app = open_app("saved")
    assert len(app.dataframe[0].value) == 3
