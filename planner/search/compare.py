"""Several runs side by side: ranked, with what each gains or loses against the first, and which of them nothing beats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from planner.errors import PlanError
from planner.estimate.chance import chance_of_fit
from planner.estimate.result import Estimate
from planner.search.constraints import Objective
from planner.search.figures import figures_of
from planner.search.pareto import compared, front

FIGURES: Final = ("time", "cost", "energy", "reserved")


@dataclass(frozen=True)
class Compared:
    """One run among others.

    rank: from 1 among those that fit or may fit, None for one that does not · time [s], cost [USD], energy [kWh]: of the whole run, or of one
    sample where a run says no data; None where unknown · reserved: peak memory [bytes] · chance that it fits, None where the memory is not
    known · efficient: no other run that fits or may fit is better in time, cost, energy and risk · deltas: figure minus that of the baseline.
    """

    name: str
    estimate: Estimate
    rank: int | None
    time: float | None
    cost: float | None
    energy: float | None
    reserved: float
    chance: float | None
    efficient: bool
    deltas: dict[str, float | None]

    def document(self) -> dict[str, Any]:
        """For JSON."""
        kept = ("name", "rank", "time", "cost", "energy", "reserved", "chance", "efficient", "deltas")
        return {name: getattr(self, name) for name in kept} | {"estimate": self.estimate.model_dump(mode="json")}


def chance_of(one: Estimate) -> float | None:
    """Probability that an estimate's run fits."""
    if one.usable_memory_bytes is None:
        return None
    low, high = one.peak_memory_interval_bytes
    reserved = one.peak_reserved_bytes
    return float(chance_of_fit(reserved, one.usable_memory_bytes, low / reserved, high / reserved))


def compare(runs: Sequence[tuple[str, Estimate]], objective: Objective = "time") -> tuple[Compared, ...]:
    """Runs in the order of the objective: those that fit, those too close to call, those that do not fit. The first given is the baseline.

    Arguments
    ---------
    runs: name and estimate of each; times are compared per sample unless all say how much is trained on.
    objective: what ranks them.

    Errors: `PlanError` for fewer than two runs.
    """
    if len(runs) < 2:
        raise PlanError("runs", len(runs), "is no comparison", "Give two runs or more.")
    whole = all(one.total_time_s is not None for _, one in runs)
    figures = [figures_of(one, whole) for _, one in runs]
    chances = [chance_of(one) for _, one in runs]

    def known(value: float | None) -> float:
        return math.inf if value is None else value

    order = {True: 0, None: 1, False: 2}
    ranked = sorted(
        range(len(runs)),
        key=lambda i: (order[runs[i][1].fits], known(figures[i][objective]), *(known(figures[i][name]) for name in FIGURES)),
    )
    fitting = [i for i in ranked if runs[i][1].fits is not False]
    efficient: set[int] = set()
    if fitting:
        time, cost, energy = ([known(figures[i][name]) for i in fitting] for name in ("time", "cost", "energy"))
        chance = [1.0 if (p := chances[i]) is None else p for i in fitting]
        efficient = {fitting[i] for i in front(compared(time, cost, energy, chance)).tolist()}
    found = []
    for i in ranked:
        mine, first = figures[i], figures[0]
        deltas = {
            name: None if (a := mine[name]) is None or (b := first[name]) is None else a - b for name in FIGURES
        }
        found.append(
            Compared(
                runs[i][0], runs[i][1], fitting.index(i) + 1 if i in fitting else None, mine["time"], mine["cost"],
                mine["energy"], runs[i][1].peak_reserved_bytes, chances[i], i in efficient, deltas,
            )
        )  # fmt: skip
    return tuple(found)
