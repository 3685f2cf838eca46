"""How long a memory-bound kernel takes for the bytes that it moves.

    time = t_launch + moved / (f_kind B) beyond the cache, and at `cached` times that rate for what the L2 cache still holds

f_kind is the fraction of the datasheet bandwidth B that kernels of this kind reach. The fractions come from the slope of time over
bytes in the published operator benchmarks of Liger-Kernel (median of large sizes against the next smaller, so that launch cost drops out).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from planner.errors import PlanError


class StreamCurve(BaseModel):
    """Fractions of the datasheet bandwidth by kind of kernel."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    launch_s: float = Field(gt=0, description="start and end of one kernel [s]")
    fractions: dict[str, float] = Field(description="reached over datasheet bandwidth, by kind of kernel")
    cached: float = Field(
        default=1.0, ge=1, description="rate of bytes that the L2 cache still holds, over that from memory"
    )
    cache_fraction: float = Field(
        default=0.0, ge=0, le=1, description="part of the L2 cache that holds what the last kernel wrote"
    )

    @field_validator("fractions")
    @classmethod
    def _positive(cls, value: dict[str, float]) -> dict[str, float]:
        if not value or any(not fraction > 0 for fraction in value.values()):
            raise ValueError("name at least one kind; every fraction must be above 0")
        return value


class Stream:
    """A curve bound to one device: what `DeviceProfile.stream_seconds` calls."""

    def __init__(self, curve: StreamCurve, memory_bandwidth: float, l2_bytes: float) -> None:
        self.curve = curve
        self._per_byte = {kind: 1.0 / (fraction * memory_bandwidth) for kind, fraction in curve.fractions.items()}
        self._resident = curve.cache_fraction * l2_bytes
        self._saved = self._resident * (1.0 - 1.0 / curve.cached)
        self._hit = 1.0 / curve.cached

    def seconds(self, bytes_moved: Any, kind: str) -> Any:
        """Time of one kernel that moves `bytes_moved` [bytes] to and from memory [s]; a scalar gives a float, an array an array."""
        try:
            per_byte = self._per_byte[kind]
        except KeyError:
            known = ", ".join(self._per_byte)
            raise PlanError(
                "kind", kind, "is not a kind of memory-bound kernel of this profile", f"Write one of {known}."
            ) from None
        if isinstance(bytes_moved, (int, float)):
            resident = self._resident
            spent = bytes_moved * self._hit if bytes_moved < resident else bytes_moved - self._saved
            return self.curve.launch_s + spent * per_byte
        moved = np.asarray(bytes_moved, dtype=np.float64)
        from_memory = np.where(moved < self._resident, moved * self._hit, moved - self._saved)
        return self.curve.launch_s + from_memory * per_byte
