"""`planner report RUN`: the estimate as a document."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from planner.advise import suggest
from planner.cli.inputs import add_run, read_profile, read_run
from planner.errors import PlanError
from planner.report import EXPORTERS, find_exporter
from planner.report.registry import Subject

NAME = "report"
HELP = "write an estimate as a document"
DESCRIPTION = "Write an estimate as a document: verdict, figures, what would help, configuration, breakdowns, assumptions and sources."


def arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    add_run(command)
    formats = ", ".join(f"{exporter.name} ({exporter.label})" for exporter in EXPORTERS.values())
    command.add_argument("--format", metavar="FORMAT", help=f"{formats}; the file's ending decides when left out")
    command.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="where to write it; - writes to standard output"
    )


def execute(options: argparse.Namespace) -> None:
    """Estimate a run and write its report."""
    from planner import estimate

    exporter = find_exporter(options.format or Path(options.output).suffix or "none")
    run, profile = read_run(options.run), read_profile(options.profile)
    result = estimate(run, profile)
    content = exporter.render(Subject(result, suggest(run, result, profile), run))
    if options.output == "-":
        sys.stdout.buffer.write(content)
        return
    try:
        Path(options.output).write_bytes(content)
    except OSError as error:
        raise PlanError(
            "output", options.output, f"cannot be written ({error.strerror})", "Give a path in a folder that exists."
        ) from None
    print(f"{options.output}: {exporter.label}, {len(content):,} bytes")
