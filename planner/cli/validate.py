"""`planner validate ROWS.csv`: how far the engine is off on a table of measured runs."""

from __future__ import annotations

import argparse

from planner.cli.inputs import add_json, add_profile
from planner.cli.output import emit_json

NAME = "validate"
HELP = "predict a table of measured runs and compare"
DESCRIPTION = "Predict every row of a table of measured runs and say how far off the predictions are."


def arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    command.add_argument("rows", metavar="ROWS.csv", help="measured runs, one a row")
    add_profile(command)
    add_json(command)
    command.add_argument("--out", metavar="CSV", help="write the rows back, each with its prediction")


def execute(options: argparse.Namespace) -> None:
    """Score a table and print the summary."""
    from planner.evidence.validate import format_summary, main_validate

    summary = main_validate(options.rows, options.profile, options.out)
    if options.json:
        emit_json(summary)
    else:
        print(format_summary(summary))
