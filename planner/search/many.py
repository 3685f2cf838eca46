"""A run whose accelerators and micro steps are arrays: what the engine's formulas get in place of many runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from planner.estimate.arrays import Several
from planner.estimate.resolve import Resolved
from planner.run import Run
from planner.search.space import Site


class Altered:
    """An object of the run with some attributes replaced, by arrays where many runs are meant."""

    def __init__(self, base: Any, **changes: Any) -> None:
        self.__dict__.update(changes)
        self.__dict__["base"] = base

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["base"], name)


def altered(r: Resolved, there: Resolved, dp: Any, **changes: Any) -> Resolved:
    """A resolved run with parts replaced, on the connections of another."""
    return replace(r, run=cast(Run, Altered(r.run, dp=dp, **changes)), topology=there.topology)


def many_of(r: Resolved, sites: tuple[Site, ...], steps: NDArray[np.int64]) -> Resolved:
    """The run with a column of accelerators and a row of micro steps in place of the two numbers."""
    p = r.run.parallel
    counts: Any = np.array([site.count for site in sites], dtype=np.int64)[:, None].view(Several)
    if len(counts) == 1 and counts[0, 0] == 1:
        counts = 1
    hardware = Altered(r.run.hardware, gpus=counts)
    batch = Altered(r.run.batch, accumulation=steps[None, :].view(Several))
    return altered(r, r, counts // (p.tp * p.pp * p.cp), hardware=hardware, batch=batch)


def with_steps(r: Resolved, steps: NDArray[np.int64]) -> Resolved:
    """The run with another row of micro steps."""
    return altered(r, r, r.run.dp, batch=Altered(r.run.batch, accumulation=steps[None, :].view(Several)))
