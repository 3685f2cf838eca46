"""What a log says, in one shape whatever wrote it: SI units, and where in the file each value stood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Kind = Literal["train", "evaluation", "checkpoint", "device"]

QUANTITIES: Final[dict[str, str]] = {
    "step_s": "s", "data_s": "s", "forward_s": "s", "backward_s": "s", "optimizer_s": "s", "pause_s": "s",
    "tokens_per_s": "token/s", "tokens_per_s_per_gpu": "token/s", "samples_per_s": "1/s",
    "loss": "1", "tokens_seen": "1", "samples_seen": "1", "batch_samples": "1", "sequence": "1", "data_share": "1",
    "allocated_bytes": "B", "reserved_bytes": "B", "used_bytes": "B", "total_bytes": "B", "retries": "1",
    "power_w": "W", "power_limit_w": "W", "clock_hz": "Hz", "clock_limit_hz": "Hz", "utilisation": "1", "temperature_c": "°C", "throttled": "1",
    "flops_per_s": "FLOP/s",
}  # fmt: skip
"""What points may hold, and the unit of each. Memory is the peak so far of one device; `data_s` is waited for data within one step."""


@dataclass(frozen=True, slots=True)
class Point:
    """One entry. where: its place in the file · step: the optimizer step it follows · time_s: clock, or since the start · device: of telemetry."""

    where: str
    kind: Kind
    values: Mapping[str, float]
    step: int | None = None
    time_s: float | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """A CUDA out-of-memory message [bytes]. None: the message does not say it.

    tried: size of the allocation that failed · total, free: of the device · allocated: by tensors · unallocated: reserved by PyTorch and not in use ·
    private: of the allocated, in private pools (CUDA graphs) · process: all that this process held · others: what other processes held ·
    limit: a cap on this process · frames: functions of the traceback, the innermost last.
    """

    where: str
    tried: float | None
    device: int | None = None
    total: float | None = None
    free: float | None = None
    allocated: float | None = None
    unallocated: float | None = None
    private: float | None = None
    process: float | None = None
    others: float | None = None
    limit: float | None = None
    wording: str = ""
    frames: tuple[str, ...] = ()

    @property
    def reserved(self) -> float | None:
        """What PyTorch held of the device, in use or not [bytes]."""
        return None if self.allocated is None else self.allocated + (self.unallocated or 0.0)

    @property
    def outside(self) -> float | None:
        """What this process held besides PyTorch's allocator: CUDA context, NCCL, libraries' workspaces [bytes]."""
        return None if self.process is None or self.reserved is None else max(0.0, self.process - self.reserved)


@dataclass(frozen=True, slots=True)
class Record:
    """A log that was read. reader: name of the format · facts: what it says of the whole run, SI · notes: what the reader has to say, in sentences."""

    source: str
    reader: str
    points: tuple[Point, ...] = ()
    facts: Mapping[str, float | str] = field(default_factory=dict)
    oom: OutOfMemory | None = None
    notes: tuple[str, ...] = ()
    digest: str = ""

    def of(self, kind: Kind) -> tuple[Point, ...]:
        """Entries of one kind."""
        return tuple(point for point in self.points if point.kind == kind)
