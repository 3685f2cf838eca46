"""`planner launch RUN`: the plan as the files that start it."""

from __future__ import annotations

import argparse
from pathlib import Path

from planner.cli.inputs import add_run, read_profile, read_run
from planner.cli.output import wrapped
from planner.errors import PlanError
from planner.launch import FORMATS, find_format, launch

NAME = "launch"
HELP = "write the files that start a planned run"
DESCRIPTION = "Write the files that start a planned run; what the format cannot express is listed in the file and on the screen."


def arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    add_run(command)
    formats = ", ".join(f"{each.name} ({each.label})" for each in FORMATS.values())
    command.add_argument("--format", metavar="FORMAT", required=True, help=formats)
    command.add_argument(
        "-o", "--output", metavar="PATH", default=".", help="folder that gets all files, or the name of the main file; the working folder when left out"
    )


def execute(options: argparse.Namespace) -> None:
    """Estimate a run and write its launch files."""
    from planner import estimate

    find_format(options.format)
    made = launch(estimate(read_run(options.run), read_profile(options.profile)), options.format)
    target = Path(options.output)
    folder = options.output.endswith("/") or target.is_dir() or not target.suffix
    for number, file in enumerate(made.files):
        path = target / file.name if folder else target if number == 0 else target.parent / file.name
        try:
            if folder:
                target.mkdir(parents=True, exist_ok=True)
            path.write_text(file.text, encoding="utf-8")
        except OSError as error:
            raise PlanError("output", str(path), f"cannot be written ({error.strerror})", "Name a folder that can be written.") from None
        print(f"{path}: {len(file.text):,} characters")
    print(wrapped(f"Start: {made.command}", indent=0))
    for note in made.notes:
        print(wrapped(note, indent=0))
    if made.missing:
        print(wrapped(f"{FORMATS[made.format].label} does not express:", indent=0))
    for sentence in made.missing:
        print(wrapped(sentence, bullet="- "))
