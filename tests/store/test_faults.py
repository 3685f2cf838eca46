"""A database that is locked, full, damaged, not there or not ours: one sentence each."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from planner.errors import PlanError
from planner.store import Store, database, database_url, open_store, shown_url
from tests.store.conftest import Postgres

Opened = Callable[[str], Store]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "saved.sqlite"


@pytest.fixture
def local(file: Path, monkeypatch: pytest.MonkeyPatch, opened: Opened) -> Store:
    monkeypatch.setattr(database, "BUSY_S", 0.1)
    store = opened(f"sqlite:///{file}")
    store.save("plan", "kept", {"big": "x" * 20000})
    return store


def said(store: Store) -> str:
    with pytest.raises(PlanError) as caught:
        store.save("plan", "new", {"big": "y" * 20000})
    assert caught.value.field == "database"
    assert "Planning goes on without it." in caught.value.fix
    return caught.value.problem


def test_locked(local: Store, file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert said(local) == "is locked by another program"
        assert [one.name for one in local.find()] == ["kept"], "reading goes on"
    local.save("plan", "new", {})


def test_full(local: Store) -> None:
    @event.listens_for(local._engine, "connect")
    def small(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA max_page_count = 15")

    assert said(local) == "has no room left on its disk"
    assert [one.name for one in local.find()] == ["kept"]


def test_read_only(local: Store) -> None:
    @event.listens_for(local._engine, "connect")
    def frozen(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA query_only = ON")

    assert said(local) == "cannot be written to"


def test_damaged(local: Store, file: Path) -> None:
    local.close()
    content = bytearray(file.read_bytes())
    content[4096:] = b"\x5a" * (len(content) - 4096)
    for beside in file.parent.glob("saved.sqlite-*"):
        beside.unlink()
    file.write_bytes(content)
    assert said(local) == "is damaged"


def test_no_database(file: Path) -> None:
    file.write_bytes(b"This is a letter, not a database. " * 400)
    with pytest.raises(PlanError, match="is no SQLite database"):
        open_store(f"sqlite:///{file}")


def test_of_another_program(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE entries (a)")
    with pytest.raises(PlanError, match="holds tables of something else"):
        open_store(f"sqlite:///{file}")


def test_of_a_newer_version(local: Store, file: Path) -> None:
    with local._engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(PlanError, match="written by a newer version"):
        open_store(f"sqlite:///{file}")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PlanError, match="cannot be opened"):
        open_store(f"sqlite:///{tmp_path / 'file' / 'saved.sqlite'}")
    with pytest.raises(PlanError, match="cannot be opened"):
        open_store(f"sqlite:///{tmp_path}")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("nonsense", "is no address of a database"),
        ("mysql://localhost/x", "is no database that plans are saved in"),
        ("sqlite://", "keeps nothing"),
        ("postgresql://someone:secret@127.0.0.1:1/x", "cannot be reached"),
    ],
)
def test_addresses_that_lead_nowhere(url: str, problem: str) -> None:
    with pytest.raises(PlanError, match=problem) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_the_default_is_a_file_in_the_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PLANNER_DATA", str(tmp_path))
    monkeypatch.delenv("PLANNER_DATABASE_URL", raising=False)
    assert shown_url(database_url()) == str(tmp_path / "saved.sqlite")
    monkeypatch.setenv("PLANNER_DATABASE_URL", "postgres" + "ql://me:secret@db/plans")
    assert shown_url(database_url()) == "postgresql://me:***@db/plans"


def test_a_server_that_goes_and_comes_back(postgres: Postgres, opened: Opened) -> None:
    store = opened(postgres.create("comes_and_goes"))
    store.save("plan", "before", {})
    postgres.stop("immediate")
    try:
        with pytest.raises(PlanError, match=r"database: .* cannot be reached"):
            store.find()
    finally:
        postgres.start()
    assert [one.name for one in store.find()] == ["before"]


def test_a_user_without_rights_or_a_database_that_is_not_there(postgres: Postgres) -> None:
    with pytest.raises(PlanError, match=r"does not exist|cannot be reached"):
        open_store(postgres.url("not_there"))
