"""`probe`: a run measured for real, its plan for the same device, and the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from planner.catalog import identify
from planner.errors import PlanError
from planner.evidence import own
from planner.probe.compare import Comparison, compare
from planner.probe.depth import at_depth, depths, extrapolate, layers
from planner.probe.device import Device, open_device
from planner.probe.measure import STEPS, Measured, measure, too_large
from planner.probe.plan import Plan, plan
from planner.probe.predict import Predicted, predict
from planner.probe.row import append, row
from planner.run import Run

if TYPE_CHECKING:
    from planner.device.profile import DeviceProfile


class Probe(BaseModel):
    """A probe's result. The row has the columns of the table of measured runs."""

    model_config = ConfigDict(frozen=True)

    measured: Measured
    extrapolated: Measured | None = Field(None, description="Where memory ran out: the whole model from two depths.")
    predicted: Predicted | None
    comparison: Comparison
    row: dict[str, str]
    rows: str | None = Field(None, description="The table that the row was added to.")
    kept: str | None = Field(None, description="The user's own measurements, to which it was added.")
    run: Run


def probe(
    run: Run,
    device: str = "cpu",
    *,
    steps: int = STEPS,
    profile: DeviceProfile | None = None,
    rows: str | Path | None = None,
    keep: bool = True,
) -> Probe:
    """Train a run for a few steps on `device` and compare with its plan.

    Arguments
    ---------
    steps: timed steps.
    profile: of the device, for the plan.
    rows: a CSV table that the measurement is added to.
    keep: add it to the user's own measurements, which later plans of this run on this device stand on.

    Errors: PlanError for a run that cannot be built, naming the field, and for a table or a data folder that cannot be written.
    """
    place = open_device(device)
    if rows is not None and not Path(rows).parent.is_dir():
        raise PlanError("rows", str(rows), "is in a folder that does not exist", "Name a file in a folder that exists.")
    made = plan(run, place.kind, profile)
    predicted = _predict(run, place, profile)
    refused = too_large(made, place, predicted.allocated_bytes if predicted else None)
    measured = refused or measure(run, device, steps=steps, profile=profile)
    extrapolated = None
    if measured.outcome == "oom" and (at := depths(made.config)) is not None:
        found = [measure(run, device, steps=steps, profile=profile, config=at_depth(made.config, depth)) for depth in at]
        if all(part.outcome == "ok" for part in found):
            extrapolated = extrapolate(found[0], found[1], at, layers(made.config) or at[1])
    comparison = compare(predicted, measured)
    if extrapolated is not None:
        timed = compare(predicted, extrapolated)
        comparison = timed.model_copy(update={"fit_hit": comparison.fit_hit, "why": f"{comparison.why} Extrapolated: {timed.why}"})
    made_row = row(made, measured, place)
    if rows is not None:
        append(Path(rows), made_row)
    kept = own.keep(_own(made, measured, place, made_row)) if keep and measured.samples else None
    return Probe(
        measured=measured,
        extrapolated=extrapolated,
        predicted=predicted,
        comparison=comparison,
        row=made_row,
        rows=None if rows is None else str(rows),
        kept=None if kept is None else str(kept),
        run=made.resolved.run,
    )


def _own(made: Plan, measured: Measured, place: Device, cells: dict[str, str]) -> own.Own:
    """The measurement as the user's own evidence; under the kernel that ran, where the planned one is not installed."""
    substituted = str(made.resolved.attention) == "flash" and made.attention != "flash_attention_2"
    known = identify(place.name, place.memory_bytes, place.units) if place.kind == "cuda" else None
    return own.Own(
        key=own.key_of(made.resolved, made.attention if substituted else None),
        device=measured.device,
        accelerator=None if known is None else known.name,
        steps=tuple(sample["step"] for sample in measured.samples),
        allocated_bytes=measured.allocated_bytes,
        reserved_bytes=measured.reserved_bytes,
        energy_per_step_j=measured.energy_per_step_j,
        versions=measured.versions,
        date=measured.date,
        row=cells,
        family=own.family_of(made.resolved, made.attention if substituted else None),
        run=made.run.model_dump(mode="json", exclude_unset=True),
    )


def _predict(run: Run, place: Device, profile: DeviceProfile | None) -> Predicted | None:
    """The plan for the device; None where none can be made (the measurement stands without one)."""
    try:
        return predict(run, place, profile)
    except PlanError:
        if profile is not None:
            raise
        return None
