"""`planner probe RUN`: train the planned run for a few steps and compare."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from typing import TYPE_CHECKING

from planner import units
from planner.cli.inputs import add_json, add_run, read_profile, read_run
from planner.cli.output import bold, emit_json, table, wrapped
from planner.errors import PlanError

if TYPE_CHECKING:
    from planner.probe.run import Probe

NAME = "probe"
HELP = "train a planned run for a few real steps, measure, compare with the plan"
DESCRIPTION = (
    "Builds the run for real (transformers and peft, random weights, synthetic tokens), trains some steps on one device, and sets what was "
    "measured beside what was planned. Out of memory is a result. Needs torch, transformers and peft."
)


def arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    add_run(command)
    command.add_argument("--steps", type=int, default=10, metavar="N", help="timed steps, after the warm-up (default: 10)")
    command.add_argument("--device", default=None, metavar="NAME", help="torch device: cuda:0, cpu, … (default: a GPU if there is one)")
    command.add_argument("--rows", default=None, metavar="FILE", help="append the measurement to this table of runs (CSV)")
    add_json(command)


def need_torch(device: str | None) -> str:
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


def execute(options: argparse.Namespace) -> None:
    """Measure one run and print it beside its plan."""
    run, profile = read_run(options.run), read_profile(options.profile)
    if not 1 <= options.steps <= 10_000:
        raise PlanError("steps", options.steps, "is no number of steps", "Use 1 to 10000.")
    device = need_torch(options.device)
    from planner.probe.run import probe

    result = probe(run, device, steps=options.steps, profile=profile, rows=options.rows)
    if options.json:
        emit_json(result.model_dump(mode="json"))
    else:
        print(as_text(result))


def as_text(result: Probe) -> str:
    """A probe for a terminal."""
    measured, predicted, compared = result.measured, result.predicted, result.comparison
    if measured.outcome == "oom":
        blocks = [bold("Out of memory") + f" on {measured.device}", wrapped(measured.oom or ""), wrapped(compared.why)]
        return "\n\n".join(block for block in blocks if block)
    assert measured.step_time_s is not None
    rows: list[tuple[str, ...]] = [("", "measured", "planned", "")]
    interval = predicted.step_time_interval_s if predicted else None
    rows.append(
        (
            "Step", units.format_seconds(measured.step_time_s.median), units.format_seconds(predicted.step_time_s) if predicted else "",
            f"measured {_range(measured.step_time_s.low, measured.step_time_s.high)} (middle half)"
            + (f", planned {_range(*interval)} (90 %)" if interval else ""),
        )
    )  # fmt: skip
    for name, spread in measured.phases.items():
        rows.append((name.capitalize(), units.format_seconds(spread.median), units.format_seconds(predicted.phases[name]) if predicted else "", ""))
    if measured.tokens_per_s is not None:
        rows.append(("Tokens", units.format_rate(measured.tokens_per_s), "", ""))
    if measured.allocated_bytes is not None:
        moment = f"in the {measured.peak_phase} phase, at {measured.peak_operation}" if measured.peak_phase else ""
        label = "Peak of tensors" if measured.memory_kind == "tracked" else "Allocated peak"
        rows.append((label, units.format_bytes(measured.allocated_bytes), units.format_bytes(predicted.allocated_bytes) if predicted else "", moment))
    if measured.static_bytes is not None:
        rows.append(("Between steps", units.format_bytes(measured.static_bytes), units.format_bytes(predicted.static_bytes) if predicted else "", ""))
    if measured.reserved_bytes is not None:
        rows.append(("Reserved peak", units.format_bytes(measured.reserved_bytes), units.format_bytes(predicted.reserved_bytes) if predicted else "", ""))
    if measured.power_w is not None and measured.energy_per_step_j is not None:
        rows.append(("Power", f"{measured.power_w:.0f} W", "", f"{measured.energy_per_step_j:.3g} J a step"))
    blocks = [bold(f"{compared.verdict.capitalize()}") + f" on {measured.device}", table(rows, right=(1, 2)), wrapped(compared.why)]
    blocks += ["\n".join(wrapped(note, bullet="- ") for note in measured.notes)] if measured.notes else []
    if result.rows is not None:
        blocks.append(wrapped(f"Added to {result.rows}."))
    return "\n\n".join(blocks)


def _range(low: float, high: float) -> str:
    return f"{units.format_seconds(low)} to {units.format_seconds(high)}"
