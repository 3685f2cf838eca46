"""Whether a plan keeps within limits: memory, money, time, energy, emissions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from planner import units
from planner.estimate.result import Estimate
from planner.summary import verdict


@dataclass(frozen=True, slots=True)
class Limits:
    """What a plan may take; None is no limit.

    cost_usd [USD] · time_s [s] of the whole run · memory_bytes reserved on one accelerator [bytes] · energy_kwh [kWh] · co2e_kg [kg] ·
    sure: the upper end of the 90 % interval must keep within them · close: a plan that is too close to call may pass.
    """

    cost_usd: float | None = None
    time_s: float | None = None
    memory_bytes: float | None = None
    energy_kwh: float | None = None
    co2e_kg: float | None = None
    sure: bool = False
    close: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """One limit and whether it holds. value: what was compared, None where the estimate does not know it, which does not hold."""

    name: str
    limit: float | None
    value: float | None
    holds: bool
    text: str

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "limit": self.limit, "value": self.value, "holds": self.holds, "text": self.text}


def check_limits(one: Estimate, limits: Limits) -> tuple[Check, ...]:
    """The fit and every limit that was given, in order. With `sure`, time, cost, energy and emissions are multiplied by
    upper end / middle of the step time's interval, and memory is the upper end of its own."""
    state, sentence = verdict(one)
    fits = one.fits is True or (one.fits is None and state == "close" and limits.close)
    found = [Check("fits", None, None, fits, sentence + "." + ("" if fits or one.fits is False else " That is no yes: --close lets it pass."))]
    ratio = 1.0
    if limits.sure and one.step_time_s and one.step_time_interval_s is not None:
        ratio = one.step_time_interval_s[1] / one.step_time_s
    memory = one.peak_memory_interval_bytes[1] if limits.sure else one.peak_reserved_bytes

    def scaled(value: float | None) -> float | None:
        return None if value is None else value * ratio

    asked: tuple[tuple[str, str, float | None, float | None, Callable[[float | None], str]], ...] = (
        ("memory", "Peak memory", limits.memory_bytes, memory, units.format_bytes),
        ("deadline", "Time to train", limits.time_s, scaled(one.total_time_s), units.format_seconds),
        ("cost", "Cost", limits.cost_usd, scaled(one.cost_usd), units.format_usd),
        ("energy", "Energy", limits.energy_kwh, scaled(one.energy_kwh), units.format_energy),
        ("co2e", "Emissions", limits.co2e_kg, scaled(one.co2e_kg), units.format_mass),
    )
    for name, label, limit, value, text in asked:
        if limit is None:
            continue
        if value is None:
            found.append(Check(name, limit, None, False, f"{label} is not known, and {text(limit)} is the limit."))
            continue
        holds = value <= limit
        which = " (upper end of the 90 % interval)" if limits.sure else ""
        found.append(Check(name, limit, value, holds, f"{label}: {text(value)}{which}, {'within' if holds else 'over'} {text(limit)}."))
    return tuple(found)
