"""What other processes do to a store while a test looks."""

from __future__ import annotations

from pathlib import Path

from planner.store import open_store


def save_many(url: str, entry: str, who: int, count: int) -> None:
    """New revisions of one entry, and entries of its own."""
    with open_store(url) as store:
        for i in range(count):
            store.save("plan", f"writer {who}", {"who": who, "i": i}, entry=entry)
            store.save("probe", f"writer {who}", {"who": who, "i": i})


def count(url: str) -> int:
    """Entries there."""
    with open_store(url) as store:
        return len(store.find())


def save_on_and_on(url: str, told: str) -> None:
    """Save until killed, and say what was saved."""
    store = open_store(url)
    i = 0
    while True:
        store.save("plan", "x", {"i": i})
        with Path(told).open("a") as file:  # said only after the save returned
            file.write(f"{i}\n")
        i += 1
