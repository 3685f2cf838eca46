"""Train a few steps of a planned run for real and measure them. Out of memory is a result."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from planner.calibrate.telemetry import WARNINGS, open_telemetry
from planner.errors import shorten
from planner.probe.build import build
from planner.probe.device import Device, open_device
from planner.probe.load import BUSY, Load
from planner.probe.plan import Plan, plan
from planner.probe.power import Watch
from planner.probe.training import PHASES, Loop
from planner.run import Run
from planner.units import format_bytes

if TYPE_CHECKING:
    from planner.device.profile import DeviceProfile

STEPS = 10
WARM_UP = 3
_REFUSALS = ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")


class Spread(BaseModel):
    """Median and quartiles of repeated measurements."""

    model_config = ConfigDict(frozen=True)

    median: float
    low: float = Field(description="Lower quartile.")
    high: float = Field(description="Upper quartile.")

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """The spread of at least one value."""
        if len(values) == 1:
            return cls(median=values[0], low=values[0], high=values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median=median, low=low, high=high)


class Measured(BaseModel):
    """What a probe found. Times [s], memory [bytes], energy [J]; None where it was not measured."""

    model_config = ConfigDict(frozen=True)

    outcome: Literal["ok", "oom"]
    device: str
    device_kind: str
    step_time_s: Spread | None = None
    phases: dict[str, Spread] = Field(default_factory=dict, description="Forward, backward, optimizer.")
    samples: tuple[dict[str, float], ...] = Field((), description="Every timed step.")
    tokens_per_s: float | None = None
    samples_per_s: float | None = None
    allocated_bytes: int | None = Field(None, description="Peak of live tensors.")
    reserved_bytes: int | None = Field(None, description="Peak that the allocator held; CUDA only.")
    static_bytes: int | None = Field(None, description="Alive between steps: weights, optimizer states, batch.")
    memory_kind: Literal["allocator", "tracked"] | None = None
    peak_phase: str | None = None
    peak_operation: str | None = None
    peak_module: str | None = None
    peak_by_phase: dict[str, int] = Field(default_factory=dict)
    power_w: float | None = None
    energy_per_step_j: float | None = None
    sm_clock_mhz: float | None = None
    others: float | None = Field(None, description="Share of the machine's processors that other programs took.")
    loss: tuple[float, float] | None = Field(None, description="Of the first and the last step.")
    parameters: int | None = None
    trainable_parameters: int | None = None
    depths: tuple[int, int] | None = Field(None, description="Layers that were measured, where the whole model was too large.")
    versions: dict[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    oom: str | None = Field(None, description="Where memory ran out.")
    date: str = ""


def measure(
    run: Run,
    device: str = "cpu",
    *,
    steps: int = STEPS,
    profile: DeviceProfile | None = None,
    memory: bool = True,
    seconds: float | None = None,
    config: Mapping[str, Any] | None = None,
) -> Measured:
    """Build a run on `device` and time its steps.

    Arguments
    ---------
    steps: timed steps, after the warm-up.
    profile: of the device, for defaults that depend on it (precision).
    memory: whether a processor's live bytes are tracked, in one slow step of its own.
    seconds: about how long the timed steps may take [s]; fewer steps then, at least 3.
    config: of the model, in place of the run's own (another depth).

    Errors: PlanError for a run that cannot be built.
    """
    place = open_device(device)
    made = plan(run, place.kind, profile)
    try:
        return _measure(made, place, steps, memory, seconds, config)
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        return _out_of_memory(made, place, error)
    finally:
        place.clean()


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out: torch's own on a GPU, or its allocator's on a processor."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in _REFUSALS)


def _measure(
    made: Plan, place: Device, steps: int, memory: bool, seconds: float | None, config: Mapping[str, Any] | None = None
) -> Measured:
    place.clean()
    base = place.allocated()
    loop = build(made, place.device, config)
    place.clean()  # what building left over (whole weights before they are quantised) is no part of training
    with warnings.catch_warnings(), loop.format.products():
        warnings.simplefilter("ignore")
        if place.kind != "cpu":
            loop.run(1)  # loads kernels, which says nothing about a step
            place.synchronize()
        begin = time.perf_counter()
        loop.run(1)
        place.synchronize()
        first = time.perf_counter() - begin
        count = steps if seconds is None else max(3, min(steps, int(seconds / max(first, 1e-4))))
        loop.run(max(1, min(WARM_UP, count)) - 1 or 1)
        place.reset_peak()
        telemetry = open_telemetry(place.kind, place.uuid, place.index)
        with Watch(telemetry) as watch, Load() as load:
            samples = loop.run(count)
        telemetry.close()
        figures = _memory(loop, place, base, memory)
    times = Spread.of([sample["step"] for sample in samples])
    batch = made.resolved.run.batch
    sequences = batch.micro * batch.accumulation
    tokens = sequences * (batch.seq_len or 0)
    losses = (float(loop.losses[0]), float(loop.losses[-1]))
    energy = watch.energy
    parameters = {id(p): p for p in loop.model.parameters()}.values()
    notes = [*made.notes, *(WARNINGS[name] for name in telemetry.warnings if name != "throttled")]
    if place.kind == "cpu" and load.others is not None and load.others > BUSY:
        notes.append(f"Other programs took {load.others:.0%} of this machine's processors while the steps ran: they are slower for it.")
    if watch.throttled:
        notes.append("Power or heat held the clock down while the steps ran.")
    return Measured(
        outcome="ok",
        device=place.name,
        device_kind=place.kind,
        step_time_s=times,
        phases={name: Spread.of([sample[name] for sample in samples]) for name in PHASES},
        samples=tuple(samples),
        tokens_per_s=tokens / times.median if tokens else None,
        samples_per_s=sequences / times.median,
        power_w=watch.power,
        energy_per_step_j=None if energy is None else energy / count,
        sm_clock_mhz=watch.clock,
        others=load.others,
        loss=losses,
        parameters=sum(p.numel() for p in parameters),
        trainable_parameters=sum(p.numel() for p in parameters if p.requires_grad),
        versions=place.versions(),
        notes=tuple(notes),
        date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **figures,
    )


def _memory(loop: Loop, place: Device, base: int, wanted: bool) -> dict[str, Any]:
    """Peak memory: of CUDA's allocator over the timed steps, or tracked in a step of its own."""
    if place.kind == "cuda":
        peak = place.peaks()
        return {
            "allocated_bytes": peak["allocated"] - base,
            "reserved_bytes": peak["reserved"],
            "static_bytes": place.allocated() - base,
            "memory_kind": "allocator",
        }
    if not wanted:
        return {}
    found = loop.tracked()
    return {
        "allocated_bytes": found["peak"],
        "static_bytes": found["static"],
        "memory_kind": "tracked",
        "peak_phase": found["phase"] or None,
        "peak_operation": found["operation"] or None,
        "peak_module": found["module"] or None,
        "peak_by_phase": found["by_phase"],
    }


def too_large(made: Plan, place: Device, wanted: float | None) -> Measured | None:
    """Out of memory without trying, where a processor would swap instead of refusing; None where it fits. wanted: planned peak [bytes]."""
    free = place.free_memory()
    if place.kind != "cpu" or wanted is None or free is None or wanted <= free:
        return None
    what = f"not started: about {format_bytes(wanted)} are needed and {format_bytes(free)} are free"
    return _out_of_memory(made, place, what)


def _out_of_memory(made: Plan, place: Device, reason: object) -> Measured:
    return Measured(
        outcome="oom",
        device=place.name,
        device_kind=place.kind,
        versions=place.versions(),
        notes=made.notes,
        oom=shorten(reason, 300),
        date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )


