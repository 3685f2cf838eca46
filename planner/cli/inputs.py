"""What the commands read: a run from a file or standard input, and a profile."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from planner.cli.output import printable
from planner.errors import PlanError, shorten
from planner.lock import Lock, lock_in, pinned
from planner.run import MAX_RUN_FILE_BYTES, Run, load_run, parse_run, plain_loader

MAX_REPORT_BYTES = 32 * 2**20

if TYPE_CHECKING:
    from planner.device.profile import DeviceProfile
    from planner.estimate.result import Estimate


def add_run(command: argparse.ArgumentParser) -> None:
    """Arguments RUN and --profile."""
    command.add_argument("run", metavar="RUN", help="run file (YAML or JSON), plan.lock or JSON report; - reads standard input")
    add_profile(command)


def add_profile(command: argparse.ArgumentParser) -> None:
    """Argument --profile."""
    command.add_argument(
        "--profile",
        metavar="FILE",
        help="device profile that a calibration wrote; its device is used when the run names none",
    )


def add_no_measured(command: argparse.ArgumentParser) -> None:
    """Argument --no-measured, of commands that plan one run."""
    command.add_argument("--no-measured", action="store_true", help="plan it even where a probe has measured this very run")


def planned(run: Run, profile: DeviceProfile | None, options: argparse.Namespace) -> Estimate:
    """The estimate of a run, standing on what was measured of it unless --no-measured says otherwise. Raises `PlanError`."""
    from planner import estimate
    from planner.evidence.kin import stands_on

    return estimate(run, profile, None if options.no_measured else stands_on(run, profile))


def add_device(command: argparse.ArgumentParser) -> None:
    """Argument --device, of commands that measure."""
    command.add_argument("--device", default=None, metavar="NAME", help="torch device: cuda:0, cpu, … (default: a GPU if there is one)")


def need_training(device: str | None) -> str:
    """The device to use, once torch, transformers and peft are known to be there. Raises `PlanError`."""
    missing = [package for package in ("torch", "transformers", "peft") if find_spec(package) is None]
    if missing:
        raise PlanError(
            "device", device or "", f"cannot train without {' and '.join(missing)}", f"pip install {' '.join(missing)}."
        )
    if device is not None:
        return device
    from planner.calibrate.hardware import default_device

    return default_device()


def add_json(command: argparse.ArgumentParser) -> None:
    """Argument --json."""
    command.add_argument("--json", action="store_true", help="print one JSON document instead of text")


def read_run(path: str) -> Run:
    """The run of a run file, a plan.lock or a JSON report, or of standard input for "-". Raises `PlanError`.

    Of a lock or a report, defaults that have moved since are pinned to what they were; what has changed is said on standard error.
    """
    if path == "-":
        return _from_stdin()
    if (locked := read_lock(path)) is None:
        return load_run(path)
    run, moved = pinned(locked)
    for one in moved:
        print(f"planner: {printable(one.text)}", file=sys.stderr)
    return run


def read_lock(path: str) -> Lock | None:
    """The lock of a plan.lock or of a JSON report; None where the file is neither, but perhaps a run. Raises `PlanError` for one that cannot be used."""
    try:
        if path == "-" or Path(path).stat().st_size > MAX_REPORT_BYTES:
            return None
        text = Path(path).read_text(encoding="utf-8-sig")
        if not text.lstrip().startswith("{"):
            return None
        document = json.loads(text)
    except (OSError, ValueError, RecursionError):
        return None
    return lock_in(document)


def names_of(paths: Sequence[str]) -> list[str]:
    """What to call several runs: their files' names, or their paths where two names are the same."""
    names = [Path(path).stem if path != "-" else "standard input" for path in paths]
    return names if len(set(names)) == len(names) else [f"{path} ({i})" if paths.count(path) > 1 else str(path) for i, path in enumerate(paths, start=1)]


def read_profile(path: str | None) -> DeviceProfile | None:
    """The profile of a file, None without one. Raises `PlanError`."""
    if path is None:
        return None
    from planner.device.profile import load_profile

    return load_profile(path)


def _from_stdin() -> Run:
    import yaml

    source = "standard input"
    content = sys.stdin.buffer.read(MAX_RUN_FILE_BYTES + 1)
    if len(content) > MAX_RUN_FILE_BYTES:
        raise PlanError("run", source, "is larger than 2 MiB", "A run file is a few lines of YAML or JSON.")
    try:
        mapping = yaml.load(content.decode("utf-8-sig"), Loader=plain_loader())  # noqa: S506
    except UnicodeDecodeError:
        raise PlanError("run", source, "is not UTF-8 text", "Write YAML or JSON.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PlanError(
            "run", source, f"is not valid YAML or JSON ({shorten(error, 160)})", "Correct its syntax."
        ) from None
    return parse_run(mapping)
