"""Logs by their names on disk: files as they are, and of a run's folder the logs that stand in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from planner.errors import PlanError
from planner.logs.reader import read
from planner.logs.record import Record
from planner.logs.source import Source

MAX_LOGS: Final = 20
MAX_NAMES: Final = 5000
"""Files of a folder that are looked at."""
_ENDS: Final = (".json", ".jsonl", ".csv", ".log", ".txt", ".out", ".err")


def read_files(names: Sequence[str]) -> list[Record]:
    """Records of the logs that are named. Of a folder: what can be read in it, of several `trainer_state.json` the longest run's. Raises `PlanError`."""
    if not names:
        raise PlanError("log", "", "is not given", "Name one log or several of one run.")
    found: list[Record] = []
    for name in names:
        path = Path(name).expanduser()
        found += _folder(path) if _is_folder(path) else [read(Source(name, path=path))]
    if len(found) > MAX_LOGS:
        raise PlanError("log", len(found), f"are more than {MAX_LOGS}", "Name those of one run.")
    return found


def read_uploads(uploads: Iterable[tuple[str, bytes]]) -> list[Record]:
    """Records of logs that were uploaded or pasted: (name, content). Raises `PlanError`."""
    given = list(uploads)
    if len(given) > MAX_LOGS:
        raise PlanError("log", len(given), f"are more than {MAX_LOGS}", "Give those of one run.")
    return [read(Source(name, content)) for name, content in given]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _folder(folder: Path) -> list[Record]:
    found: list[Record] = []
    looked = 0
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith("."))[:200]
        for name in sorted(names):
            looked += 1
            if looked > MAX_NAMES:
                break
            path = Path(root) / name
            if not name.startswith("events.out.tfevents") and not (name.endswith(_ENDS) and "config" not in name and "tokenizer" not in name):
                continue
            try:
                found.append(read(Source(str(path.relative_to(folder)), path=path)))
            except PlanError:
                continue  # a folder holds much that is no log
    states = [one for one in found if one.reader == "trainer_state"]
    if len(states) > 1:  # one stands in every checkpoint
        longest = max(states, key=lambda one: len(one.points))
        found = [one for one in found if one.reader != "trainer_state" or one is longest]
    if not found:
        raise PlanError("log", str(folder), "holds no log that a reader knows", "Name the log itself.")
    return found[:MAX_LOGS]
