"""`planner report RUN [RUN …]`: an estimate, or a comparison of several, as a document."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from planner.cli.inputs import add_no_measured, add_profile, names_of, planned, read_profile, read_run
from planner.errors import PlanError
from planner.report import EXPORTERS, find_exporter
from planner.report.registry import Comparison, Subject, subject_of
from planner.search.constraints import OBJECTIVES

NAME = "report"
HELP = "write an estimate, or a comparison of several, as a document"
DESCRIPTION = (
    "Writes an estimate as a document: verdict, figures, what limits and what would help, then configuration, breakdowns, alternatives, assumptions, "
    "evidence and sources. Of several runs it writes one comparison; the first is the baseline."
)


def arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    command.add_argument("runs", metavar="RUN", nargs="+", help="run file, plan.lock or JSON report; - reads standard input")
    add_profile(command)
    formats = ", ".join(f"{exporter.name} ({exporter.label})" for exporter in EXPORTERS.values())
    command.add_argument("--format", metavar="FORMAT", help=f"{formats}; the file's ending decides when left out")
    command.add_argument("--objective", choices=OBJECTIVES, default="time", help="what ranks several runs; time when left out")
    add_no_measured(command)
    command.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="where to write it; - writes to standard output"
    )


def execute(options: argparse.Namespace) -> None:
    """Estimate the runs and write the report."""
    exporter, profile = find_exporter(options.format or Path(options.output).suffix or "none"), read_profile(options.profile)
    subjects: list[Subject] = []
    for path, name in zip(options.runs, names_of(options.runs), strict=True):
        try:
            run = read_run(path)
            result = planned(run, profile, options)
            subjects.append(subject_of(run, result, profile, name))
        except PlanError as error:
            if len(options.runs) == 1:
                raise
            raise PlanError(f"{path}: {error.field}", error.value, error.problem, error.fix) from None
    content = exporter.render(subjects[0]) if len(subjects) == 1 else exporter.many(Comparison(tuple(subjects), options.objective))
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
