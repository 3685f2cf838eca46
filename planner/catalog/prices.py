"""Prices: a dated snapshot of what cloud providers ask for one accelerator for one hour.

A price is a fact of one day. Every row carries its date, provider and source; `data/SOURCES.md` says which collections
were taken and which were left out. A live price or one's own contract always beats this table.
"""

from __future__ import annotations

import datetime as dt
from functools import cache
from itertools import groupby
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from planner.catalog.accelerators import find_accelerator
from planner.catalog.tables import read_table

Tier = Literal["current", "mixed", "old"]
_ENOUGH_PROVIDERS: Final = 3


class Price(BaseModel):
    """Price of one accelerator for one hour at one provider.

    Equation: usd_per_gpu_hour = price of the instance [USD/h] / its accelerators.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    accelerator: str = Field(description="Catalogue name, or a family name where the offer does not tell the form.")
    provider: str
    instance: str
    gpus: int = Field(ge=1, description="Accelerators of the instance.")
    usd_per_gpu_hour: float = Field(gt=0, description="[USD/h] per accelerator.")
    spot: bool = Field(description="Interruptible capacity.")
    region: str
    date: dt.date
    tier: Tier = Field(
        description="current: one provider's list price; mixed: may include spot offers; old: before 2025-06."
    )
    source: str


@cache
def prices() -> tuple[Price, ...]:
    """All offers of the snapshot: on-demand offers, and spot offers where a row has both."""
    offers: list[Price] = []
    for row in read_table("prices.csv"):
        for column, spot in (("usd_per_gpu_hour", False), ("spot_usd_per_gpu_hour", True)):
            if row[column]:
                offers.append(
                    Price.model_validate(
                        {
                            **{
                                key: row[key]
                                for key in ("accelerator", "provider", "instance", "gpus", "region", "date", "tier")
                            },
                            "usd_per_gpu_hour": float(row[column]),
                            "spot": spot,
                            "source": f"{row['source']} ({row['licence']})",
                        }
                    )
                )
    return tuple(offers)


def price_for(accelerator_name: str, provider: str | None = None, spot: bool = False) -> Price | None:
    """The offer that stands for an accelerator, or None when the snapshot has none.

    Rule: take each provider's newest offers for this very part, or else for its family ("H100" of any form), and of
    these the provider's median; then the median over providers. A median of an even number is the lower of the two
    middle offers, so the answer is always a real offer. List prices come first; collections that may mix in spot
    offers are used when fewer than three providers are left without them, snapshots before 2025-06 only when there is
    nothing newer.

    Arguments
    ---------
    accelerator_name: any name that `find_accelerator` accepts.
    provider: only this provider's offers; case does not count.
    spot: interruptible offers instead of on-demand ones.

    Errors
    ------
    PlanError: the accelerator is not in the catalogue.
    """
    part = find_accelerator(accelerator_name)
    offers = [o for o in prices() if o.spot == spot and (provider is None or o.provider == provider.strip().casefold())]
    exact = [o for o in offers if o.accelerator == part.name]
    family = [o for o in offers if o.accelerator in part.family_names]
    for tiers in (("current",), ("current", "mixed"), ("current", "mixed", "old")):
        by_provider = _per_provider([o for o in family if o.tier in tiers])
        by_provider |= _per_provider([o for o in exact if o.tier in tiers])
        enough = 1 if provider is not None or "mixed" in tiers else _ENOUGH_PROVIDERS
        if len(by_provider) >= enough:
            return _lower_median(list(by_provider.values()))
    return None


def providers_of(accelerator_name: str) -> tuple[str, ...]:
    """Providers with an offer for an accelerator, sorted.

    Errors
    ------
    PlanError: the accelerator is not in the catalogue.
    """
    part = find_accelerator(accelerator_name)
    names = {part.name, *part.family_names}
    return tuple(sorted({offer.provider for offer in prices() if offer.accelerator in names}))


def snapshot_date() -> dt.date:
    """Date of the newest row."""
    return max(offer.date for offer in prices())


def _per_provider(offers: list[Price]) -> dict[str, Price]:
    chosen: dict[str, Price] = {}
    for provider, group in groupby(sorted(offers, key=lambda o: o.provider), key=lambda o: o.provider):
        rows = list(group)
        newest = max(row.date for row in rows)
        chosen[provider] = _lower_median([row for row in rows if row.date == newest])
    return chosen


def _lower_median(offers: list[Price]) -> Price:
    return sorted(offers, key=lambda o: (o.usd_per_gpu_hour, o.provider, o.instance))[(len(offers) - 1) // 2]
