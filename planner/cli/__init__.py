"""The command line: the same engine as the pages, from a shell. One command a file.

Exit codes: 0 done, 2 bad input (one line on stderr that names the field and the fix), 1 a fault of ours; `check` adds 3: the plan does not hold.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from planner import __version__
from planner.cli import (
    ask,
    audit,
    calibrate,
    catalog,
    check,
    compare,
    doctor,
    estimate,
    launch,
    lengths,
    lock,
    prices,
    probe,
    profile,
    prove,
    report,
    saved,
    search,
    serve,
    validate,
)
from planner.cli.output import printable
from planner.errors import PlanError, shorten

COMMANDS = (
    estimate, compare, search, ask, lengths, serve, report, launch, lock, check, validate, calibrate, profile, probe, audit, prove, saved,
    catalog.models_command, catalog.gpus_command, prices, doctor,
)  # fmt: skip


class _Parser(argparse.ArgumentParser):
    """Bad arguments are one line, like any other bad input."""

    def error(self, message: str) -> NoReturn:
        print(f"planner: {printable(shorten(message, 300))}. `{self.prog} --help` explains.", file=sys.stderr)
        sys.exit(2)


def parser() -> argparse.ArgumentParser:
    """The argument parser with every command."""
    top = _Parser(
        prog="planner",
        description="What a transformer training run will take: does it fit, how long, how much, what limits it, and what would help.",
        epilog="A run is a YAML or JSON file; only `model` is required. `planner doctor --fields` lists all fields.",
    )
    top.add_argument("--version", action="version", version=f"Plumbline {__version__}")
    top.add_argument("--traceback", action="store_true", help="show where a fault of ours happened")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        added = commands.add_parser(command.NAME, help=command.HELP, description=command.DESCRIPTION)
        command.arguments(added)
        added.add_argument("--traceback", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        added.set_defaults(execute=command.execute)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="replace")  # a terminal that cannot show a character still shows the rest
    options = parser().parse_args(arguments)
    try:
        code: int | None = options.execute(options)
        sys.stdout.flush()
    except PlanError as error:
        print(f"planner: {printable(shorten(error, 2000))}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # the interpreter flushes stdout once more at exit
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if options.traceback:
            raise
        what = f"{type(error).__name__}: {printable(shorten(error, 200))}"
        print(
            f"planner: a fault of ours, sorry ({what}). Report it with the run file, `planner doctor` and the output of "
            f"`planner --traceback {options.command} …`.",
            file=sys.stderr,
        )
        return 1
    return code or 0
