"""What the engine says about a measured row, on the scale on which the row was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from planner.catalog.accelerators import find_accelerator, normalise
from planner.device.profile import DeviceProfile
from planner.errors import PlanError
from planner.estimate import uncertainty
from planner.estimate.result import Estimate
from planner.evidence.lengths import cache_is_cleared, cache_is_whole, has_mean_length, longest_is_known, walked_share
from planner.evidence.mapping import Skip, to_run
from planner.evidence.rows import Row
from planner.run import Run, parse_run
from planner.units import GIB

Engine = Callable[[Run, DeviceProfile | None], Estimate]
ALLOCATED_KINDS: Final = frozenset({"allocated", "active"})


@dataclass(frozen=True, slots=True)
class Prediction:
    """Figures of one row. Time in seconds, memory in GiB as in the table; `skipped` says why there are none.

    `memory_gib` and its interval are on the scale of the row's `mem_kind`: allocated, reserved, or reserved plus the driver's context.
    """

    skipped: str | None = None
    stack: str | None = None
    basis: str | None = None
    step_time_s: float | None = None
    tokens_per_s_gpu: float | None = None
    tokens_low: float | None = None
    tokens_high: float | None = None
    allocated_gib: float | None = None
    reserved_gib: float | None = None
    memory_gib: float | None = None
    memory_low_gib: float | None = None
    memory_high_gib: float | None = None
    fits: bool | None = None
    usable_gib: float | None = None
    limited_by: str | None = None
    time_parts: dict[str, float] = field(default_factory=dict)
    memory_parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Figures:
    """The part of an estimate that scoring needs; the ledger of thousands of estimates would not fit in memory."""

    stack: str
    basis: str
    step_time_s: float | None
    step_interval_s: tuple[float, float] | None
    tokens_per_s_gpu: float | None
    allocated: float
    reserved: float
    reserved_interval: tuple[float, float]
    fragmented: dict[str, float]
    usable: float | None
    fits: bool | None
    limited_by: str
    time_parts: dict[str, float]
    memory_parts: dict[str, float]


class Predictor:
    """Estimates rows; equal configurations are estimated once.

    Arguments
    ---------
    profile: a device profile that was measured on one accelerator; rows of another accelerator keep the catalogue's profile.
    engine: the function that estimates a run; `planner.estimate.estimate` when left out.
    """

    def __init__(self, profile: DeviceProfile | None = None, engine: Engine | None = None) -> None:
        if engine is None:
            from planner.estimate.engine import estimate

            engine = estimate
        self.profile, self.engine = profile, engine
        self._known: dict[str, _Figures | str] = {}

    def predict(self, row: Row) -> Prediction:
        """The engine's figures for one row, or the reason why there are none."""
        try:
            time = self._estimate(to_run(row, "time"), row)
            memory = self._estimate(to_run(row, "memory"), row) if has_mean_length(row) else time
        except Skip as reason:
            return Prediction(skipped=str(reason))
        compared = _compared(row, memory)
        low, high = _memory_ratios(row, memory)
        tokens, span = time.tokens_per_s_gpu, _time_ratios(row, time)
        if tokens:
            tokens /= walked_share(row)  # as the source counts
        return Prediction(
            stack=time.stack,
            basis=time.basis,
            step_time_s=time.step_time_s,
            tokens_per_s_gpu=tokens,
            tokens_low=tokens / span[1] if tokens and span else None,
            tokens_high=tokens / span[0] if tokens and span else None,
            allocated_gib=memory.allocated / GIB,
            reserved_gib=_held(row, memory) / GIB,
            memory_gib=compared,
            memory_low_gib=compared * low,
            memory_high_gib=compared * high,
            fits=memory.fits,
            usable_gib=None if memory.usable is None else memory.usable / GIB,
            limited_by=time.limited_by or None,
            time_parts=time.time_parts,
            memory_parts=memory.memory_parts,
        )

    def _estimate(self, mapping: dict[str, Any], row: Row) -> _Figures:
        key = repr(mapping)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._fresh(mapping, row)
        if isinstance(known, str):
            raise Skip(known)
        return known

    def _fresh(self, mapping: dict[str, Any], row: Row) -> _Figures | str:
        profile = self.profile if self._profile_applies(row) else None
        if profile is not None:
            mapping = mapping | {"hardware": {key: value for key, value in mapping["hardware"].items() if key != "gpu"}}
        try:
            return _figures(self.engine(parse_run(mapping), profile))
        except PlanError as error:
            return str(error)

    def _profile_applies(self, row: Row) -> bool:
        """A profile speaks for its own device only; a row that names none takes it."""
        if self.profile is None:
            return False
        return row.gpu is None or _name(row.gpu) == _name(self.profile.accelerator_name)


