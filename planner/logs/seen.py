"""Everything that logs of one run say together: time, batch, memory, and what the device did meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, median
from typing import Final

from planner.logs.record import OutOfMemory, Point, Record
from planner.logs.steps import Steps, steps_of

BUSY: Final = 0.5
"""Samples with at least this utilisation are under load."""


@dataclass(frozen=True)
class Telemetry:
    """Of the device under load, medians: clock and its limit [Hz], power and its limit [W]; share of samples that were throttled; utilisation of all."""

    samples: int
    clock: float | None = None
    clock_limit: float | None = None
    power: float | None = None
    power_limit: float | None = None
    throttled: float | None = None
    utilisation: float | None = None
    used: float | None = None
    total: float | None = None
    temperature: float | None = None
    where: str = ""


@dataclass(frozen=True)
class Seen:
    """What the logs say. None: they do not.

    micro, accumulation: of one device · global_batch: samples of a step, all ranks · tokens: of a step, all ranks · allocated, reserved: peak of one
    device [bytes] · data: waited for data within a step [s] · phases: forward, backward, optimizer [s] · device: name as the driver says it.
    """

    records: tuple[Record, ...]
    steps: Steps | None
    micro: float | None = None
    global_batch: float | None = None
    tokens: float | None = None
    sequence: float | None = None
    allocated: float | None = None
    reserved: float | None = None
    data: float | None = None
    retries: float | None = None
    phases: tuple[float, float, float] | None = None
    telemetry: Telemetry | None = None
    device: str | None = None
    oom: OutOfMemory | None = None
    wall: float | None = None

    @property
    def readers(self) -> tuple[str, ...]:
        """Formats of the logs."""
        return tuple(record.reader for record in self.records)


def seen(records: Sequence[Record], tokens: float | None, samples: float | None, gpus: int) -> Seen:
    """Logs of one run together. tokens, samples: of a planned step · gpus: accelerators of the run."""
    order = {"logged": 0, "clock": 1, "rate": 2, "mean": 3}
    timed = [found for record in records if (found := steps_of(record, tokens, samples, gpus)) is not None]
    steps = min(timed, key=lambda one: (order[one.means], -one.count), default=None)
    train = [point for record in records for point in record.of("train")]
    facts = {name: value for record in records for name, value in record.facts.items()}
    data = _median(train, "data_s")
    if data is None and steps is not None and (share := _median(train, "data_share")) is not None:
        data = share * steps.median
    phases = tuple(_median(train, name) for name in ("forward_s", "backward_s", "optimizer_s"))
    number = {name: value for name, value in facts.items() if isinstance(value, float)}
    return Seen(
        records=tuple(records),
        steps=steps,
        micro=number.get("train_batch_size"),
        global_batch=_most_common(train, "batch_samples") or _growth(records, "samples_seen"),
        tokens=_growth(records, "tokens_seen"),
        sequence=_most_common(train, "sequence"),
        allocated=_largest(train, "allocated_bytes") or number.get("allocated_bytes"),
        reserved=_largest(train, "reserved_bytes"),
        data=data,
        retries=_largest(train, "retries"),
        phases=(phases[0], phases[1], phases[2]) if phases[0] and phases[1] and phases[2] else None,
        telemetry=_telemetry([point for record in records for point in record.of("device")]),
        device=next((value for record in records if isinstance(value := record.facts.get("device"), str)), None),
        oom=next((record.oom for record in records if record.oom is not None), None),
        wall=number.get("train_seconds") or number.get("wall_seconds") or (steps.wall if steps is not None else None),
    )


def _values(points: Iterable[Point], name: str) -> list[float]:
    return [point.values[name] for point in points if name in point.values]


def _median(points: Iterable[Point], name: str) -> float | None:
    found = _values(points, name)
    return median(found) if found else None


def _largest(points: Iterable[Point], name: str) -> float | None:
    return max((value for value in _values(points, name) if value > 0), default=None)


def _most_common(points: Iterable[Point], name: str) -> float | None:
    found = Counter(value for value in _values(points, name) if value > 0)
    return found.most_common(1)[0][0] if found else None


def _growth(records: Sequence[Record], name: str) -> float | None:
    """By how much a running count grows with every step, over all of a log; None where entries do not say both."""
    for record in records:
        counted = [(p.step, p.values[name]) for p in record.of("train") if p.step is not None and name in p.values]
        rising = all(later[0] > earlier[0] and later[1] >= earlier[1] for earlier, later in pairwise(counted))
        if len(counted) > 1 and rising and counted[-1][1] > counted[0][1]:
            return (counted[-1][1] - counted[0][1]) / (counted[-1][0] - counted[0][0])
        if len(counted) == 1 and counted[0][0] > 0 and counted[0][1] > 0:
            return counted[0][1] / counted[0][0]
    return None


def _telemetry(points: Sequence[Point]) -> Telemetry | None:
    """Of the boards that worked; of several the median over all, and of memory the fullest."""
    if not points:
        return None
    utilisation = _values(points, "utilisation")
    loaded = [p for p in points if p.values.get("utilisation", 1.0) >= BUSY] or list(points)
    boards = {p.device for p in loaded}
    of_them = [p.values["utilisation"] for p in points if "utilisation" in p.values and p.device in boards]
    throttled = _values(loaded, "throttled")
    return Telemetry(
        samples=len(points),
        clock=_median(loaded, "clock_hz"), clock_limit=_median(loaded, "clock_limit_hz"), power=_median(loaded, "power_w"),
        power_limit=_median(loaded, "power_limit_w"), throttled=mean(throttled) if throttled else None,
        utilisation=mean(of_them) if of_them else mean(utilisation) if utilisation else None,
        used=_largest(loaded, "used_bytes"), total=_largest(loaded, "total_bytes"), temperature=_median(loaded, "temperature_c"),
        where=f"{points[0].where} to {points[-1].where}",
    )  # fmt: skip
