"""Figures of configurations, as a search compares them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from planner.estimate.result import Estimate
from planner.search.pieces import Floats
from planner.search.space import Cell

QUANTILE: Final = NormalDist().inv_cdf(0.95)


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
        return chance_of_fit(self.reserved[where], self.usable, low, high)


def chance_of_fit(reserved: Floats, usable: float | None, low: Floats, high: Floats) -> Floats:
    """Probability that the true peak is below the usable memory.

    low, high: ratios of measured to predicted peak that hold 90 % of the runs. The logarithm of the ratio is taken as normal with its
    5 % and 95 % quantiles there and its centre at 1, each side with its own width.
    """
    if usable is None:
        return np.full(np.shape(reserved), np.nan)
    room = np.log(usable / reserved)
    width = np.where(room >= 0, np.log(np.maximum(high, 1.0 + 1e-6)), -np.log(np.minimum(low, 1.0 - 1e-6)))
    return _normal(QUANTILE * room / width)


def _normal(z: Floats) -> Floats:
    """Cumulative normal distribution."""
    return np.array([0.5 * math.erfc(-value) for value in (z / math.sqrt(2.0)).tolist()])


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
