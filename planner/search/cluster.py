"""The same search on a Ray cluster (Moritz et al. 2018, arXiv:1712.05889): parts of the space as tasks, their tallies joined in the order of the space.

Ray places the tasks, and runs those of a worker that died again; nothing of that is written here. A part is a few traces with their stages, so that what
configurations share is still worked out once. Workers need the same version of this package.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from planner.errors import PlanError, shorten
from planner.search.evaluate import Evaluator
from planner.search.search import Found, Progress, answer
from planner.search.space import Choice, Space, complete
from planner.search.tally import Row, Tally

PARTS_A_CORE: Final = 8
"""Parts of the space for every core: enough that the last ones end together, and that a lost one is little."""
REACH_SECONDS: Final = 5.0
RETRIES: Final = 5
"""Times that Ray runs a part again whose worker died."""


@dataclass(frozen=True)
class Part:
    """What one task remembers of its part of the space. worker: the process that looked at it."""

    evaluated: int
    fitting: int
    kept: list[Row]
    missed: dict[str, Row]
    smallest: Row | None
    impossible: int
    ruled_out: int
    slow: int
    nearest: tuple[float, Choice, int, int] | None
    problems: dict[str, PlanError]
    worker: str


def look(space: Space, staged: list[Choice]) -> Part:
    """Look at all configurations of some traces with their stages."""
    evaluator, tally = Evaluator(space, prune=True), Tally(space)
    for figures in evaluator.figures(cell for one in staged for cell in space.cells(one)):
        tally.add(figures)
    tally.reduce()
    return Part(
        tally.evaluated, tally.fitting, tally.kept, tally.missed, tally.smallest, evaluator.impossible, evaluator.ruled_out, evaluator.slow,
        evaluator.nearest, evaluator.problems, f"{os.uname().nodename}:{os.getpid()}" if hasattr(os, "uname") else str(os.getpid()),
    )  # fmt: skip


def join(space: Space, parts: list[Part]) -> tuple[Evaluator, Tally]:
    """The tally of all parts, given in the order of the space: of equal configurations the first stays, as in one process."""
    evaluator, tally, goal = Evaluator(space, prune=True), Tally(space), space.constraints.goal
    for part in parts:
        tally.evaluated += part.evaluated
        tally.fitting += part.fitting
        tally.kept += part.kept
        for limit, row in part.missed.items():
            if limit not in tally.missed or getattr(row, goal) < getattr(tally.missed[limit], goal):
                tally.missed[limit] = row
        if part.smallest is not None and (tally.smallest is None or part.smallest.reserved < tally.smallest.reserved):
            tally.smallest = part.smallest
        evaluator.impossible += part.impossible
        evaluator.ruled_out += part.ruled_out
        evaluator.slow += part.slow
        if part.nearest is not None and (evaluator.nearest is None or part.nearest[0] < evaluator.nearest[0]):
            evaluator.nearest = part.nearest
        for name, problem in part.problems.items():
            evaluator.problems.setdefault(name, problem)
    tally.reduce()
    return evaluator, tally


def search_on_ray(
    space: Space,
    address: str | None = None,
    progress: Progress | None = None,
    patience: float | None = None,
    seen: Callable[[Part], None] | None = None,
) -> Found:
    """Look at every configuration of a space on a Ray cluster; the answer is that of `search`.

    Arguments
    ---------
    space, progress, patience: as for `search`; patience counts from when the cluster is there [s].
    address: of a running cluster ("auto", "host:6379", "ray://host:10001"); left out, one is started on this machine and stopped at the end.
    seen: called with every part as it ends.

    Errors: `PlanError` as in `search`, without Ray, and where the cluster cannot be reached.
    """
    space.constraints.check(space.run)
    space = complete(space)
    ray = _ray(address)
    own = not ray.is_initialized()
    if own:
        _start(ray, address)
    try:
        return _spread(ray, space, progress, patience, seen)
    finally:
        if own:
            ray.shutdown()


def _spread(
    ray: Any, space: Space, progress: Progress | None, patience: float | None, seen: Callable[[Part], None] | None
) -> Found:
    start = time.perf_counter()
    staged = [stage for trace in space.traces() for stage in space.stages(trace)]
    cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
    size = max(1, math.ceil(len(staged) / (PARTS_A_CORE * cores)))
    task, shared = ray.remote(max_retries=RETRIES)(look), ray.put(space)
    order = {task.remote(shared, staged[i : i + size]): i for i in range(0, len(staged), size)}
    ended: dict[int, Part] = {}
    looked = evaluated = 0
    waiting = list(order)
    while waiting and (patience is None or time.perf_counter() - start < patience):
        done, waiting = ray.wait(waiting, num_returns=1, timeout=None if patience is None else max(0.01, patience - (time.perf_counter() - start)))
        for reference in done:
            at = order[reference]
            part: Part = ray.get(reference)
            ended[at] = part
            looked += len(staged[at : at + size])
            evaluated += part.evaluated + part.ruled_out
            if seen is not None:
                seen(part)
        if progress is not None:
            progress(looked / max(1, len(staged)), evaluated)
    for reference in waiting:
        ray.cancel(reference, force=True)
    evaluator, tally = join(space, [ended[at] for at in sorted(ended)])
    return answer(space, evaluator, tally, start, looked / len(staged) if staged else 1.0)


def _ray(address: str | None) -> Any:
    try:
        import ray
    except ImportError:
        raise PlanError("ray", address or "", "needs the library ray", 'pip install "ray[default]", or search without --ray.') from None
    return ray


def _reach(address: str | None) -> None:
    """Refuse a cluster that nothing answers for: Ray itself waits for a minute and then ends the process."""
    host, colon, port = (address or "").rpartition("://")[2].rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise PlanError(
            "ray", address, f"does not answer ({type(error).__name__})", "Give the address of a running cluster, or none to start one on this machine."
        ) from None


def _start(ray: Any, address: str | None) -> None:
    _reach(address)
    try:
        ray.init(address=address, include_dashboard=None if address else False, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError, TimeoutError, OSError) as error:
        raise PlanError(
            "ray", address or "", f"cannot be used ({shorten(error, 120)})", "Give the address of a running cluster, or none to start one on this machine."
        ) from None
