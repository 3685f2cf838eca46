"""Where and when a device was measured, and which differences since then make a profile stale."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

VERSIONS: Final = ("device", "torch", "cuda", "driver", "threads", "power_limit_w")
"""What must still be the same for the curves to describe the machine: they set kernels, clocks and how work is divided."""


class Conditions(BaseModel):
    """Where and when a device was measured, so that a reader can tell whether the profile still describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    device: str = Field(description="name as the driver or the operating system reports it")
    kind: str = Field(description="torch device type")
    uuid: str | None = Field(default=None, description="first eight characters of the driver's identifier")
    torch: str
    cuda: str | None = None
    driver: str | None = None
    python: str
    threads: int | None = Field(default=None, description="threads of one operator, on a processor")
    memory_bytes: int | None = Field(default=None, description="memory of the device [bytes]")
    power_limit_w: float | None = None
    sm_clock_mhz: float | None = None
    temperature_c: float | None = None
    date: str = Field(description="UTC, ISO 8601")
    seconds: float = Field(description="how long the measurement took [s]")
    warnings: tuple[str, ...] = Field(default=(), description="names of what disturbed the measurement, each with a remedy")

    def stale_against(self, now: Conditions) -> tuple[str, ...]:
        """What has changed since, in words; empty while the profile still describes this machine."""
        found = []
        for name in VERSIONS:
            then, today = getattr(self, name), getattr(now, name)
            if then != today:
                found.append(f"{name.replace('_', ' ')}: measured with {then}, now {today}")
        return tuple(found)
