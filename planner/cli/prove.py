"""`planner prove`: predicted beside measured over a matrix of real training steps."""

from __future__ import annotations

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.cli.inputs import add_device, add_json, add_profile, need_training, read_profile
from planner.cli.output import bold, emit_json, table
from planner.errors import PlanError
from planner.files import write_whole

if TYPE_CHECKING:
    from planner.device.profile import DeviceProfile

NAME = "prove"
HELP = "measure a matrix of real training runs and compare with the plan"
DESCRIPTION = (
    "Builds and trains small real runs (transformers, peft) one after the other and writes predicted beside measured to one JSON file. "
    "Started again with the same file it goes on where it was; with everything measured it only predicts again, for another profile. "
    "Needs torch, transformers and peft."
)

GPU_BUDGET = 450.0
"""One call on a GPU stays below eight minutes [s]; the next goes on where it was."""


def arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    add_device(command)
    add_profile(command)
    command.add_argument("--quick", action="store_true", help="a third of the runs, fewer steps")
    command.add_argument("--only", default=None, metavar="TEXT", help="only runs whose name holds this text")
    command.add_argument("--rounds", type=int, default=None, metavar="N", help="measurements of every run, interleaved (default: 2 on a processor, else 1)")
    command.add_argument("--budget", type=float, default=None, metavar="S", help="start no run after so many seconds (default: 450 on a GPU)")
    command.add_argument("--recorded", default=None, metavar="FILE", help="judge steps that were recorded elsewhere (JSON lines), and measure nothing")
    command.add_argument("--out", "-o", default="proof.json", metavar="FILE", help="where everything goes (default: proof.json)")
    add_json(command)


def execute(options: argparse.Namespace) -> None:
    """Measure what is missing, predict, compare."""
    profile = read_profile(options.profile)
    if options.recorded is not None:
        _recorded(options, profile)
        return
    device = need_training(options.device)
    from planner.probe.matrix import matrix
    from planner.probe.prove import prove

    rounds = options.rounds if options.rounds is not None else (2 if device == "cpu" else 1)
    if rounds < 1:
        raise PlanError("rounds", rounds, "measures nothing", "Use 1 or more.")
    cases = [case for case in matrix(device) if (case.quick or not options.quick) and (options.only or "") in case.name]
    if not device.startswith("cpu"):  # the most telling first: a budget may end before all are measured
        cases.sort(key=lambda case: not case.quick)
    if not cases:
        raise PlanError("only", options.only, "is in the name of no run", "Leave it out to see all names.")

    def show(name: str, share: float) -> None:
        if sys.stderr.isatty():
            print(f"\r{share:4.0%}  {name:60.60}", end="", file=sys.stderr, flush=True)

    seconds = 1.0 if options.quick else 2.0
    budget = GPU_BUDGET if options.budget is None and not device.startswith("cpu") else options.budget
    document = prove(
        cases, device, Path(options.out), profile=profile, rounds=rounds, seconds=seconds, budget=budget, show=show
    )
    if sys.stderr.isatty():
        print("\r" + " " * 66 + "\r", end="", file=sys.stderr)
    _show(options, document, len(cases))


def _recorded(options: argparse.Namespace, profile: DeviceProfile | None) -> None:
    """Predicted beside what somebody else measured."""
    if find_spec("torch") is None:
        raise PlanError("recorded", options.recorded, "cannot be judged without torch", "Install torch (pip install torch).")
    if not Path(options.out).parent.is_dir():
        raise PlanError("out", options.out, "is in a folder that does not exist", "Name a file in a folder that exists.")
    from planner.probe.recorded import judge

    document = judge(options.recorded, profile)
    write_whole(Path(options.out), json.dumps(document, allow_nan=False))
    _show(options, document, len(document["rows"]))


def _show(options: argparse.Namespace, document: dict[str, Any], count: int) -> None:
    from planner.probe.table import lines, words

    if options.json:
        emit_json({key: value for key, value in document.items() if key != "rows"})
        return
    print(bold(f"{document['device']}: {document['summary']['cases']} of {count} runs"))
    print(table(lines(document), right=(1, 2, 3, 4, 5, 6), header=True))
    for name, row in document["rows"].items():
        if "problem" in row:
            print(f"  {name}: {row['problem']}")
    print("\n".join(words(document["summary"])))
    if document["missing"]:
        print(f"{len(document['missing'])} runs are still missing: start again with the same file to go on.")
