"""The engine's constants while a fit tries others, and where a fit keeps what it found: the shipped table, and one set of values a fold."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from planner.estimate import constants as engine_constants

CONSTANTS: Final = Path(engine_constants.__file__).with_name("data") / "constants.json"
Table = dict[str, Any]


@contextmanager
def changeable(names: Iterable[str]) -> Iterator[Table]:
    """The table that the engine reads, for changes to these constants; they are undone in the end."""
    table = engine_constants._table()
    before = copy.deepcopy({name: table[name] for name in names})
    try:
        yield table
    finally:
        table.update(before)


def write_table(put: Callable[[Table, str, float], None], values: Mapping[str, float], path: Path = CONSTANTS) -> None:
    """Put fitted values, to three digits, into ``constants.json``; everything else in it stays."""
    table: Table = json.loads(path.read_text(encoding="utf-8"))
    for name, value in values.items():
        put(table, name, float(f"{value:.3g}"))
    path.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_folds(path: Path) -> list[dict[str, float]]:
    """The values of each fold as the last fit wrote them."""
    values: list[dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))
    return values


def write_folds(by_fold: Sequence[Mapping[str, float]], path: Path) -> None:
    """Keep the values of each fold, to four digits."""
    rounded = [{name: float(f"{value:.4g}") for name, value in fold.items()} for fold in by_fold]
    path.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")
