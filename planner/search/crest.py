"""The highest point of a step's memory, without the curve: a walk that remembers one figure instead of every moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from planner.estimate.arrays import most
from planner.estimate.memory import ACTIVATIONS, LOGITS, WORKSPACE, Walk

PASSING = (ACTIVATIONS, LOGITS, WORKSPACE)


@dataclass
class Crest(Walk):
    """Walks one micro step. highest: live bytes of all components at most [bytes]; an array where a share in `persistent` is one.

    passing: the same of what neither gradients nor communication are, which no sharding changes: the least that any walk reaches.
    """

    highest: Any = 0.0
    passing: float = 0.0
    _here: Any = None
    """Highest of the block that is walked."""
    _passing: float = 0.0

    def _note(self, phase: str, place: str, extra: float = 0.0) -> None:
        total = sum(self.live) + extra
        self._here = total if self._here is None else most(self._here, total)
        live = self.live
        self._passing = max(self._passing, live[ACTIVATIONS] + live[LOGITS] + live[WORKSPACE] + extra)

    def _place(self, start: int, count: int) -> None:
        if self._here is None:
            return
        self.highest = most(self.highest, self._here)
        self.passing = max(self.passing, self._passing)
        if count == 1:
            self._here, self._passing = None, 0.0

    def _shift(self, start: int, change: list[float], count: int) -> None:
        """The moments of the last of the equal blocks are those of the first, all higher or all lower."""
        if self._here is not None:
            self.highest = most(self.highest, self._here + (count - 1) * sum(change))
            self.passing = max(self.passing, self._passing + (count - 1) * sum(change[i] for i in PASSING))
            self._here, self._passing = None, 0.0
