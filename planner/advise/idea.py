"""An idea: a change of a run in words, not judged yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Change = dict[str, Any]
"""Dotted path of a run-file field to its new value; None resets the field to its default."""


@dataclass(frozen=True, slots=True)
class Idea:
    """A change in words, and what kind of change it is."""

    title: str
    topic: str
    change: Change
