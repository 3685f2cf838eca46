"""The best configuration under constraints, the Pareto set, and why others were not chosen. Every configuration of the space is looked at."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from planner.estimate.engine import estimate
from planner.estimate.result import Estimate
from planner.search.constraints import OBJECTIVES
from planner.search.evaluate import Evaluator
from planner.search.explain import contradiction, reasons_of
from planner.search.pareto import compared, front
from planner.search.space import Space, complete
from planner.search.tally import Row, Tally

Progress = Callable[[float, int], None]
"""Called with the share of the space that was looked at and the number of configurations evaluated."""
PARETO_SHOWN: Final = 32
"""Estimates of the Pareto set that are returned; the set itself may be larger."""


@dataclass(frozen=True)
class Found:
    """Answer of a search.

    evaluated: configurations that were judged · ruled_out: those of them that do not fit by far, so that their time was not worked out ·
    impossible: those that the engine refuses · seconds: of the search · best: None where nothing satisfies the constraints · pareto: not
    dominated in time, cost, energy and risk; at most `PARETO_SHOWN` of `pareto_size` · next_best: the best by the objective of those that differ
    from the best in more than micro steps · reasons: why it is best, or why nothing is; why the next best was not chosen · complete: whether the
    whole space was looked at · left_out: what was not, in words.
    """

    evaluated: int
    ruled_out: int
    impossible: int
    seconds: float
    best: Estimate | None
    pareto: tuple[Estimate, ...]
    pareto_size: int
    next_best: Estimate | None
    reasons: tuple[str, ...]
    complete: bool
    left_out: tuple[str, ...]
    objective: str

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "evaluated": self.evaluated,
            "seconds": self.seconds,
            "best": None if self.best is None else self.best.model_dump(mode="json"),
            "pareto": [one.model_dump(mode="json") for one in self.pareto],
            "pareto_size": self.pareto_size,
            "next_best": None if self.next_best is None else self.next_best.model_dump(mode="json"),
            "objective": self.objective,
            "reasons": list(self.reasons),
            "ruled_out": self.ruled_out,
            "impossible": self.impossible,
            "complete": self.complete,
            "left_out": list(self.left_out),
        }


def search(
    space: Space,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    patience: float | None = None,
) -> Found:
    """Look at every configuration of a space.

    Arguments
    ---------
    space: the run with the values of its free fields, and the constraints; what is left empty is filled in.
    progress: called after every batch of configurations.
    cancelled: asked after every batch; once it says yes the answer is that of what was looked at.
    patience: after so many seconds [s] the search ends as if it were cancelled.

    Errors: `PlanError` for constraints that nothing can satisfy, and for fields that leave no configuration.
    """
    start = time.perf_counter()
    space.constraints.check(space.run)
    space = complete(space)
    evaluator, tally = Evaluator(space, prune=True), Tally(space)
    staged = [stage for trace in space.traces() for stage in space.stages(trace)]
    done = [0]

    def stopped() -> bool:
        late = patience is not None and time.perf_counter() - start > patience
        return late or (cancelled is not None and cancelled())

    def cells() -> Any:
        for i, one in enumerate(staged):
            if stopped():
                return
            done[0] = i
            yield from space.cells(one)
        done[0] = len(staged)

    for figures in evaluator.figures(cells()):
        tally.add(figures)
        if progress is not None:
            progress(done[0] / max(1, len(staged)), tally.evaluated + evaluator.ruled_out)
    tally.reduce()
    return answer(space, evaluator, tally, start, done[0] / len(staged) if staged else 1.0)


def answer(space: Space, evaluator: Evaluator, tally: Tally, start: float, share: float) -> Found:
    """What follows from all that was looked at. start: of the search, by `time.perf_counter` [s] · share: of the space that was looked at.

    Errors: `PlanError` for a space in which there is nothing to look at.
    """
    if not tally.evaluated + evaluator.ruled_out + evaluator.impossible and share == 1:
        raise contradiction(space)
    goal = space.constraints.goal
    ranked = sorted(tally.kept, key=lambda row: _rank(row, goal))
    best = ranked[0] if ranked else None
    second = next((row for row in ranked[1:] if best is not None and _different(row, best)), None)
    values = compared(*(np.array([getattr(row, name) for row in ranked]) for name in ("time", "cost", "energy", "chance")))
    pareto = [ranked[i] for i in front(values).tolist()] if ranked else []
    shown = _spread(pareto, best)

    def whole(row: Row | None) -> Estimate | None:
        if row is None:
            return None
        return estimate(space.run_of(row.choice, row.gpus, row.steps), space.profile_of(row.choice.gpu))

    left_out = list(space.left_out)
    if share < 1:
        left_out.insert(0, f"Stopped early: about {1 - share:.0%} of the space was not looked at.")
    if evaluator.slow:
        left_out.append(f"No answer, only speed: {evaluator.slow:,} configurations were estimated one by one.")
    if len(shown) < len(pareto):
        left_out.append(f"{len(pareto) - len(shown)} of the {len(pareto)} configurations of the Pareto set are not listed.")
    found = tuple(one for row in shown if (one := whole(row)) is not None)
    return Found(
        tally.evaluated + evaluator.ruled_out,
        evaluator.ruled_out,
        evaluator.impossible,
        time.perf_counter() - start,
        whole(best),
        found,
        len(pareto),
        whole(second),
        tuple(reasons_of(space, tally, evaluator, best, second)),
        share >= 1,
        tuple(left_out),
        goal,
    )


def _spread(pareto: list[Row], best: Row | None) -> list[Row]:
    """At most `PARETO_SHOWN` of the set, evenly along time; the best always."""
    if len(pareto) <= PARETO_SHOWN:
        return pareto
    picked = {round(i * (len(pareto) - 1) / (PARETO_SHOWN - 1)) for i in range(PARETO_SHOWN)}
    rows = [row for i, row in enumerate(pareto) if i in picked]
    return rows if best is None or best in rows or best not in pareto else [best, *rows[1:]]


def _rank(row: Row, goal: str) -> tuple[float, ...]:
    """Order of candidates: the objective, then the other figures, then fewer accelerators, then less risk."""
    def known(value: float) -> float:
        return math.inf if math.isnan(value) else value

    others = [known(getattr(row, name)) for name in OBJECTIVES if name != goal]
    return (known(getattr(row, goal)), *others, row.gpus, -known(row.chance))


def _different(row: Row, best: Row) -> bool:
    return row.choice != best.choice or row.gpus != best.gpus
