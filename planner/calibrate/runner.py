"""Run the microbenchmarks within a budget, and turn what they say into a profile."""

from __future__ import annotations

import datetime
import logging
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import torch

from planner.calibrate import processor_figures
from planner.calibrate.benchmarks import Benchmark, Case, benchmarks
from planner.calibrate.budget import parse_budget
from planner.calibrate.distributed import corrections
from planner.calibrate.fit import fit_profile
from planner.calibrate.hardware import Hardware, open_hardware
from planner.calibrate.result import Calibration, Sample
from planner.calibrate.telemetry import Telemetry, open_telemetry
from planner.calibrate.timing import measure
from planner.catalog import default_network, identify
from planner.device.collectives import Topology
from planner.device.conditions import Conditions
from planner.device.measured import Correction
from planner.errors import PlanError, shorten

_LONGEST_CASE: Final = 3.0
"""No case takes longer than this [s]: repeating on shrinks an interval that other cases need more."""
_FEW: Final = 20
"""A benchmark of fewer cases has them all early."""
_UNSTEADY: Final = 0.2
"""Interquartile range over the median of the typical case at which the machine counts as busy."""

_SHARED: Final = 0.3
"""Share of repetitions that other programs disturbed at which it does, too."""

_FAULTS: Final = (RuntimeError, ValueError, TypeError, AttributeError, ImportError, AssertionError, OSError)
"""What a kernel, a compiler or a library may end with."""
_MOST_FAULTS: Final = 20
"""So many cases in a row that do not run mean that the device itself does not."""
_log = logging.getLogger(__name__)

Progress = Callable[[str, float], None]
"""Called with the label of a benchmark and the share of the budget that is spent."""


def calibrate(
    device: str = "cuda:0",
    budget: str | float = "standard",
    *,
    first: Iterable[tuple[str, Case]] = (),
    finished: Iterable[Sample] = (),
    collectives: Sequence[Sample] = (),
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    keep: Callable[[Sample], None] | None = None,
    watch: Callable[[dict[str, float | None]], None] | None = None,
    planned: Callable[[dict[str, int]], None] | None = None,
    warned: Callable[[tuple[str, ...]], None] | None = None,
) -> Calibration:
    """Measure a device and fit its profile.

    Arguments
    ---------
    device: torch device, such as "cuda:0" or "cpu".
    budget: time to spend, a name of `BUDGETS` or seconds [s].
    first: cases that matter most to the run at hand, with the names of their benchmarks; measured before any other.
    finished: samples of an earlier, interrupted measurement of the same device; their cases are not repeated.
    collectives: samples between several of these devices, from `planner.calibrate.distributed`.
    progress, cancelled, keep: told how far it is; asked between cases whether to stop; handed every sample as soon as it exists.
    watch: handed the driver's figures between cases, or the system's of a processor.
    warned: told the names of all warnings so far, between cases.
    planned: told how many cases each benchmark has, by its name, those of `finished` included.

    Errors: PlanError for a device that is not there, a budget that is no time, or a measurement without a single sample.
    """
    seconds = parse_budget(budget)
    hardware = open_hardware(device)
    telemetry = open_telemetry(hardware.device.type, hardware.uuid, hardware.device.index or 0)
    samples = list(finished)
    done = {_key(s.benchmark, s.case) for s in samples}
    begin = time.monotonic()
    workspace, faults = _workspace(hardware), 0
    queue = [item for item in _queue(hardware, first, done) if item[2].least_budget <= seconds]
    if planned is not None:
        planned(dict(Counter([s.benchmark for s in samples] + [item[0] for item in queue])))
    try:
        for position, (name, label, case, share) in enumerate(queue):
            spent = time.monotonic() - begin
            if spent >= seconds or cancelled() or "lost" in telemetry.warnings:
                if spent >= seconds:
                    telemetry.warn("short")
                break
            if progress is not None:
                progress(label, spent / seconds)
            if warned is not None:
                warned(tuple(telemetry.warnings))
            if watch is not None:
                watch(processor_figures.figures() if hardware.synchronous else telemetry.figures())
            left = sum(item[3] for item in queue[position:])
            allowed = min(_LONGEST_CASE, (seconds - spent) * share / left)
            sample = _one(hardware, telemetry, name, case, allowed)
            faults = faults + 1 if sample is None else 0
            if sample is not None:
                samples.append(sample)
                if keep is not None:
                    keep(sample)
            if faults >= _MOST_FAULTS:
                break
    finally:
        outside = _outside(hardware, telemetry)
        now = telemetry.read()
        identity = telemetry.identity()
        telemetry.close()
    if not samples:
        raise PlanError("device", device, "gave not one sample", "Give a larger budget, or free the device and try again.")
    _judge(samples, telemetry)
    conditions = Conditions(
        device=hardware.name,
        kind=hardware.device.type,
        uuid=identity["uuid"],
        torch=torch.__version__,
        cuda=torch.version.cuda or torch.version.hip,
        driver=identity["driver"],
        python=platform.python_version(),
        threads=hardware.threads,
        memory_bytes=hardware.memory_bytes,
        power_limit_w=now.power_limit_w,
        sm_clock_mhz=now.sm_clock_mhz,
        temperature_c=now.temperature_c,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - begin, 1),
        warnings=tuple(telemetry.warnings),
    )
    profile = fit_profile(hardware, samples, conditions, context_bytes=outside, workspace_bytes=workspace, collectives=_wired(hardware, collectives))
    return Calibration(profile=profile, conditions=conditions, samples=(*samples, *collectives))