def _name(gpu: str) -> str:
    try:
        return find_accelerator(gpu).name
    except PlanError:
        return normalise(gpu)


def _figures(estimate: Estimate) -> _Figures:
    time_parts: dict[str, float] = {}
    memory_parts: dict[str, float] = {}
    for term in estimate.terms:
        head, _, rest = term.name.partition("/")
        if head == "time":
            key = "/".join(rest.split("/")[:2])
            time_parts[key] = time_parts.get(key, 0.0) + term.value
        elif head in ("memory", "reserved"):
            key = rest.split("/")[0] if head == "memory" else "reserved"
            memory_parts[key] = memory_parts.get(key, 0.0) + term.value / GIB
    return _Figures(
        stack=estimate.run.stack,
        basis=estimate.basis,
        step_time_s=estimate.step_time_s,
        step_interval_s=estimate.step_time_interval_s,
        tokens_per_s_gpu=estimate.tokens_per_s_per_gpu,
        allocated=estimate.peak_memory_bytes,
        reserved=estimate.peak_reserved_bytes,
        reserved_interval=estimate.peak_memory_interval_bytes,
        fragmented=estimate.details.get("fragmented_bytes") or {},
        usable=estimate.usable_memory_bytes,
        fits=estimate.fits,
        limited_by=estimate.limited_by,
        time_parts=time_parts,
        memory_parts=memory_parts,
    )


def facts_of(row: Row, prediction: Prediction | _Figures) -> dict[str, Any]:
    """What `planner.estimate.uncertainty.interval` is asked with for a row."""
    gpus = row.gpus or 1
    return {
        "basis": prediction.basis,
        "stack": prediction.stack,
        "gpus": gpus,
        "nodes": -(-gpus // (row.gpus_per_node or min(gpus, 8))),
        "tokens": (row.micro_batch or 0) * (row.seq_len or 0),
        "encoder": row.arch == "encoder",
        "mixture": bool(row.experts),
        "lengths": "equal" if longest_is_known(row) else "varying",
        "counter": "live" if row.mem_kind in ALLOCATED_KINDS else "held",
    }


def _time_ratios(row: Row, time: _Figures) -> tuple[float, float] | None:
    """Interval of the step time over its estimate."""
    if not time.step_time_s or time.step_interval_s is None:
        return None
    if row.arch == "encoder" or row.experts:
        span = uncertainty.interval("time", facts_of(row, time))
        return span.low_ratio, span.high_ratio
    low, high = time.step_interval_s
    return low / time.step_time_s, high / time.step_time_s


def _memory_ratios(row: Row, memory: _Figures) -> tuple[float, float]:
    """Interval of memory over its estimate; the run file cannot say that lengths vary, so that class is asked for here."""
    if longest_is_known(row) and not row.experts:
        low, high = memory.reserved_interval
        return low / memory.reserved, high / memory.reserved
    span = uncertainty.interval("memory", facts_of(row, memory))
    return span.low_ratio, span.high_ratio


def _compared(row: Row, memory: _Figures) -> float:
    """The estimate of what the row's counter counts [GiB]."""
    if row.mem_kind in ALLOCATED_KINDS:
        return memory.allocated / GIB
    if row.mem_kind == "nvidia-smi":
        return (_held(row, memory) + _context(row, memory)) / GIB
    return _held(row, memory) / GIB


def _held(row: Row, memory: _Figures) -> float:
    """What the allocator holds [bytes]: more than a step needs where samples differ in length, up to all that there is."""
    if longest_is_known(row) or not memory.fragmented or cache_is_whole(row):
        return memory.reserved
    held = memory.fragmented["cleared" if cache_is_cleared(row) else "kept"]
    return max(memory.reserved, min(held, memory.usable or held))


def _context(row: Row, memory: _Figures) -> float:
    """What the driver and its libraries hold beside the allocator [bytes]: the device's memory less what the estimate calls usable."""
    if memory.usable is None:
        return 0.0
    try:
        total = row.gpu_mem_gib * GIB if row.gpu_mem_gib else float(find_accelerator(row.gpu or "").usable_memory_bytes)
    except PlanError:
        return 0.0
    return max(0.0, total - memory.usable)
