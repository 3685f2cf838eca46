"""The highest point of a step's memory, without the curve: a walk that remembers one figure instead of every moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from planner.estimate.arrays import most
from planner.estimate.memory import Walk


@dataclass
class Crest(Walk):
    """Walks one micro step. highest: live bytes of all components at most [bytes]; an array where a share in `persistent` is one."""

    highest: Any = 0.0
    _here: Any = None
    """Highest of the block that is walked."""

    def _note(self, phase: str, place: str, extra: float = 0.0) -> None:
        total = sum(self.live) + extra
        self._here = total if self._here is None else most(self._here, total)

    def _place(self, start: int, count: int) -> None:
        if self._here is None:
            return
        self.highest = most(self.highest, self._here)
        if count == 1:
            self._here = None

    def _shift(self, start: int, change: list[float], count: int) -> None:
        """The moments of the last of the equal blocks are those of the first, all higher or all lower."""
        if self._here is not None:
            self.highest = most(self.highest, self._here + (count - 1) * sum(change))
            self._here = None
