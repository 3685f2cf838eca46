"""Saved work, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from planner.errors import PlanError
from planner.store import Store
from planner.store.store import KEPT_DAYS, MAX_TAGS
from planner.store.tables import entries, metadata
from tests.store import writers

REAL = st.floats(allow_nan=False, allow_infinity=False)
PLAN = {"model": "gpt2", "hardware": {"gpu": "L40S", "gpus": 2}}


def test_what_is_saved_comes_back(store: Store) -> None:
    saved = store.save("plan", "Two L40S", PLAN, figures={"time_s": 12.5}, tags=["team", "draft", "team"], words="gpt2 L40S")
    again = store.get(saved.id)
    assert again == saved
    assert (again.kind, again.name, again.tags, again.revision, again.figures) == ("plan", "Two L40S", ("draft", "team"), 1, {"time_s": 12.5})
    assert store.document(saved.id).document == PLAN
    assert abs((again.created - datetime.datetime.now(datetime.UTC)).total_seconds()) < 60


def test_saving_again_adds_a_revision_and_keeps_the_old(store: Store) -> None:
    first = store.save("plan", "A", PLAN, tags=["one"])
    second = store.save("plan", "B", {**PLAN, "model": "gpt2-xl"}, entry=first.id, tags=["two"])
    assert (second.id, second.name, second.revision, second.tags) == (first.id, "B", 2, ("one", "two"))
    assert [(r.number, r.document["model"]) for r in store.history(first.id)] == [(2, "gpt2-xl"), (1, "gpt2")]
    assert store.document(first.id, 1).document == PLAN
    with pytest.raises(PlanError, match="revision: '3' is not saved"):
        store.document(first.id, 3)
    with pytest.raises(PlanError, match="is not that of the entry"):
        store.save("log", "B", {}, entry=first.id)


def test_keeping_the_same_twice_is_keeping_it_once(store: Store) -> None:
    first = store.keep("profile", "My card", {"b": 1, "a": 2})
    assert store.keep("profile", "Another name", {"a": 2, "b": 1}).id == first.id
    assert store.keep("profile", "My card", {"a": 3}).id != first.id
    assert store.keep("probe", "My card", {"a": 2, "b": 1}).id != first.id


def test_search_by_words_kind_and_tags(store: Store) -> None:
    a = store.save("plan", "Llama on 8 cards", PLAN, tags=["big run"], words="H100 lora").id
    b = store.save("plan", "100% of_it", PLAN, tags=["small"]).id
    c = store.save("probe", "Llama measured", {}, tags=["big run", "small"]).id

    def ids(*args: Any, **more: Any) -> set[str]:
        return {one.id for one in store.find(*args, **more)}

    assert ids() == {a, b, c}
    assert ids("LLAMA") == {a, c}
    assert ids("llama h100") == {a}
    assert ids("big") == {a, c}
    assert ids("100%") == {b}, "wildcards are letters"
    assert ids("f_i") == {b}
    assert ids("f%i") == set()
    assert ids(kind="probe") == {c}
    assert ids(tags=["big run", "small"]) == {c}
    assert len(store.find(limit=2)) == 2
    assert store.tags() == {"big run": 2, "small": 2}
    store.rename(b, "Renamed")
    assert store.find()[0].id == b, "the last changed comes first"


def test_delete_can_be_taken_back_and_is_final_only_later(store: Store) -> None:
    a, b = (store.save("plan", name, PLAN).id for name in "ab")
    assert store.delete([a, "unknown"]) == 1
    assert [one.id for one in store.find()] == [b]
    assert [one.id for one in store.find(deleted=True)] == [a]
    assert store.restore([a]) == 1
    assert {one.id for one in store.find()} == {a, b}
    store.delete([a])
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=KEPT_DAYS + 1)
    with store._engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(update(entries).where(entries.c.id == a).values(deleted=past))
    store.delete([b])
    assert [one.id for one in store.find(deleted=True)] == [b]
    with pytest.raises(PlanError, match="is not saved"):
        store.get(a)


def test_tags_are_replaced_or_refused(store: Store) -> None:
    a = store.save("plan", "a", PLAN, tags=["x"]).id
    assert store.tag(a, ["y", " y ", "z\n"]).tags == ("y", "z")
    with pytest.raises(PlanError, match="more than 20"):
        store.tag(a, [str(i) for i in range(MAX_TAGS + 1)])
    with pytest.raises(PlanError, match="longer than 60"):
        store.tag(a, ["x" * 61])
    with pytest.raises(PlanError, match="are more than 20"):
        store.save("plan", "a", PLAN, entry=a, tags=[str(i) for i in range(19)])
    assert store.get(a).tags == ("y", "z")
    assert store.get(a).revision == 1, "what is refused leaves nothing behind"


@pytest.mark.parametrize(
    ("kind", "name", "document", "problem"),
    [
        ("pickle", "a", {}, "is nothing that is saved"),
        ("plan", " \n", {}, "is empty"),
        ("plan", "a", {"a": float("nan")}, "cannot be written as JSON"),
        ("plan", "a", {"a": object()}, "cannot be written as JSON"),
        ("plan", "a", {"a": "\x00"}, "NUL"),
        ("plan", "a", {"a": "\ud800"}, "not valid Unicode"),
        ("plan", "a", {"a": "x" * (17 * 2**20)}, "larger than 16 MiB"),
    ],
)
def test_what_cannot_be_saved_is_said(store: Store, kind: str, name: str, document: dict[str, Any], problem: str) -> None:
    with pytest.raises(PlanError, match=problem):
        store.save(kind, name, document)
    assert store.find() == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(min_size=1), tag=st.text(), word=st.text(),
    document=st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | REAL | st.text(), st.lists)),
)  # fmt: skip
def test_any_text_is_kept_or_refused_in_a_sentence(store: Store, name: str, tag: str, word: str, document: dict[str, Any]) -> None:
    try:
        saved = store.save("plan", name, document, tags=[tag], words=word.replace("\x00", ""))
    except PlanError as error:
        refused = error.field
    else:
        refused = ""
        assert store.document(saved.id).document == json.loads(json.dumps(document))
    assert refused in ("", "name", "tags", "document")
    store.find(word.replace("\x00", ""))


def test_writers_at_the_same_entry_lose_nothing(url: str, store: Store) -> None:
    entry = store.save("plan", "shared", {}).id
    started = [writers.start("save_many", url, entry, who, 8) for who in range(4)]
    assert [one.wait(120) for one in started] == [0] * 4
    history = store.history(entry)
    assert [r.number for r in history] == list(range(33, 0, -1))
    assert {(r.document["who"], r.document["i"]) for r in history if r.document} == {(who, i) for who in range(4) for i in range(8)}
    assert len(store.find(kind="probe")) == 32


def test_several_openers_of_an_empty_database_make_its_tables_once(url: str) -> None:
    started = [writers.start("look", url) for _ in range(6)]
    assert [one.wait(120) for one in started] == [0] * 6


def test_a_killed_writer_leaves_all_that_it_had_saved(url: str, opened: Callable[[str], Store], tmp_path: Path) -> None:
    told = tmp_path / "told"
    writer = writers.start("save_on_and_on", url, told)
    deadline = time.monotonic() + 60
    while not (told.exists() and told.read_text().count("\n") > 20):
        assert time.monotonic() < deadline
        assert writer.poll() is None
        time.sleep(0.01)
    writer.kill()
    writer.wait()
    said = {int(line) for line in told.read_text().split("\n")[:-1]}
    store = opened(url)
    kept = {store.document(one.id).document["i"] for one in store.find(limit=10**6)}
    assert said <= kept
    assert len(kept - said) <= 1
    store.save("plan", "after", {})


def test_the_steps_lead_to_the_tables_that_are_used(store: Store) -> None:
    with store._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
