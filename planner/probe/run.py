"""`probe`: a run measured for real, its plan for the same device, and the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from planner.errors import PlanError
from planner.probe.compare import Comparison, compare
from planner.probe.depth import at_depth, depths, extrapolate, layers
from planner.probe.device import Device, open_device
from planner.probe.measure import STEPS, Measured, measure, too_large
from planner.probe.plan import plan
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
    run: Run


def probe(
    run: Run,
    device: str = "cpu",
    *,
    steps: int = STEPS,
    profile: DeviceProfile | None = None,
    rows: str | Path | None = None,
) -> Probe:
    """Train a run for a few steps on `device` and compare with its plan.

    Arguments
    ---------
    steps: timed steps.
    profile: of the device, for the plan.
    rows: a CSV table that the measurement is added to.

    Errors: PlanError for a run that cannot be built, naming the field, and for a table that cannot be written.
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
    return Probe(
        measured=measured,
        extrapolated=extrapolated,
        predicted=predicted,
        comparison=comparison,
        row=made_row,
        rows=None if rows is None else str(rows),
        run=made.resolved.run,
    )


def _predict(run: Run, place: Device, profile: DeviceProfile | None) -> Predicted | None:
    """The plan for the device; None where none can be made (the measurement stands without one)."""
    try:
        return predict(run, place, profile)
    except PlanError:
        if profile is not None:
            raise
        return None
