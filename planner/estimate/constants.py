"""The engine's few physical constants, each with its source, from `data/constants.json`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

_PATH = Path(__file__).with_name("data") / "constants.json"


@cache
def _table() -> dict[str, dict[str, float | str]]:
    table: dict[str, dict[str, float | str]] = json.loads(_PATH.read_text(encoding="utf-8"))
    return table


def constant(name: str) -> float:
    """Value of a constant [SI]."""
    return float(_table()[name]["value"])


def source(name: str) -> str:
    """Where a constant comes from."""
    return str(_table()[name]["source"])
