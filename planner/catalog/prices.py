"""Prices: what cloud providers ask for one accelerator for one hour.

A price is a fact of one day. Every row carries its date, provider and source. The offers that ship are a dated snapshot; a provider that
was asked again since (`planner prices --refresh`) stands with its newer offers alone. One's own contract always beats both.
"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from itertools import groupby
from typing import Final

from planner.catalog.accelerators import find_accelerator
from planner.catalog.offers import Price, snapshot
from planner.catalog.refreshed import read_refreshed

_ENOUGH_PROVIDERS: Final = 3


def prices() -> tuple[Price, ...]:
    """All offers: on-demand offers, and spot offers where a row has both; of a provider that was asked again only the newer ones."""
    return _merged(read_refreshed().stamp)


@lru_cache(maxsize=2)
def _merged(_stamp: str) -> tuple[Price, ...]:
    newer = read_refreshed().offers
    asked = {offer.provider for offer in newer}
    return (*(offer for offer in snapshot() if offer.provider not in asked), *newer)


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
    state = read_refreshed()
    offer = _offer(state.stamp, find_accelerator(accelerator_name).name, None if provider is None else provider.strip().casefold(), spot)
    if offer is None or not state.problem:
        return offer
    return offer.model_copy(update={"source": f"{offer.source}; refreshed prices were left out: {state.problem}"})


@lru_cache(maxsize=4096)
def _offer(stamp: str, name: str, provider: str | None, spot: bool) -> Price | None:
    part = find_accelerator(name)
    offers = [o for o in _merged(stamp) if o.spot == spot and (provider is None or o.provider == provider)]
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
