"""Money, energy and carbon of a whole run, from its seconds.

Rented: GPU-hours · price, of a reservation all its hours. Own hardware: (purchase / (lifetime · utilization) + upkeep) for every hour used, and electricity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from planner.catalog import DEFAULT_PUE, DEFAULT_PUE_SOURCE, find_grid, price_for
from planner.errors import PlanError
from planner.estimate.arrays import most
from planner.estimate.resolve import Resolved
from planner.run import PriceChoice

HOUR = 3600.0
YEAR_HOURS = 8766.0
MONTH_HOURS = YEAR_HOURS / 12
IDLE_SHARE = 0.3
"""Board power when memory-bound or waiting, as a share of the limit: assumed; calibration measures power."""
BUSY_SHARE = 0.9
"""Board power in dense matrix products, as a share of the limit: assumed."""
HOST_WATTS = 200.0
"""Host, memory and network per accelerator [W]: assumed for an 8-GPU server that draws 10.2 kW with 8 × 700 W accelerators at load, less the fans' share."""


@dataclass(frozen=True)
class Rate:
    """usd_per_gpu_hour with where it comes from; None when no price is known."""

    usd_per_gpu_hour: float | None
    provider: str
    date: str
    source: str


def hourly_rate(resolved: Resolved) -> Rate:
    """The user's price, or the catalog's. Raises `PlanError` for a provider that has no offer."""
    choice = resolved.run.price
    if choice.own.purchase_usd is not None:
        return Rate(owned_usd_per_hour(choice), "own hardware", "", "purchase, lifetime and utilization as given in the run")
    if choice.usd_per_gpu_hour is not None:
        return Rate(choice.usd_per_gpu_hour, "your price", "", "given in the run")
    if resolved.fleet:
        return _mean_rate(resolved)
    if resolved.accelerator is None:
        return Rate(None, "", "", "no price is known for a device outside the catalog")
    name = resolved.accelerator.name.removesuffix(" (edited)")
    offer = price_for(name, choice.provider, choice.spot)
    if offer is None and choice.provider is not None:
        raise PlanError(
            "price.provider",
            choice.provider,
            f"has no {'spot ' if choice.spot else ''}offer for {name} in the catalog",
            "Give usd_per_gpu_hour, or leave it out.",
        )
    if offer is None:
        return Rate(
            None,
            "",
            "",
            f"the dated catalog has no {'spot ' if choice.spot else ''}offer for {name}: give price.usd_per_gpu_hour",
        )
    return Rate(offer.usd_per_gpu_hour, offer.provider, offer.date.isoformat(), offer.source)


def _mean_rate(resolved: Resolved) -> Rate:
    """Price of a mixed fleet's mean accelerator; None where one of them has none."""
    rates = [(m.share, hourly_rate(replace(resolved, accelerator=m.accelerator, fleet=()))) for m in resolved.fleet]
    total = 0.0
    for share, rate in rates:
        if rate.usd_per_gpu_hour is None:
            return rate
        total += share * rate.usd_per_gpu_hour
    providers, sources = (", ".join(dict.fromkeys(words)) for words in ([r.provider for _, r in rates], [r.source for _, r in rates]))
    return Rate(total, providers, min(rate.date for _, rate in rates), f"mean of the fleet: {sources}")


def owned_usd_per_hour(choice: PriceChoice) -> float:
    """What an hour of use of one accelerator of one's own costs, without electricity [USD/h]: (purchase / (lifetime · utilization) + upkeep)."""
    own = choice.own
    yearly = (own.purchase_usd or 0.0) / own.lifetime_years + own.usd_per_gpu_year
    return yearly / (YEAR_HOURS * own.utilization)


def usd_per_hour(r: Resolved, rate: Rate, watts: Power) -> float | None:
    """What a GPU-hour costs, electricity of own hardware included [USD/h]."""
    own = r.run.price.own
    if rate.usd_per_gpu_hour is None or own.purchase_usd is None:
        return rate.usd_per_gpu_hour
    if watts.board_w is None:
        return None
    return rate.usd_per_gpu_hour + (watts.board_w + watts.host_w) * watts.pue / 1000 * own.usd_per_kwh


