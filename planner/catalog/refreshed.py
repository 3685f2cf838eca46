"""Prices that were asked for again on this machine: one file in the user's data folder, read by whoever prices a run.

A file that cannot be read is never an empty one: the shipped snapshot stands in, and `problem` says why.
"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from planner.catalog.offers import Price
from planner.files import data_folder, write_whole

FILE: Final = "prices.json"
LARGEST: Final = 16 * 2**20
"""More bytes than a few thousand offers take: a larger file is not ours."""


class PriceFile(BaseModel):
    """Offers of the providers that were asked again. asked: the day on which each last answered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    asked: dict[str, dt.date]
    offers: tuple[Price, ...]


class Refreshed(NamedTuple):
    """What the file holds; empty, with a sentence, where it cannot be read."""

    offers: tuple[Price, ...] = ()
    asked: dict[str, dt.date] = {}  # noqa: RUF012 - nobody writes into it
    problem: str = ""
    stamp: str = ""
    """What tells one state of the file from another."""


def price_file() -> Path:
    """Where refreshed prices are kept."""
    return data_folder() / FILE


def read_refreshed() -> Refreshed:
    """Refreshed prices of this machine, as the file stands now."""
    path = price_file()
    try:
        stamp = path.stat()
    except FileNotFoundError:
        return Refreshed()
    except OSError as error:
        return Refreshed(problem=f"{path} cannot be read: {error.strerror or error}")
    return _read(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=4)
def _read(path: Path, modified: int, size: int) -> Refreshed:
    if size > LARGEST:
        return Refreshed(problem=f"{path} is larger than any list of prices: refresh them again, or delete it")
    try:
        held = PriceFile.model_validate_json(path.read_bytes())
    except OSError as error:
        return Refreshed(problem=f"{path} cannot be read: {error.strerror or error}")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        return Refreshed(problem=f"{path} is not a list of prices ({where}: {first['msg']}): refresh them again, or delete it")
    return Refreshed(held.offers, held.asked, stamp=f"{path}:{modified}:{size}")


def write_refreshed(offers: tuple[Price, ...], asked: dict[str, dt.date]) -> Path:
    """Replace the file at once. Raises `OSError` where the folder cannot be written."""
    path = price_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, PriceFile(asked=asked, offers=offers).model_dump_json(indent=1))
    return path
