"""The connection to a database: its address, its tables at the newest step, and its faults in plain sentences."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from planner.errors import PlanError, shorten
from planner.files import data_folder

VARIABLE: Final = "PLANNER_DATABASE_URL"
BUSY_S: Final = 5.0
"""How long a statement waits for another writer [s]."""
_STEPS: Final = Path(__file__).with_name("migrations")
_LOCK: Final = 0x706C756D62
"""Advisory lock of PostgreSQL under which tables are created: several servers may start at once."""

_PLANNING: Final = "Planning goes on without it."
_SQLITE: Final = {
    "SQLITE_BUSY": ("is locked by another program", "Close what else writes to it, and save again."),
    "SQLITE_LOCKED": ("is locked by another program", "Close what else writes to it, and save again."),
    "SQLITE_FULL": ("has no room left on its disk", "Free some space, and save again."),
    "SQLITE_CORRUPT": ("is damaged", "Put it aside under another name, and restore a copy; a new one is made when none is there."),
    "SQLITE_NOTADB": ("is no SQLite database", "Put it aside under another name; a new one is made when none is there."),
    "SQLITE_READONLY": ("cannot be written to", "Give this user the right to write the file and its folder."),
    "SQLITE_CANTOPEN": ("cannot be opened", "See that its folder exists and that this user may write there."),
    "SQLITE_IOERR": ("cannot be read or written: the disk reports an error", "Look at the disk, and restore a copy."),
}
"""SQLite's name of an error: what is wrong, what helps."""
_POSTGRES: Final = {
    "53100": ("has no room left on its disk", "Free some space on its machine, and save again."),
    "53300": ("takes no more connections", "Try again in a moment, or raise max_connections."),
    "55P03": ("is locked by another program", "Try again in a moment."),
    "57014": ("is locked by another program", "Try again in a moment."),
    "25006": ("cannot be written to: it is a read-only copy", "Name the primary server."),
    "28P01": ("refuses the password", f"Correct {VARIABLE}."),
    "28000": ("refuses this user", f"Correct {VARIABLE}."),
    "3D000": ("does not exist", "Create it with createdb, or name another."),
    "42501": ("does not allow this user to do that", "Grant the user rights on the schema."),
    "57P01": ("was shut down meanwhile", "Try again in a moment."),
}
"""SQLSTATE of PostgreSQL: what is wrong, what helps."""


def database_url(given: str | None = None) -> URL:
    """The address of the database: the one given, else PLANNER_DATABASE_URL, else SQLite in the user's data folder.

    Errors: `PlanError` for an address that names neither SQLite nor PostgreSQL.
    """
    said = given or os.environ.get(VARIABLE)
    if not said:
        return URL.create("sqlite", database=str(data_folder() / "saved.sqlite"))
    try:
        url = make_url(said)
    except (ArgumentError, ValueError):
        raise _wrong("", "is no address of a database", "Write sqlite:///file or postgresql://user@host/name.") from None
    backend = url.get_backend_name()
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise _wrong(backend, "is no database that plans are saved in", "Write sqlite:///file or postgresql://user@host/name.")
    if url.database in (None, "", ":memory:"):
        raise _wrong(str(url), "keeps nothing: it names no file", "Write sqlite:///file.")
    return url


def shown_url(url: URL) -> str:
    """An address for people: no password, and of SQLite the file alone."""
    return url.database or "" if url.get_backend_name() == "sqlite" else url.set(drivername="postgresql").render_as_string(hide_password=True)


def connect(url: URL) -> Engine:
    """An engine whose tables are at the newest step. Raises `PlanError`."""
    with plainly(url):
        if url.get_backend_name() == "sqlite":
            engine = _sqlite(url)
        else:
            engine = create_engine(
                url, pool_pre_ping=True, pool_size=5, max_overflow=10,
                connect_args={"connect_timeout": 5, "application_name": "plumbline", "options": f"-c lock_timeout={int(BUSY_S * 1000)}"},
            )  # fmt: skip
        try:
            _upgrade(engine)
        except BaseException:
            engine.dispose()
            raise
    return engine


def _sqlite(url: URL) -> Engine:
    """SQLite as a store needs it: a log beside the file, so that readers never wait; foreign keys; a writer that takes its turn at once."""
    file = Path(url.database or "")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _wrong(str(file), f"cannot be opened: {error.strerror or error}", f"Set {VARIABLE} or PLANNER_DATA to a place that can be written.") from None
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_S})

    @event.listens_for(engine, "connect")
    def settings(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin where `begin` below says
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and then writes could not wait for its turn: SQLite would refuse it.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")

    return engine


def _upgrade(engine: Engine) -> None:
    """Run the steps that this database has not had yet."""
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_STEPS))
    newest = ScriptDirectory.from_config(config).get_current_head()
    with engine.connect() as reading:
        if MigrationContext.configure(reading).get_current_revision() == newest:
            return
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        found = MigrationContext.configure(connection).get_current_revision()
        if found is None and inspect(connection).has_table("entries"):
            raise _wrong(shown_url(engine.url), "holds tables of something else", "Name another database.")
        known = {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}
        if found is not None and found not in known:
            raise _wrong(shown_url(engine.url), "was written by a newer version of Plumbline", "Install that version, or name another database.")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextlib.contextmanager
def plainly(url: URL) -> Iterator[None]:
    """Faults of the database as one sentence: what is wrong, what helps, and that planning goes on."""
    try:
        yield
    except NoSuchModuleError:
        raise _wrong(url.drivername, "has no driver here", "Write sqlite:///file or postgresql://user@host/name.") from None
    except ModuleNotFoundError as error:
        raise _wrong(shown_url(url), f"needs the package {error.name}", 'Install it: pip install "plumbline[team]".') from None
    except DBAPIError as error:
        raise _said(url, error) from None
    except SQLAlchemyError as error:
        raise _wrong(shown_url(url), f"does not work ({shorten(error, 120)})", _PLANNING) from None


def is_conflict(error: DBAPIError) -> bool:
    """Whether two writers met, so that the later one should try again."""
    state = getattr(error.orig, "sqlstate", None)
    name = getattr(error.orig, "sqlite_errorname", "")
    return state in ("23505", "40001", "40P01") or name in ("SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_UNIQUE", "SQLITE_BUSY_SNAPSHOT")


def _said(url: URL, error: DBAPIError) -> PlanError:
    """What a driver's error means."""
    name = str(getattr(error.orig, "sqlite_errorname", ""))
    state = str(getattr(error.orig, "sqlstate", None) or "")
    found = next((said for key, said in _SQLITE.items() if name.startswith(key)), None) or _POSTGRES.get(state)
    if found is None and url.get_backend_name() == "postgresql" and not state:
        detail = shorten(str(error.orig).splitlines()[-1] if str(error.orig) else type(error.orig).__name__, 160)
        found = (f"cannot be reached ({detail})", f"See that the server runs, and correct {VARIABLE}.")
    problem, fix = found or (f"does not work ({shorten(error.orig, 120)})", "Look at the database.")
    return _wrong(shown_url(url), problem, f"{fix} {_PLANNING}")


def _wrong(value: str, problem: str, fix: str) -> PlanError:
    return PlanError("database", value, problem, fix)
