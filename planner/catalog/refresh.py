"""Asks cloud providers' current prices through gpuhunt, and keeps of the answer what can be believed.

The network is slow, down, or wrong now and then, so what was known is only replaced by something better: a provider that does not answer keeps
its last good offers, an offer that cannot be right is left out and counted, and an answer without a single good offer changes nothing.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
import math
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from typing import Any, Final, NamedTuple

from planner import units
from planner.catalog.accelerators import Accelerator, accelerators, normalise
from planner.catalog.offers import Price, snapshot
from planner.catalog.refreshed import price_file, read_refreshed, write_refreshed
from planner.errors import PlanError, shorten

TIMEOUT_S: Final = 120.0
CREDIBLE: Final = 10.0
"""An offer further than this factor from the shipped offers for the same part is a slip of the list, not a price."""
LARGEST_ANSWER: Final = 256 * 2**20
MEMORY_TOLERANCE: Final = 0.12
"""Lists round memory (B200: 180 or 192 GB) and mix GB with GiB; parts of one name differ by more."""
NAMES: Final = {"lambdalabs": "lambda", "vastai": "vast.ai"}
"""Providers that the shipped offers call otherwise."""

Ask = Callable[[Sequence[str], float], str]


class Outcome(NamedTuple):
    """What a refresh did. offers: good offers by provider · left_out: offers by reason · kept: providers whose earlier offers still stand."""

    offers: dict[str, int]
    left_out: dict[str, int]
    kept: tuple[str, ...]
    date: dt.date


def refresh(providers: Sequence[str] = (), timeout_s: float = TIMEOUT_S, ask: Ask | None = None, today: dt.date | None = None) -> Outcome:
    """Ask for current prices and keep them for later plans of this machine.

    Arguments
    ---------
    providers: gpuhunt's names of those to ask; all whose lists need no account when empty.
    timeout_s: the whole of it is given up after this time [s], and nothing is changed.
    ask: what asks, in tests.

    Errors
    ------
    PlanError: gpuhunt is not installed, did not answer in time, failed, or answered nothing that can be believed.
    """
    date = today or dt.date.today()
    offers, left_out = _believable(_items((ask or _ask)(providers, timeout_s)), date)
    if not offers:
        told = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "it is empty"
        raise PlanError("prices", "gpuhunt", f"answered without one offer that can be used ({told})", "The prices at hand stay; try again later.")
    answered = {offer.provider for offer in offers}
    before = read_refreshed()
    old = tuple(offer for offer in before.offers if offer.provider not in answered)
    asked = {p: day for p, day in before.asked.items() if p not in answered} | dict.fromkeys(sorted(answered), date)
    try:
        write_refreshed((*old, *offers), asked)
    except OSError as error:
        where = str(price_file().parent)
        raise PlanError("data folder", where, f"cannot be written: {error.strerror or error}", "Name another one in PLANNER_DATA.") from None
    counted = Counter(offer.provider for offer in offers)
    return Outcome(dict(sorted(counted.items())), left_out, tuple(sorted({offer.provider for offer in old})), date)


def _ask(providers: Sequence[str], timeout_s: float) -> str:
    """The answer of gpuhunt in a process of its own, as JSON."""
    if importlib.util.find_spec("gpuhunt") is None:
        raise PlanError("prices", "gpuhunt", "is not installed", "Install it with `pip install gpuhunt`, or `pip install '.[prices]'` here.")
    command = [sys.executable, "-m", "planner.catalog.gpuhunt_offers", *providers]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        problem = f"did not answer within {timeout_s:g} s"
        raise PlanError("prices", "gpuhunt", problem, "The prices at hand stay; try again later, or with a longer --timeout.") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        problem = f"failed: {shorten(said[-1] if said else f'exit code {done.returncode}', 200)}"
        raise PlanError("prices", "gpuhunt", problem, "The prices at hand stay; look at the network and the names of the providers.")
    return done.stdout


def _items(answer: str) -> list[dict[str, Any]]:
    try:
        if len(answer) > LARGEST_ANSWER:
            raise ValueError("too large")
        items = json.loads(answer)["items"]
        if not isinstance(items, list):
            raise TypeError("not a list")
    except (ValueError, KeyError, TypeError) as error:
        raise PlanError("prices", "gpuhunt", f"answered something else than offers: {shorten(error, 100)}", "Install a newer gpuhunt.") from None
    return [item for item in items if isinstance(item, dict)]


def _believable(items: Sequence[dict[str, Any]], date: dt.date) -> tuple[tuple[Price, ...], dict[str, int]]:
    """One offer for each instance of each provider, the median of its regions, and what was left out by reason."""
    left_out: Counter[str] = Counter()
    good: list[Price] = []
    for item in items:
        offer = _offer(item, date)
        if isinstance(offer, str):
            left_out[offer] += 1
        else:
            good.append(offer)
    middle: list[Price] = []
    for _, group in groupby(sorted(good, key=_of_instance), key=_of_instance):
        regions = sorted(group, key=lambda o: (o.usd_per_gpu_hour, o.region))
        middle.append(regions[(len(regions) - 1) // 2])
    asked = {(o.provider, o.instance, o.accelerator): o.usd_per_gpu_hour for o in middle if not o.spot}
    listed = tuple(o for o in middle if not o.spot or o.usd_per_gpu_hour < asked.get((o.provider, o.instance, o.accelerator), math.inf))
    if len(listed) < len(middle):
        left_out["spot at or above the on-demand price"] += len(middle) - len(listed)
    return listed, dict(left_out)


def _of_instance(offer: Price) -> tuple[str, str, str, bool]:
    return offer.provider, offer.instance, offer.accelerator, offer.spot


def _offer(item: dict[str, Any], date: dt.date) -> Price | str:
    """An offer of the list as one of ours, or why it is left out."""
    price, gpus = item.get("price"), item.get("gpu_count")
    provider, instance = (str(item.get(key) or "")[:100] for key in ("provider", "instance_name"))
    if not provider or not isinstance(gpus, int) or isinstance(gpus, bool) or not 1 <= gpus <= 1024:
        return "without a whole number of accelerators"
    if isinstance(price, bool) or not isinstance(price, (int, float)) or not math.isfinite(price) or price <= 0:
        return "without a price"
    provider = NAMES.get(provider.casefold(), provider.casefold())
    if str(item.get("vendor") or "").casefold() == "google":
        return "TPU slices, whose chips are not told"
    memory = item.get("gpu_memory")
    told = float(memory) if isinstance(memory, (int, float)) and not isinstance(memory, bool) else 0.0
    name = _known(provider, instance) or _named(str(item.get("gpu_name") or ""), told)
    if not name:
        return "of accelerators that the catalogue does not tell apart"
    usual, each = _usual(name), price / gpus
    if usual is not None and not usual / CREDIBLE <= each <= usual * CREDIBLE:
        return f"more than {CREDIBLE:g} times off the usual price"
    return Price(
        accelerator=name,
        provider=provider,
        instance=instance,
        gpus=gpus,
        usd_per_gpu_hour=each,
        spot=item.get("spot") is True,
        region=str(item.get("location") or "")[:100],
        date=date,
        tier="current",
        source="gpuhunt (MPL-2.0)",
    )


@cache
def _known(provider: str, instance: str) -> str:
    """The part of an instance that the shipped offers know: they tell SXM from PCIe where a list says "H100"."""
    names = {o.accelerator for o in snapshot() if instance and o.provider == provider and o.instance == instance}
    return names.pop() if len(names) == 1 else ""


@cache
def _named(listed: str, memory_gb: float) -> str:
    """Catalogue name, or the family name with its memory, of what a list calls "A100" with 40 GB; empty where several parts remain."""
    if not memory_gb > 0:
        return ""
    spelt = f"{listed} {memory_gb:g}GB"
    named = _called(listed) or _called(spelt) or _called(f"{listed} SXM", shared=False)
    fitting = [p for p in named if _holds(p, memory_gb)]
    if len(fitting) == 1:
        return fitting[0].name
    shared = set.intersection(*({normalise(n) for n in p.family_names} for p in fitting)) if fitting else set()
    return spelt if normalise(spelt) in shared else ""


def _called(name: str, shared: bool = True) -> list[Accelerator]:
    """Parts with this name, alias or (shared) family name."""
    return [p for p in accelerators() if normalise(name) in map(normalise, (p.name, *p.aliases, *(p.family_names if shared else ())))]


def _holds(part: Accelerator, memory_gb: float) -> bool:
    sticker = part.memory_bytes / units.GIB
    return abs(memory_gb / sticker - 1) <= MEMORY_TOLERANCE


@cache
def _usual(name: str) -> float | None:
    """Median of the shipped on-demand offers for a part or family [USD/h]; None where fewer than three are known."""
    known = [o.usd_per_gpu_hour for o in snapshot() if o.accelerator == name and not o.spot]
    return statistics.median(known) if len(known) >= 3 else None
