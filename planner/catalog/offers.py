"""One provider's offer of accelerators by the hour, and the dated snapshot of offers that ships.

`data/SOURCES.md` says which collections the snapshot was taken from and what was left out.
"""

from __future__ import annotations

import datetime as dt
from functools import cache
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from planner.catalog.tables import read_table

Tier = Literal["current", "mixed", "old"]


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
def snapshot() -> tuple[Price, ...]:
    """Offers that ship: on-demand offers, and spot offers where a row has both."""
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
