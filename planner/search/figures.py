"""Figures of configurations, as a search compares them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.estimate.chance import chance_of_fit
from planner.estimate.result import Estimate
from planner.search.pieces import Floats
from planner.search.space import Cell


@dataclass(frozen=True)
class Figures:
    """Figures of a cell's configurations; rows are sites, columns numbers of micro steps.

    seconds of a step · time of the whole run, or of one sample where no data is given [s] · cost [USD] and energy [kWh] of the same, NaN where
    unknown · reserved: peak memory [bytes], with the ratios of measured to predicted peak that hold 90 % of the runs, by row · usable [bytes] ·
    fits: 1 yes, 0 too close to call, -1 no.
    """

    cell: Cell
    seconds: Floats
    time: Floats
    cost: Floats
    energy: Floats
    reserved: Floats
    low: Floats
    high: Floats
    usable: float | None
    fits: NDArray[np.int8]

    def chance(self, where: NDArray[np.bool_]) -> Floats:
        """Probability that the masked configurations fit."""
        low, high = (np.broadcast_to(ratio, where.shape)[where] for ratio in (self.low, self.high))
        reserved = self.reserved[where]
        if self.usable is None:
            return np.full(reserved.shape, np.nan)
        found: Floats = chance_of_fit(reserved, self.usable, low, high)
        return found


def figures_of(one: Estimate, whole: bool = True) -> dict[str, float | None]:
    """The figures of a single estimate, in a search's terms. whole: of the whole run where it says data, else of one sample."""
    batch = one.run.batch.micro * one.run.batch.accumulation * one.run.dp
    seconds = one.step_time_s
    time, cost, energy = one.total_time_s, one.cost_usd, one.energy_kwh
    if (time is None or not whole) and seconds is not None:
        time = seconds / batch
        price, watts = one.details["price"], one.details["watts_per_gpu"]
        hours = time * one.run.hardware.gpus / 3600
        cost = None if price is None else hours * price["usd_per_gpu_hour"]
        energy = None if watts is None else hours * watts / 1000
    return {"seconds": seconds, "time": time, "cost": cost, "energy": energy, "reserved": one.peak_reserved_bytes}
