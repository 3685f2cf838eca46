"""Files that others read while they are written, and the folder that what the user keeps stands in."""

from __future__ import annotations

import os
from pathlib import Path


def data_folder() -> Path:
    """Where measurements and saved work are kept: PLANNER_DATA, else the user's data folder."""
    given = os.environ.get("PLANNER_DATA")
    if given:
        return Path(given)
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "plumbline"


def write_whole(path: Path, text: str) -> None:
    """Replace a file at once: who reads it meanwhile, or after a crash, finds the old text or the new, never half of one."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
