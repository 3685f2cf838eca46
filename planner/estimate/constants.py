"""The engine's few physical constants, each with its source, from `data/constants.json`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

_PATH = Path(__file__).with_name("data") / "constants.json"


@cache
def _table() -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = json.loads(_PATH.read_text(encoding="utf-8"))
    return table


def constant(name: str) -> float:
    """Value of a constant [SI]."""
    return float(_table()[name]["value"])


def by_stack(name: str, stack: str) -> float:
    """Value of a constant that differs between training stacks [SI]."""
    entry = _table()[name]
    values = entry["by_stack"]
    assert isinstance(values, dict)
    return float(values.get(stack, entry["value"]))


def sustained(arch: str, capability: float | None) -> float:
    """Rate that long training holds over that of short kernel benchmarks, by architecture."""
    return by_architecture("sustained_rate", arch, capability)


def by_architecture(name: str, arch: str, capability: float | None) -> float:
    """Value of a constant that differs between architectures [SI]."""
    entry = _table()[name]
    values = entry["by_architecture"]
    assert isinstance(values, dict)
    return float(values.get(f"{arch} {capability}", values.get(arch, entry["value"])))


def source(name: str) -> str:
    """Where a constant comes from."""
    return str(_table()[name]["source"])
