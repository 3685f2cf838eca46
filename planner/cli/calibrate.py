"""`planner calibrate`: measure this machine's device and write its profile."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from planner.cli.inputs import add_device, add_json
from planner.cli.output import bold, emit_json, table
from planner.errors import PlanError

if TYPE_CHECKING:
    from planner.calibrate import Calibration
    from planner.calibrate.benchmarks import Case

NAME = "calibrate"
HELP = "measure a device with microbenchmarks and write its profile"
DESCRIPTION = (
    "Runs microbenchmarks on a torch device within a budget and writes a profile for `estimate --profile`. Needs torch; "
    "nvidia-ml-py adds clocks, power and throttling."
)


def arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    add_device(command)
    command.add_argument("--budget", default="standard", metavar="TIME", help="quick (30 s), standard (2 min), full (10 min) or seconds")
    command.add_argument("--run", default=None, metavar="RUN", help="a run file whose own operations are measured first")
    command.add_argument("--collectives", default=None, metavar="FILE", help="what `torchrun -m planner.calibrate.distributed` wrote")
    command.add_argument("--recorded", default=None, metavar="FILE", help="fit kernels that were recorded elsewhere (JSON lines), and measure nothing")
    command.add_argument("--resume", action="store_true", help="keep the samples beside --out of an interrupted measurement")
    command.add_argument("--out", "-o", default="profile.json", metavar="FILE", help="where the profile goes (default: profile.json)")
    command.add_argument("--launch", choices=("slurm", "skypilot"), default=None, help="print a launch file for several machines instead of measuring")
    command.add_argument("--nodes", type=int, default=2, metavar="N", help="machines of the launch file (default: 2)")
    command.add_argument("--gpus", type=int, default=8, metavar="N", help="accelerators of each (default: 8)")
    command.add_argument("--accelerator", default="H100", metavar="NAME", help="SkyPilot's name of the part (default: H100)")
    add_json(command)


def execute(options: argparse.Namespace) -> None:
    """Measure, write, and say how good the fit is."""
    from planner.calibrate.budget import parse_budget

    if options.launch is not None:
        from planner.calibrate.launch import launch_file

        seconds = parse_budget(options.budget)
        text = launch_file(options.launch, nodes=options.nodes, gpus=options.gpus, accelerator=options.accelerator, budget=seconds)
        if options.json:
            emit_json({"launch": options.launch, "text": text})
        else:
            print(text, end="")
        return
    parse_budget(options.budget)
    if find_spec("torch") is None:
        raise PlanError("device", options.device or "", "cannot be measured without torch", "Install torch (pip install torch).")
    out = Path(options.out)
    if not out.parent.is_dir():
        raise PlanError("out", options.out, "is in a folder that does not exist", "Name a file in a folder that exists.")
    if options.recorded is not None:
        from planner.calibrate.recorded import calibration_of

        _report(options, calibration_of(options.recorded), out)
        return
    _measure(options, out)


def _measure(options: argparse.Namespace, out: Path) -> None:
    from planner.calibrate import calibrate
    from planner.calibrate.distributed import read as read_collectives
    from planner.calibrate.hardware import default_device, open_hardware
    from planner.calibrate.partial import Partial

    device = options.device or default_device()
    open_hardware(device)
    partial = Partial(out.with_name(f"{out.stem}.partial.jsonl"))
    first = _first(options.run, device)
    between = read_collectives(options.collectives) if options.collectives else ()

    def show(label: str, share: float) -> None:
        if sys.stderr.isatty():
            print(f"\r{min(share, 1.0):4.0%}  {label:40}", end="", file=sys.stderr, flush=True)

    finished = partial.read() if options.resume else ()
    with partial.open(fresh=not options.resume) as keep:
        calibration = calibrate(device, options.budget, first=first, finished=finished, collectives=between, progress=show, keep=keep)
    if sys.stderr.isatty():
        print("\r" + " " * 48 + "\r", end="", file=sys.stderr)
    _report(options, calibration, out)
    partial.remove()


def _report(options: argparse.Namespace, calibration: Calibration, out: Path) -> None:
    """Write the profile with its samples, and say how good the fit is."""
    from planner.calibrate.telemetry import remedy

    profile, samples = calibration.save(out)
    if options.json:
        document = {
            "profile": str(profile),
            "samples": str(samples),
            "cases": len(calibration.samples),
            "conditions": calibration.conditions.model_dump(mode="json"),
            "fit_errors": calibration.profile.fit_errors,
            "warnings": [{"name": n, "remedy": remedy(n)} for n in calibration.conditions.warnings],
        }
        emit_json(document)
        return
    print(bold(calibration.profile.name))
    rows = [(name, f"{e['median']:.1%}", f"{e['p90']:.1%}", f"{e['cases']:.0f}") for name, e in calibration.profile.fit_errors.items()]
    print(table([("Law, each case from the others", "median", "90 %", "cases"), *rows], header=True))
    for name in calibration.conditions.warnings:
        print(f"{name}: {remedy(name)}")
    print(f"\nProfile: {profile} (raw samples: {samples}). Use it: planner estimate RUN --profile {profile}")


def _first(run: str | None, device: str) -> list[tuple[str, Case]]:
    if run is None:
        return []
    from planner.calibrate.focus import cases_of
    from planner.cli.inputs import read_run

    return list(cases_of(read_run(run), device))
