"""Why the best is best, why the next best was not chosen, why nothing is left."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from typing import Any

from planner.errors import PlanError
from planner.estimate.engine import estimate
from planner.search.constraints import Constraints, text_of
from planner.search.evaluate import Evaluator
from planner.search.figures import figures_of
from planner.search.space import POWERS, Space, complete
from planner.search.tally import Row, Tally
from planner.units import format_bytes, format_energy, format_percent, format_seconds, format_usd

FLAGS = {
    "gpus": "gpu", "counts": "gpus", "methods": "method", "sequence_parallel": "sequence-parallel", "virtual_pp": "virtual-pp",
}  # fmt: skip
"""Names of a space's fields as the command line has them."""
SAME = 5e-4
"""A figure that is no further above the best is as much."""
_WORDS = {"time": "time", "cost": "cost", "energy": "energy"}


def words_of(space: Space, row: Row) -> str:
    """A configuration in a few words."""
    c = row.choice
    parts = [f"{row.gpus} × {c.gpu}"]
    if len(space.methods) > 1:
        parts.append(space.methods[c.method].name)
    parts += [f"{name} {getattr(c, name)}" for name in ("tp", "pp", "cp", "ep") if getattr(c, name) > 1]
    if c.virtual_pp > 1:
        parts.append(f"{c.virtual_pp} chunks a stage")
    if c.sequence_parallel:
        parts.append("sequence parallel")
    parts += [f"micro batch {c.micro} × {row.steps}"]
    if c.sharding != "none":
        parts.append(c.sharding)
    if c.checkpointing != "none":
        parts.append(f"{c.checkpointing} checkpointing")
    if c.offload != "none":
        parts.append(f"{c.offload} on the host")
    return ", ".join(parts)


def figure(space: Space, goal: str, value: float) -> str:
    """A figure of the objective in words; NaN is that of a run that no segment of which would end."""
    if math.isnan(value):
        return f"no known {_WORDS[goal]}"
    text = format_seconds(value) if goal == "time" else format_usd(value) if goal == "cost" else format_energy(value)
    return text if space.run.data is not None else f"{text} a sample"