def _wired(hardware: Hardware, collectives: Sequence[Sample]) -> dict[str, Correction]:
    """How far the law of this device's usual wiring is off; nothing without samples or for a device without a known network."""
    part = identify(hardware.name, hardware.memory_bytes, hardware.units) if hardware.device.type == "cuda" else None
    if part is None or not collectives:
        return {}
    network = default_network(part)
    group, nodes = (max(int(float(s.case[name])) for s in collectives) for name in ("group", "nodes"))
    topology = Topology(group // nodes, network.intra_bandwidth or 1.0, network.intra_kind, network.inter_bandwidth)
    return corrections(collectives, topology)


def _outside(hardware: Hardware, telemetry: Telemetry) -> float | None:
    """What the driver holds for this process beside torch's allocator [bytes]; None where others use the device or it does not say."""
    if hardware.device.type != "cuda":
        return None
    seen = telemetry.read()
    if seen.memory_used_bytes is None or seen.others or seen.others is None:
        return None
    return max(0.0, float(seen.memory_used_bytes) - float(torch.cuda.memory_reserved(hardware.device)))


def _workspace(hardware: Hardware) -> float | None:
    """What the first product takes of the allocator beside its result, for the library's workspace [bytes]; None where nothing counts."""
    if hardware.device.type != "cuda":
        return None
    x = hardware.random(256, 256, dtype="bf16")
    release: Any = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
    if release is None:
        return None
    release()
    before = torch.cuda.memory_allocated(hardware.device)
    y = x @ x
    hardware.synchronize()
    return max(0.0, float(torch.cuda.memory_allocated(hardware.device) - before - y.untyped_storage().nbytes()))


def _queue(
    hardware: Hardware, first: Iterable[tuple[str, Case]], done: set[tuple[object, ...]]
) -> list[tuple[str, str, Case, float]]:
    """What to measure, in order: the run's own cases, then the others of all benchmarks in turn, so that a short budget touches each.

    The last item is the part of the time that a case deserves.
    """
    registered = benchmarks()
    labels = {b.name: b.label for b in registered}
    queue = [(name, labels[name], case, 0.02) for name, case in first]
    listed: list[tuple[float, int, Benchmark, Case, float]] = []
    for number, benchmark in enumerate(registered):
        cases = list(benchmark.cases(hardware))
        for i, case in enumerate(cases):
            listed.append((i / max(len(cases), _FEW), number, benchmark, case, benchmark.share / len(cases)))
    listed.sort(key=lambda item: item[:2])
    queue += [(b.name, b.label, case, share) for _, _, b, case, share in listed]
    fresh, seen = [], set(done)
    for item in queue:
        key = _key(item[0], item[2].shape)
        if key not in seen:
            seen.add(key)
            fresh.append(item)
    return fresh


def _key(name: str, shape: dict[str, float | str]) -> tuple[object, ...]:
    return (name, *sorted((k, v if isinstance(v, str) else float(v)) for k, v in shape.items()))


def _one(hardware: Hardware, telemetry: Telemetry, name: str, case: Case, seconds: float) -> Sample | None:
    """One case; None when it does not fit into memory, the device does not have the operation, or it does not run here."""
    try:
        work = case.prepare()
        return measure(hardware, name, case.shape, work, seconds, telemetry.held if case.unthrottled else lambda: False)
    except torch.OutOfMemoryError:
        telemetry.warn("out_of_memory")
    except NotImplementedError:
        return None  # an operator that this kind of device does not have says nothing about its speed
    except _FAULTS as error:  # one kernel that this software or device refuses must not end the measurement
        _log.warning("%s %s does not run here: %s: %s", name, case.shape, type(error).__name__, shorten(error, 200))
        telemetry.warn("not_run")
    return None


def _judge(samples: list[Sample], telemetry: Telemetry) -> None:
    spreads = sorted(s.iqr / s.seconds for s in samples)
    shared = sum(s.disturbed for s in samples) > _SHARED * sum(s.disturbed + len(s.raw) for s in samples)
    if spreads[len(spreads) // 2] > _UNSTEADY or shared:
        telemetry.warn("busy_processor")
    if all(s.throttled >= len(s.raw) for s in samples):
        telemetry.warn("always_throttled")
