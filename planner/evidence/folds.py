"""Folds for judging on rows that were not used: whole groups stay together, by a hash that never changes."""

from __future__ import annotations

import zlib
from typing import Final

from planner.evidence.rows import Row

FOLDS: Final = 5


def group_of(row: Row) -> str:
    """Rows of one source, model, accelerator and method share their quirks; one group never stands on both sides of a split."""
    return "|".join((row.source_group, row.model or row.hf_id or "", row.gpu or "", row.method or "full"))


def fold_of(row: Row) -> int:
    """Fold of the row's group, 0 to 4: CRC-32 of its name modulo five."""
    return zlib.crc32(group_of(row).encode()) % FOLDS
