"""`planner lock RUN`: write down a plan with everything that it stands on."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from planner.cli.inputs import add_no_measured, add_run, planned, read_profile, read_run
from planner.cli.output import wrapped
from planner.errors import PlanError
from planner.lock import lock_of, lock_text
from planner.summary import verdict

NAME = "lock"
HELP = "write a plan.lock: inputs, resolved values, calibration, catalogue and versions"
DESCRIPTION = "Writes down a plan with all its values, what it stands on and its figures; `planner check` says later what has changed, and whether limits hold."


def arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    add_run(command)
    command.add_argument("-o", "--output", metavar="FILE", default="plan.lock", help="where to write it, plan.lock when left out; - writes to standard output")
    add_no_measured(command)


def execute(options: argparse.Namespace) -> None:
    """Estimate a run and write its lock."""
    run, profile = read_run(options.run), read_profile(options.profile)
    result = planned(run, profile, options)
    text = lock_text(lock_of(run, result, profile))
    if options.output == "-":
        sys.stdout.write(text)
        return
    try:
        Path(options.output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise PlanError("output", options.output, f"cannot be written ({error.strerror})", "Give a path in a folder that exists.") from None
    print(wrapped(f"{options.output}: {verdict(result).sentence}.", indent=0))
