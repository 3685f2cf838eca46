"""`planner prices`: what providers ask for an accelerator, how old the figures are, and asking again."""

from __future__ import annotations

import argparse
from typing import Any

from planner import units
from planner.catalog import find_accelerator, price_for, prices, providers_of, snapshot_date
from planner.catalog.refresh import TIMEOUT_S, refresh
from planner.catalog.refreshed import price_file, read_refreshed
from planner.cli.inputs import add_json
from planner.cli.output import emit_json, table, wrapped

NAME = "prices"
HELP = "what providers ask for an accelerator and how old that is; --refresh asks again"
DESCRIPTION = (
    "Offers of the catalogue for one accelerator, or how old the prices of each provider are. --refresh asks for current list prices through gpuhunt "
    "(network); what cannot be right is left out and counted, and a provider that does not answer keeps its last good prices."
)


def arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    command.add_argument("gpu", nargs="?", metavar="GPU", help="an accelerator of the catalogue; all providers when left out")
    command.add_argument("--refresh", action="store_true", help="ask for current prices first")
    command.add_argument("--provider", action="append", default=[], metavar="NAME", help="refresh: ask only this provider; may be repeated")
    command.add_argument("--timeout", metavar="SECONDS", default=f"{TIMEOUT_S:g}", help="refresh: give up after this long")
    add_json(command)


def execute(options: argparse.Namespace) -> None:
    """Ask again where wanted, then print."""
    part = find_accelerator(options.gpu, "GPU").name if options.gpu else None
    done = refresh(options.provider, units.parse_number(options.timeout, "--timeout", above_zero=True)) if options.refresh else None
    state = read_refreshed()
    asked = {provider: day.isoformat() for provider, day in state.asked.items()}
    document: dict[str, Any] = {"newest": snapshot_date().isoformat(), "refreshed": asked, "problem": state.problem}
    if done is not None:
        document |= {"asked": {"offers": done.offers, "left_out": done.left_out, "kept": list(done.kept), "date": done.date.isoformat()}}
    offers = [(spot, offer) for name in providers_of(part) for spot in (False, True) if (offer := price_for(part, name, spot))] if part else []
    if options.json:
        emit_json(document | {"offers": [offer.model_dump(mode="json") for _, offer in offers]})
        return
    if done is not None:
        print(wrapped(f"{sum(done.offers.values())} offers of {', '.join(done.offers)}, kept in {price_file()}.", 0))
        for reason, count in done.left_out.items():
            print(f"  left out: {count} {reason}")
        if done.kept:
            print(f"  earlier offers stand for {', '.join(done.kept)}")
        print()
    if state.problem:
        print(wrapped(f"Refreshed prices are left out: {state.problem}.", 0) + "\n")
    print(_of_part(part, offers) if part else _by_provider(state.asked))


def _of_part(part: str, offers: list[tuple[bool, Any]]) -> str:
    if not offers:
        return f"No offer for {part} is known: give your own as price.usd_per_gpu_hour."
    rows = [("Provider", "Instance", "Region", "Per GPU-hour", "", "As of")]
    for spot, o in sorted(offers, key=lambda found: (found[0], found[1].usd_per_gpu_hour)):
        price = units.format_usd(o.usd_per_gpu_hour)
        rows.append((o.provider, o.instance, o.region, price, "spot" if spot else "", o.date.isoformat()))
    sources = "; ".join(dict.fromkeys(offer.source for _, offer in offers))
    text, chosen = f"{table(rows, right=(3,), indent=0, gap=2, header=True)}\n\n{wrapped(f'Sources: {sources}.', 0)}", price_for(part)
    if chosen is None:
        return text
    rule = f"A plan takes {chosen.provider}'s, the median over providers, unless price.provider or a price of your own says otherwise."
    return f"{text}\n{wrapped(rule, 0)}"


def _by_provider(asked: dict[str, Any]) -> str:
    rows = [("Provider", "Offers", "As of")]
    offers = prices()
    for name in sorted({offer.provider for offer in offers}):
        own = [offer for offer in offers if offer.provider == name]
        rows.append((name, str(len(own)), max(offer.date for offer in own).isoformat() + (" refreshed" if name in asked else "")))
    return table(rows, right=(1,), indent=0, gap=2, header=True)
