"""What an answer must satisfy: deadline, budget, global batch, memory margin, and what is best among those that do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from planner.errors import PlanError
from planner.run import Run
from planner.units import format_seconds, format_usd

Objective = Literal["time", "cost", "energy"]
OBJECTIVES: tuple[Objective, ...] = ("time", "cost", "energy")


@dataclass(frozen=True)
class Constraints:
    """deadline [s] · budget [USD] · min_batch, max_batch: sequences of a global batch · margin: share of the usable memory that must stay free;
    None asks that the whole 90 % interval of the peak fits · objective: what to minimise; None: see `goal`."""

    deadline: float | None = None
    budget: float | None = None
    min_batch: int | None = None
    max_batch: int | None = None
    margin: float | None = None
    objective: Objective | None = None

    @property
    def goal(self) -> Objective:
        """What is minimised: cost where only a deadline is set, else time."""
        if self.objective is not None:
            return self.objective
        return "cost" if self.deadline is not None and self.budget is None else "time"

    def check(self, run: Run) -> None:
        """Raises `PlanError` for limits that nothing can satisfy or that the run gives no measure for."""
        for name, limit in (("deadline", self.deadline), ("budget", self.budget)):
            if limit is None:
                continue
            if not (math.isfinite(limit) and limit > 0):
                raise PlanError(name, limit, "is not above 0", f"Give a {name} above 0, or leave it out.")
            if run.data is None:
                raise PlanError(
                    name, limit, "needs to know how much is trained on", "Add data to the run, for example data: {tokens: 10M}."
                )
        if self.margin is not None and not 0 <= self.margin < 1:
            raise PlanError("margin", self.margin, "is no share of the memory", "Give a number from 0 to below 1, such as 0.1.")
        for name, size in (("min-batch", self.min_batch), ("max-batch", self.max_batch)):
            if size is not None and size < 1:
                raise PlanError(name, size, "is no number of sequences", "Give 1 or more.")
        if self.min_batch is not None and self.max_batch is not None and self.min_batch > self.max_batch:
            raise PlanError(
                "min-batch", self.min_batch, f"contradicts max-batch {self.max_batch}: no batch is that large and that small",
                "Lower min-batch or raise max-batch.",
            )  # fmt: skip

    def fit(self, fits: NDArray[np.int8], reserved: NDArray[np.float64], usable: float | None) -> NDArray[np.bool_]:
        """Which peaks [bytes] are small enough. fits: 1 fits, 0 too close to call, -1 does not fit."""
        if usable is None:
            return np.ones(reserved.shape, dtype=bool)
        if self.margin is None:
            return np.asarray(fits == 1)
        return reserved <= (1.0 - self.margin) * usable

    def describe(self, what: str) -> str:
        """A limit in words."""
        return {
            "deadline": f"the deadline of {format_seconds(self.deadline)}",
            "budget": f"the budget of {format_usd(self.budget)}",
        }[what]


def text_of(value: Any) -> str:
    """A field's values in a message."""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
