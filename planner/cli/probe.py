"""`planner probe RUN`: train the planned run for a few steps and compare."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from planner import units
from planner.cli.inputs import add_device, add_json, add_run, need_training, read_profile, read_run
from planner.cli.output import bold, emit_json, table, wrapped
from planner.errors import PlanError

if TYPE_CHECKING:
    from planner.probe.measure import Measured
    from planner.probe.predict import Predicted
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
    add_device(command)
    command.add_argument("--rows", default=None, metavar="FILE", help="append the measurement to this table of runs (CSV)")
    command.add_argument("--no-keep", action="store_true", help="do not add it to your own measurements, on which later plans of this run stand")
    add_json(command)


def execute(options: argparse.Namespace) -> None:
    """Measure one run and print it beside its plan."""
    run, profile = read_run(options.run), read_profile(options.profile)
    if not 1 <= options.steps <= 10_000:
        raise PlanError("steps", options.steps, "is no number of steps", "Use 1 to 10000.")
    device = need_training(options.device)
    from planner.probe.run import probe

    result = probe(run, device, steps=options.steps, profile=profile, rows=options.rows, keep=not options.no_keep)
    if options.json:
        emit_json(result.model_dump(mode="json"))
    else:
        print(as_text(result))


def as_text(result: Probe) -> str:
    """A probe for a terminal."""
    measured, compared = result.measured, result.comparison
    if measured.outcome == "oom":
        blocks = [bold("Out of memory") + f" on {measured.device}", wrapped(measured.oom or "")]
        shown = result.extrapolated
    else:
        blocks = [bold(compared.verdict.capitalize()) + f" on {measured.device}"]
        shown = measured
    if shown is not None:
        blocks.append(table(_figures(shown, result.predicted), right=(1, 2)))
    blocks.append(wrapped(compared.why))
    notes = (shown or measured).notes
    blocks.append("\n".join(wrapped(note, bullet="- ") for note in notes))
    if result.rows is not None:
        blocks.append(wrapped(f"Added to {result.rows}."))
    if result.kept is not None:
        blocks.append(wrapped(f"Kept in {result.kept}: plans of this run on this device now stand on it."))
    return "\n\n".join(block for block in blocks if block)


def _figures(measured: Measured, predicted: Predicted | None) -> list[tuple[str, ...]]:
    """Rows (label, measured, planned, remark)."""
    assert measured.step_time_s is not None
    remark = f"measured {_range(measured.step_time_s.low, measured.step_time_s.high)} (middle half)"
    if predicted is not None and predicted.step_time_interval_s is not None:
        remark += f", planned {_range(*predicted.step_time_interval_s)} (90 %)"
    rows: list[tuple[str, ...]] = [("", "extrapolated" if measured.depths else "measured", "planned", "")]

    def add(label: str, value: float | None, planned: float | None, text: Callable[[float | None], str], remark: str = "") -> None:
        if value is not None:
            rows.append((label, text(value), "" if predicted is None else text(planned), remark))

    p = predicted
    add("Step", measured.step_time_s.median, p.step_time_s if p else None, units.format_seconds, remark)
    for name, spread in measured.phases.items():
        add(name.capitalize(), spread.median, p.phases[name] if p else None, units.format_seconds)
    if measured.tokens_per_s is not None:
        rows.append(("Tokens", units.format_rate(measured.tokens_per_s), "", ""))
    where = f"in the {measured.peak_phase} phase, at {measured.peak_operation}" if measured.peak_phase else ""
    label = "Peak of tensors" if measured.memory_kind == "tracked" else "Allocated peak"
    add(label, measured.allocated_bytes, p.allocated_bytes if p else None, units.format_bytes, where)
    add("Between steps", measured.static_bytes, p.static_bytes if p else None, units.format_bytes)
    add("Reserved peak", measured.reserved_bytes, p.reserved_bytes if p else None, units.format_bytes)
    watts = "" if measured.power_w is None else f"{measured.power_w:.0f} W measured"
    add("Energy of a step", measured.energy_per_step_j, p.energy_per_step_j if p else None, _joules, watts)
    return rows


def _joules(value: float | None) -> str:
    return "unknown" if value is None else f"{units.significant(value)} J"


def _range(low: float, high: float) -> str:
    return f"{units.format_seconds(low)} to {units.format_seconds(high)}"
