"""Stores to test with: a SQLite file, and a real PostgreSQL that the tests start from Debian's package."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from planner.store import Store, open_store


def _programs() -> Path | None:
    """Folder of initdb and pg_ctl."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    there = shutil.which("initdb")
    return Path(there).resolve().parent if there else None


class Postgres:
    """A PostgreSQL of our own in a folder, on a port that nothing else uses."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._data, self._log = programs, folder / "data", folder / "log"
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self._port = int(listener.getsockname()[1])
        self._as: list[str] = []
        if os.getuid() == 0:  # it refuses to run as root
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._as = ["runuser", "-u", "postgres", "--"]
        self._run("initdb", "-D", str(self._data), "-U", "plumbline", "--auth=trust", "-E", "UTF8", "--no-sync")
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run([*self._as, str(self._programs / program), *arguments], capture_output=True, text=True, timeout=120, cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._data} -c fsync=off"
        self._run("pg_ctl", "-D", str(self._data), "-l", str(self._log), "-o", options, "-w", "start")

    def stop(self, how: str = "fast") -> None:
        """Stop it; "immediate" is a crash."""
        self._run("pg_ctl", "-D", str(self._data), "-m", how, "-w", "stop")

    def url(self, database: str = "postgres") -> str:
        """Address of a database in it."""
        return f"postgresql://plumbline@127.0.0.1:{self._port}/{database}"

    def create(self, database: str) -> str:
        """A new database, and its address."""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self._port), "-U", "plumbline", database)
        return self.url(database)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL."""
    programs = _programs()
    if programs is None:
        if os.environ.get("CI"):
            pytest.fail("the tests need PostgreSQL (Debian's package postgresql)")
        pytest.skip("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory(prefix="plumbline-postgres-") as folder:  # pytest's own folders are closed to its user
        server = Postgres(programs, Path(folder))
        yield server
        server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of an empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'saved.sqlite'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.create(f"t{abs(hash(str(tmp_path)))}")


@pytest.fixture
def opened() -> Iterator[Callable[[str], Store]]:
    """Opens stores, and closes them at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda url: stack.enter_context(open_store(url))


@pytest.fixture
def store(url: str, opened: Callable[[str], Store]) -> Store:
    """An empty store."""
    return opened(url)
