"""What other processes do to a store while a test looks: python -m tests.store.writers FUNCTION ARGUMENT…"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from planner.store import open_store

ROOT = Path(__file__).resolve().parents[2]


def start(function: str, *arguments: object) -> subprocess.Popen[bytes]:
    """A process that does one of the functions below."""
    return subprocess.Popen([sys.executable, "-m", "tests.store.writers", function, *map(str, arguments)], cwd=ROOT)


def save_many(url: str, entry: str, who: str, count: str) -> None:
    """New revisions of one entry, and entries of its own."""
    with open_store(url) as store:
        for i in range(int(count)):
            store.save("plan", f"writer {who}", {"who": int(who), "i": i}, entry=entry)
            store.save("probe", f"writer {who}", {"who": int(who), "i": i})


def look(url: str) -> None:
    """Open it, and fail where anything stands there."""
    with open_store(url) as store:
        assert store.find() == []


def save_on_and_on(url: str, told: str) -> None:
    """Save until killed, and say what was saved."""
    store = open_store(url)
    i = 0
    while True:
        store.save("plan", "x", {"i": i})
        with Path(told).open("a") as file:  # said only after the save returned
            file.write(f"{i}\n")
        i += 1


if __name__ == "__main__":
    {"save_many": save_many, "look": look, "save_on_and_on": save_on_and_on}[sys.argv[1]](*sys.argv[2:])