def reasons_of(space: Space, tally: Tally, evaluator: Evaluator, best: Row | None, second: Row | None) -> Iterator[str]:
    """Sentences: why the best is best or why nothing is, and what stood in the way of others."""
    goal = space.constraints.goal
    if best is None:
        yield from _nothing(space, tally, evaluator)
    else:
        yield f"Best by {_WORDS[goal]}: {words_of(space, best)} takes {figure(space, goal, getattr(best, goal))}."
        batch = best.choice.micro * best.steps * (best.gpus // (best.choice.tp * best.choice.pp * best.choice.cp))
        if batch > space.least_batch and space.constraints.max_batch is None:
            yield f"Its global batch is {batch:,} sequences where {space.least_batch:,} are asked for at least; max-batch bounds it."
    if best is not None and second is not None:
        a, b = getattr(best, goal), getattr(second, goal)
        more = "as much" if b <= a * (1 + SAME) else f"{format_percent(b / a - 1, 2)} more"
        yield f"Next best: {words_of(space, second)} takes {more} {_WORDS[goal]} ({figure(space, goal, b)}){_beside(goal, best, second)}."
    for limit, row in tally.missed.items():
        if best is not None and getattr(row, goal) >= getattr(best, goal):
            continue
        less = figure(space, goal, getattr(row, goal))
        yield f"Not chosen, {less}: {words_of(space, row)}, since it {_misses(space.constraints, limit, row)}."


def _beside(goal: str, best: Row, second: Row) -> str:
    """What else differs."""
    notes = []
    for name, text in (("cost", format_usd), ("time", format_seconds)):
        if name == goal:
            continue
        a, b = getattr(best, name), getattr(second, name)
        if a > 0 and b > 0 and abs(b / a - 1) > 0.01:
            notes.append(f"{text(b)} instead of {text(a)}")
    return f", {' and '.join(notes)}" if notes else ""


def _misses(limits: Constraints, limit: str, row: Row) -> str:
    if limit != "memory":
        value = format_seconds(row.time) if limit == "deadline" else format_usd(row.cost)
        return f"takes {value}, beyond {limits.describe(limit)}"
    if limits.margin:
        return f"needs {format_bytes(row.reserved)} of {format_bytes(row.usable)}, with {format_percent(limits.margin)} to stay free"
    if row.reserved > row.usable:
        return f"needs {format_bytes(row.reserved)} and each accelerator has {format_bytes(row.usable)}"
    return f"is too close to call: {format_bytes(row.reserved)} of {format_bytes(row.usable)}, {format_percent(row.chance, 2)} likely to fit"


def _nothing(space: Space, tally: Tally, evaluator: Evaluator) -> Iterator[str]:
    limits = space.constraints
    judged = tally.evaluated + evaluator.ruled_out
    if not judged:
        yield "No configuration can be planned."
        for error in evaluator.problems.values():
            yield str(error)
        return
    if not tally.fitting:
        yield f"Nothing fits: of {judged:,} configurations none leaves enough memory."
        rows = [row for row in (tally.smallest, _ruled_out(space, evaluator)) if row is not None]
        if rows:
            row = min(rows, key=lambda row: row.reserved)
            yield (
                f"The smallest needs {format_bytes(row.reserved)} of {format_bytes(row.usable)} on each accelerator: "
                f"{words_of(space, row)}."
            )
        return
    named = [limits.describe(name) for name in ("deadline", "budget") if getattr(limits, name) is not None]
    if len(named) < 2:
        yield f"{tally.fitting:,} of {judged:,} configurations fit, and none of them meets {named[0]}."
        return
    yield f"{tally.fitting:,} of {judged:,} configurations fit, and none of them meets {named[0]} and {named[1]}."
    late, dear = (name in tally.missed for name in ("deadline", "budget"))  # within the budget but late; in time but dear
    if late and dear:
        yield f"These two contradict each other: each can be met alone, and {named[0][4:]} not within {named[1]}."
    elif late or dear:
        yield f"{named[late].capitalize()} can be met alone; nothing that fits meets {named[not late]}."
    else:
        yield "Neither can be met, not even alone."


def _ruled_out(space: Space, evaluator: Evaluator) -> Row | None:
    """The smallest of what was ruled out, estimated."""
    if evaluator.nearest is None:
        return None
    _, choice, gpus, steps = evaluator.nearest
    one = estimate(space.run_of(choice, gpus, steps), space.profile_of(choice.gpu))
    figures = {name: math.nan if value is None else value for name, value in figures_of(one).items()}
    figures.pop("seconds")
    return Row(choice, gpus, steps, chance=0.0, usable=one.usable_memory_bytes or math.nan, **figures)


def contradiction(space: Space) -> PlanError:
    """Which restriction, or which two or three, leave no configuration: found by lifting the others."""
    limits = space.constraints
    named: dict[str, Any] = {name: getattr(space, name) for name in space.given}
    named |= {n: v for n in ("min_batch", "max_batch") if (v := getattr(limits, n)) is not None}
    for size in (1, 2, 3):
        for names in combinations(named, size):
            if not _any_left(space, names):
                return _error(names, named)
    return PlanError("search", text_of(space.given), "leave no configuration together", "Lift one of them.")


def _error(names: tuple[str, ...], named: dict[str, Any]) -> PlanError:
    first = names[0]
    flag = FLAGS.get(first, first).replace("_", "-")
    if len(names) == 1:
        return PlanError(flag, text_of(named[first]), "leaves no configuration", "Give other values, or leave it out.")
    others = " with ".join(f"{FLAGS.get(name, name).replace('_', '-')} {text_of(named[name])}" for name in names[1:])
    together = "no configuration has both" if len(names) == 2 else "no configuration has all three"
    return PlanError(flag, text_of(named[first]), f"contradicts {others}: {together}", "Lift one of them.")


def _any_left(space: Space, names: tuple[str, ...]) -> bool:
    keep = {name: getattr(space, name) for name in names if name not in ("min_batch", "max_batch")}
    keep |= {name: getattr(space, name) for name in ("gpus", "methods")}
    if "counts" not in names:
        keep["counts"] = tuple(sorted({*space.counts, *POWERS}))
    limits = Constraints(**{name: getattr(space.constraints, name) for name in names if name in ("min_batch", "max_batch")})
    freed = complete(Space(space.run, **keep, constraints=limits, profile=space.profile, providers=space.providers))
    return next(iter(freed), None) is not None
