"""`planner check PLAN`: does a locked plan, or a run, keep within limits, and what has changed since it was locked? For continuous integration."""

from __future__ import annotations

import argparse

from planner import units
from planner.cli.inputs import add_json, add_no_measured, add_profile, planned, read_lock, read_profile, read_run
from planner.cli.output import bold, emit_json, wrapped
from planner.lock import Change, Limits, changes, check_limits, pinned

NAME = "check"
HELP = "does a plan.lock or a run keep within limits; exit code 3 when it does not"
DESCRIPTION = (
    "Estimates a locked plan anew and compares it with limits and with what it was. Exit codes: 0 it fits and all limits hold, "
    "3 it does not, 2 bad input, 1 a fault of ours."
)
BROKEN = 3
"""Exit code of a plan that does not hold."""


def arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    command.add_argument("plan", metavar="PLAN", help="a plan.lock, a JSON report or a run file; - reads a run from standard input")
    add_profile(command)
    command.add_argument("--max-cost", metavar="USD", help="what the run may cost")
    command.add_argument("--deadline", metavar="TIME", help='when it must have ended: 24h, "Friday 18:00", "2026-12-01 09:00"')
    command.add_argument("--max-memory", metavar="SIZE", help='what it may reserve on one accelerator: "70 GiB"')
    command.add_argument("--max-energy", metavar="KWH", help="what it may draw [kWh]")
    command.add_argument("--max-co2e", metavar="KG", help="what it may emit [kg]")
    command.add_argument("--sure", action="store_true", help="the upper ends of the 90 %% intervals must keep within the limits")
    command.add_argument("--close", action="store_true", help="a plan that is too close to call may pass")
    command.add_argument("--unchanged", action="store_true", help="it also fails where a figure or a default is another one than when it was locked")
    add_no_measured(command)
    add_json(command)


def execute(options: argparse.Namespace) -> int:
    """Check and print; 0 where all holds, else 3."""
    limits, profile, lock = _limits(options), read_profile(options.profile), read_lock(options.plan)
    moved: tuple[Change, ...] = ()
    run = read_run(options.plan) if lock is None else None
    if lock is not None:
        run, moved = pinned(lock, profile)
    assert run is not None
    result = planned(run, profile, options)
    if lock is not None:
        moved = (*changes(lock, result, profile), *moved)
    checks = check_limits(result, limits)
    drifted = options.unchanged and any(one.kind in ("figure", "default") for one in moved)
    holds = all(one.holds for one in checks) and not drifted
    if options.json:
        told = result.model_dump(mode="json")
        emit_json({"holds": holds, "checks": [one.document() for one in checks], "changes": [one.document() for one in moved], "estimate": told})
        return 0 if holds else BROKEN
    print(bold("Holds" if holds else "Does not hold"))
    print("\n".join(wrapped(one.text, bullet="✓ " if one.holds else "✕ ") for one in checks))
    if lock is not None:
        print("\n" + bold("Since it was locked" if moved else "Nothing has changed since it was locked"))
        if moved:
            print("\n".join(wrapped(one.text, bullet="- ") for one in moved))
    return 0 if holds else BROKEN


def _limits(options: argparse.Namespace) -> Limits:
    from planner.search.backwards import seconds_until

    def number(text: str | None, field: str) -> float | None:
        return None if text is None else units.parse_number(text, field)

    return Limits(
        cost_usd=None if options.max_cost is None else units.parse_usd(options.max_cost, "max-cost"),
        time_s=None if options.deadline is None else seconds_until(options.deadline),
        memory_bytes=None if options.max_memory is None else units.parse_bytes(options.max_memory, "max-memory"),
        energy_kwh=number(options.max_energy, "max-energy"),
        co2e_kg=number(options.max_co2e, "max-co2e"),
        sure=options.sure,
        close=options.close,
    )
