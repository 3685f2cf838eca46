"""Electricity: what a kilowatt-hour emits by country, and what a data centre draws beside its computers."""

from __future__ import annotations

import difflib
from functools import cache
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from planner.catalog.tables import read_table
from planner.errors import PlanError

WORLD: Final = "WLD"
DEFAULT_PUE: Final = 1.56
"""Power usage effectiveness [kWh of the site per kWh of the computers] when nothing is said."""
DEFAULT_PUE_SOURCE: Final = (
    "industry average, Uptime Institute Global Data Center Survey 2024; large cloud providers report 1.1 to 1.2"
)


class Grid(BaseModel):
    """Yearly mean carbon intensity of a country's electricity generation."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    code: str = Field(min_length=3, max_length=3, description="ISO 3166-1 alpha-3; WLD for the world.")
    country: str
    kg_co2e_per_kwh: float = Field(gt=0, description="[kgCO2e/kWh] of electricity generated, life cycle.")
    year: int
    source: str


@cache
def grids() -> tuple[Grid, ...]:
    """The world's mean first, then countries by code."""
    return tuple(
        Grid(
            code=row["iso_code"],
            country=row["country"],
            kg_co2e_per_kwh=float(row["kg_co2e_per_kwh"]),
            year=int(row["year"]),
            source=row["source"],
        )
        for row in read_table("grid.csv")
    )


def find_grid(name: str = WORLD, field: str = "country") -> Grid:
    """The grid of a country by its ISO 3166-1 alpha-3 code or its name; case does not count.

    Errors
    ------
    PlanError: the country is not in the table, with the closest names.
    """
    if not isinstance(name, str) or not name.strip():
        raise PlanError(field, name, "is not a country", 'Write a code such as "FRA" or a name such as "France".')
    wanted = " ".join(name[:100].split()).casefold()
    index = _index()
    if wanted in index:
        return index[wanted]
    close = dict.fromkeys(index[key].country for key in difflib.get_close_matches(wanted, index, 6, 0))
    raise PlanError(field, name, "is not in the table of countries", f"The closest are {', '.join(list(close)[:3])}.")


@cache
def _index() -> dict[str, Grid]:
    """Grids by code and by name, lower case."""
    return {key.casefold(): grid for grid in grids() for key in (grid.code, grid.country)}
