"""What a search remembers of all configurations: those that nothing beats, and the best of those that miss one constraint."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.search.figures import Figures
from planner.search.pareto import compared, front
from planner.search.space import Choice, Space

MANY: Final = 20_000
"""Candidates that are gathered before they are compared."""
RUNNERS: Final = 64
"""The first by the objective that are remembered beside the Pareto set."""


class Row(NamedTuple):
    """One configuration with its figures; NaN where unknown."""

    choice: Choice
    gpus: int
    steps: int
    time: float
    cost: float
    energy: float
    chance: float
    reserved: float
    usable: float


@dataclass
class Tally:
    """What is remembered of all configurations: candidates that satisfy everything, and the best that miss one constraint."""

    space: Space
    evaluated: int = 0
    fitting: int = 0
    rows: list[tuple[Figures, NDArray[Any], NDArray[Any]]] = field(default_factory=list)
    kept: list[Row] = field(default_factory=list)
    missed: dict[str, Row] = field(default_factory=dict)
    smallest: Row | None = None
    _waiting: int = 0

    def add(self, figures: Figures) -> None:
        """Look at the configurations of a cell."""
        limits, cell = self.space.constraints, figures.cell
        allowed = cell.allowed
        self.evaluated += int(allowed.sum())
        fit = limits.fit(figures.fits, figures.reserved, figures.usable) & allowed
        quick = fit if limits.deadline is None else fit & (figures.time <= limits.deadline)
        cheap = fit if limits.budget is None else fit & (figures.cost <= limits.budget)
        good = quick & cheap
        self._note("memory", figures, allowed & ~fit & _within(figures, limits.deadline, limits.budget))
        self._note("deadline", figures, cheap & ~quick)
        self._note("budget", figures, quick & ~cheap)
        if not fit.any() and not self.fitting:
            at = np.unravel_index(np.argmin(np.where(allowed, figures.reserved, np.inf)), allowed.shape)
            if self.smallest is None or figures.reserved[at] < self.smallest.reserved:
                self.smallest = _row(figures, at)
        self.fitting += int(fit.sum())
        if good.any():
            places = np.nonzero(good)
            values = compared(figures.time[good], figures.cost[good], figures.energy[good], figures.chance(good))
            here = front(values)
            self.rows.append((figures, np.column_stack(places)[here], values[here]))
            self._waiting += len(here)
            if self._waiting > MANY:
                self.reduce()

    def reduce(self) -> None:
        """Keep of the candidates what no other dominates, and the first few by the objective."""
        fresh = [_row(figures, tuple(place)) for figures, places, _ in self.rows for place in places.tolist()]
        self.rows, self._waiting = [], 0
        rows = self.kept + fresh
        if not rows:
            return
        values = compared(*(np.array([getattr(row, name) for row in rows]) for name in ("time", "cost", "energy", "chance")))
        wanted = set(front(values).tolist())
        goal = np.array([getattr(row, self.space.constraints.goal) for row in rows])
        wanted.update(np.argsort(np.where(np.isnan(goal), np.inf, goal), kind="stable")[:RUNNERS].tolist())
        self.kept = [rows[i] for i in sorted(wanted)]

    def _note(self, limit: str, figures: Figures, where: NDArray[np.bool_]) -> None:
        """The best by the objective among those that miss one limit alone."""
        if not where.any():
            return
        goal = self.space.constraints.goal
        values = np.where(where, getattr(figures, goal), np.inf)
        values = np.where(np.isnan(values), np.inf, values)
        at = np.unravel_index(np.argmin(values), values.shape)
        known = self.missed.get(limit)
        if np.isfinite(values[at]) and (known is None or values[at] < getattr(known, goal)):
            self.missed[limit] = _row(figures, at)


def _within(figures: Figures, deadline: float | None, budget: float | None) -> Any:
    good: Any = True
    if deadline is not None:
        good = figures.time <= deadline
    if budget is not None:
        good = good & (figures.cost <= budget)
    return good


def _row(figures: Figures, at: tuple[Any, ...]) -> Row:
    i, j = int(at[0]), int(at[1])
    cell = figures.cell
    mask = np.zeros(cell.allowed.shape, dtype=bool)
    mask[i, j] = True
    return Row(
        cell.choice, cell.sites[i].count, int(cell.steps[j]), float(figures.time[i, j]), float(figures.cost[i, j]),
        float(figures.energy[i, j]), float(figures.chance(mask)[0]), float(figures.reserved[i, j]),
        math.nan if figures.usable is None else figures.usable,
    )  # fmt: skip