class Bill(NamedTuple):
    """Cost [USD], energy [kWh], GPU-hours, the power behind the energy, and the cost by line [USD]; None where unknown."""

    cost: Any
    energy: Any
    hours: Any
    watts: Power
    lines: dict[str, Any]


def bill(r: Resolved, rate: Rate, gpu_seconds: Any, busy: Any) -> Bill:
    """What so many seconds of accelerators [s] cost; numbers or arrays. busy: fraction of them spent in matrix products and attention [1].

    Reservations, storage and egress are of a whole run: without data there is none, and they are left out.
    """
    choice, whole = r.run.price, r.run.data is not None
    hours = None if gpu_seconds is None else gpu_seconds / HOUR
    watts = power(r, busy)
    energy = (
        None if hours is None or watts.board_w is None else hours * (watts.board_w + watts.host_w) * watts.pue / 1000
    )
    if hours is None or rate.usd_per_gpu_hour is None:
        return Bill(None, energy, hours, watts, {})
    lines: dict[str, Any] = {}
    if choice.own.purchase_usd is not None:
        lines["ownership"] = hours * rate.usd_per_gpu_hour
        if energy is None:
            return Bill(None, energy, hours, watts, {})
        lines["electricity"] = energy * choice.own.usd_per_kwh
    else:
        paid = hours
        if choice.reserved_days is not None and whole:
            paid = most(hours, choice.reserved_days * 24.0 * r.run.hardware.gpus)
        lines["compute"] = paid * rate.usd_per_gpu_hour
    if whole and choice.storage_tb is not None and choice.usd_per_tb_month is not None:
        lines["storage"] = hours / r.run.hardware.gpus / MONTH_HOURS * choice.storage_tb * choice.usd_per_tb_month
    if whole and choice.egress_tb is not None and choice.usd_per_tb_egress is not None:
        lines["egress"] = choice.egress_tb * choice.usd_per_tb_egress + 0.0 * hours
    return Bill(sum(lines.values()), energy, hours, watts, lines)


@dataclass(frozen=True)
class Power:
    """Mean power of one accelerator [W], its host's share [W], PUE [1] and grid intensity [kg CO2e/kWh], each with its source."""

    board_w: float | None
    host_w: float
    pue: float
    pue_source: str
    intensity: float
    intensity_source: str


def _board_limit(resolved: Resolved) -> float | None:
    """Power limit of one accelerator, of a mixed fleet the mean [W]."""
    limits = [(m.share, m.accelerator.tdp_w) for m in resolved.fleet]
    if limits:
        return None if any(w is None for _, w in limits) else sum(share * (w or 0.0) for share, w in limits)
    return resolved.accelerator.tdp_w if resolved.accelerator is not None else None


def power(resolved: Resolved, matmul_share: float) -> Power:
    """Power by operation mix: matrix products draw near the limit, memory-bound and waiting time far less.

    matmul_share: fraction of the step spent in matrix products and attention [1].
    """
    energy = resolved.run.energy
    limit = _board_limit(resolved)
    board = None if limit is None else limit * (IDLE_SHARE + (BUSY_SHARE - IDLE_SHARE) * matmul_share)
    if energy.kg_co2e_per_kwh is not None:
        intensity, where = energy.kg_co2e_per_kwh, "given in the run"
    else:
        grid = find_grid(energy.country, "energy.country") if energy.country else find_grid()
        intensity, where = grid.kg_co2e_per_kwh, f"{grid.country} {grid.year}: {grid.source}"
    pue = energy.pue if energy.pue is not None else DEFAULT_PUE
    return Power(
        board, HOST_WATTS, pue, "given in the run" if energy.pue is not None else DEFAULT_PUE_SOURCE, intensity, where
    )
