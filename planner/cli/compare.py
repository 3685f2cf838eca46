"""`planner compare RUN RUN…`: several runs side by side."""

from __future__ import annotations

import argparse

from planner import units
from planner.cli.inputs import add_json, add_profile, names_of, read_profile, read_run
from planner.cli.output import bold, emit_json, printable, table, wrapped
from planner.errors import PlanError
from planner.report.comparing import change_text
from planner.search.constraints import OBJECTIVES
from planner.summary import degrees

NAME = "compare"
HELP = "several runs side by side: ranked, with differences to the first"
DESCRIPTION = "Estimates several runs and ranks them; the first is the baseline. What does not fit stands last, with its reason."


def arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    command.add_argument("runs", metavar="RUN", nargs="+", help="run files, plan.lock or JSON reports; the first is the baseline")
    add_profile(command)
    command.add_argument("--objective", choices=OBJECTIVES, default="time", help="what ranks them; time when left out")
    add_json(command)


def execute(options: argparse.Namespace) -> None:
    """Estimate the runs and print them."""
    from planner import estimate
    from planner.search.compare import compare

    profile = read_profile(options.profile)
    names = names_of(options.runs)
    estimates = []
    for path, name in zip(options.runs, names, strict=True):
        try:
            estimates.append((name, estimate(read_run(path), profile)))
        except PlanError as error:
            raise PlanError(f"{path}: {error.field}", error.value, error.problem, error.fix) from None
    rows = compare(estimates, options.objective)
    if options.json:
        emit_json({"baseline": names[0], "objective": options.objective, "runs": [row.document() for row in rows]})
        return
    whole = all(one.total_time_s is not None for _, one in estimates)
    shown = [("", "run", "time", "", "cost", "", "memory", "fits", "")]
    for row in rows:
        fits = {True: "yes", None: "close", False: "no"}[row.estimate.fits]
        one = row.estimate
        shown.append(
            (
                "·" if row.rank is None else f"{row.rank}{'*' if row.efficient else ''}",
                row.name,
                units.format_seconds(row.time),
                change_text(row, "time", row.name == names[0]),
                units.format_usd(row.cost),
                change_text(row, "cost", row.name == names[0]),
                units.format_bytes(row.reserved),
                fits,
                f"{one.run.hardware.gpus} × {printable(one.details['accelerator'] or one.run.hardware.gpu)}, {degrees(one)}",
            )
        )
    notes = [f"* Nothing here that fits is better in time, cost, energy and risk. Differences are to {names[0]}."]
    if not whole:
        notes.append("Time and cost are those of one sample, since not every run says how much is trained on.")
    notes += [f"{row.name} does not fit: {row.estimate.fits_reason}" for row in rows if row.estimate.fits is False]
    notes += [f"{row.name}: {row.estimate.fits_reason}" for row in rows if row.estimate.fits is None]
    print(bold(f"{len(rows)} runs by {options.objective}"))
    print(table(shown, right=(2, 3, 4, 5, 6), header=True))
    print("\n" + "\n".join(wrapped(note, bullet="- ") for note in notes))
