"""`planner ask RUN`: questions asked backwards."""

from __future__ import annotations

import argparse

from planner import units
from planner.cli.inputs import add_json, add_run, read_profile, read_run
from planner.cli.output import bold, emit_json, wrapped

NAME = "ask"
HELP = "the largest micro batch, context, rank and model that fit; the smallest GPU; GPUs for a deadline or a budget"
DESCRIPTION = "Asks backwards: what is the largest that fits, the smallest that does, and how many accelerators a deadline or a budget asks for."


def arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    add_run(command)
    command.add_argument("--deadline", metavar="TIME", help='when the run must have ended: 24h, "Friday 18:00", "2026-12-01 09:00"')
    command.add_argument("--budget", metavar="USD", help="what the run may cost")
    add_json(command)


def execute(options: argparse.Namespace) -> None:
    """Answer and print."""
    from planner.search.backwards import Backwards, seconds_until

    asked = Backwards(read_run(options.run), read_profile(options.profile))
    proposals = list(asked.all())
    if options.deadline is not None:
        proposals.append(asked.by_deadline(seconds_until(options.deadline)))
    if options.budget is not None:
        proposals.append(asked.under_budget(units.parse_usd(options.budget, "budget")))
    if options.json:
        emit_json({"proposals": [one.document() for one in proposals]})
        return
    blocks = []
    for one in proposals:
        lines = [bold(one.question[:1].upper() + one.question[1:]), wrapped(one.text)]
        if one.change:
            lines.append(wrapped("Change: " + ", ".join(f"{path}: {value}" for path, value in one.change.items())))
        blocks.append("\n".join(lines))
    print("\n".join(blocks))
