"""What the planner says about a probe: the same run on the device that was measured, in the measurement's terms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from planner.catalog import identify
from planner.device.processor import processor_profile
from planner.estimate.engine import estimate
from planner.probe.device import Device
from planner.run import Run

if TYPE_CHECKING:
    from planner.device.profile import DeviceProfile
    from planner.estimate.result import Estimate

PHASES = ("forward", "backward", "optimizer")


class Predicted(BaseModel):
    """An estimate in the terms of a probe. Times [s], memory [bytes]."""

    model_config = ConfigDict(frozen=True)

    step_time_s: float | None
    step_time_interval_s: tuple[float, float] | None
    phases: dict[str, float] = Field(default_factory=dict)
    allocated_bytes: float
    reserved_bytes: float
    reserved_interval_bytes: tuple[float, float]
    static_bytes: float = Field(description="Weights, optimizer states and the like, between steps.")
    peak_moment: str = ""
    fits: bool | None
    energy_per_step_j: float | None = Field(None, description="Of the board alone, as its driver counts it.")
    basis: str


def predict(run: Run, device: Device, profile: DeviceProfile | None = None, *, clipped: bool = True) -> Predicted | None:
    """The estimate for the measured device, None where nothing is known of it. Raises `PlanError` for a run it cannot plan.

    Arguments
    ---------
    run: as planned; the accelerator it names is replaced by the one that was measured.
    device: that was measured.
    profile: of it; left out: the catalogue's curves of a GPU, assumed rates of a processor.
    clipped: whether the measured steps clipped gradients, as the Trainer does.
    """
    if profile is None and device.kind == "cpu":
        profile = processor_profile(device.name, threads=device.units or 1)
    name: str | None = None
    if profile is None:
        known = identify(device.name, device.memory_bytes, device.units)
        if known is None:
            return None
        name = known.name
    hardware = run.hardware.model_copy(update={"gpu": name, "gpus": 1})
    return in_terms(estimate(run.model_copy(update={"hardware": hardware}), profile), tracked=device.kind != "cuda", clipped=clipped)


def in_terms(e: Estimate, tracked: bool, clipped: bool = True) -> Predicted:
    """`e` as a measurement would say it. tracked: live tensors alone, without cuBLAS's workspace.

    A probe's steps follow each other without a training loop around them, so its share is left out of time and energy.
    """
    clip = 0.0 if clipped else e.total("time/optimizer/clip")
    bare = 1.0 - (e.total("time/overhead/loop") + clip) / e.step_time_s if e.step_time_s else 1.0
    step = None if e.step_time_s is None else bare * e.step_time_s
    interval = e.step_time_interval_s
    phases = {name: e.total(f"time/{name}") for name in PHASES}
    phases["optimizer"] -= clip
    phases["backward"] += e.total("time/recompute")
    static = e.total("memory/weights") + e.total("memory/optimizer") + e.total("memory/master")
    board = e.details.get("board_w")
    allocated = e.peak_memory_bytes
    if tracked and e.memory_curve:
        allocated = max(point.allocated - point.parts.get("workspace", 0.0) for point in e.memory_curve)
    return Predicted(
        step_time_s=step,
        step_time_interval_s=None if interval is None else (bare * interval[0], bare * interval[1]),
        phases=phases,
        allocated_bytes=allocated,
        reserved_bytes=e.peak_reserved_bytes,
        reserved_interval_bytes=e.peak_memory_interval_bytes,
        static_bytes=static,
        peak_moment=e.peak_moment,
        fits=e.fits,
        energy_per_step_j=None if board is None or step is None else board * step,
        basis=e.basis,
    )

