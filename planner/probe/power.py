"""Power and energy of a GPU while it trains, from the telemetry that calibration uses too."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, fields

from planner.calibrate.telemetry import Reading, Telemetry

INTERVAL = 0.1
"""Seconds between two looks at the GPU."""


def sample(telemetry: Telemetry) -> dict[str, float]:
    """What the GPU says now, figures only: ``power_w``, ``energy_j`` (since the driver was loaded), ``sm_clock_mhz`` and the like.

    Empty without a library, a driver or a right to read. ``held`` counts the reasons that hold the clock down.
    """
    reading = telemetry.read()
    found = {f.name: getattr(reading, f.name) for f in fields(Reading)}
    figures = {name: float(value) for name, value in found.items() if isinstance(value, int | float)}
    return {**figures, "held": float(len(reading.held))} if figures else {}


@dataclass
class Watch:
    """Looks at the GPU in the background while a block runs; `energy` is then what the block took."""

    telemetry: Telemetry
    samples: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Watch:
        self._look()
        if self.samples[-1][1]:
            self._thread = threading.Thread(target=self._repeat, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._look()

    def _repeat(self) -> None:
        while not self._stop.wait(INTERVAL):
            self._look()

    def _look(self) -> None:
        self.samples.append((time.perf_counter(), sample(self.telemetry)))

    @property
    def power(self) -> float | None:
        """Mean power, over time [W]; None where the driver says nothing."""
        energy, seconds = self.energy, self.samples[-1][0] - self.samples[0][0]
        return None if energy is None or seconds <= 0 else energy / seconds

    @property
    def energy(self) -> float | None:
        """Energy of the block [J]: the driver's counter, or power integrated over time where there is no counter."""
        first, last = self.samples[0][1], self.samples[-1][1]
        if "energy_j" in first and "energy_j" in last:
            return last["energy_j"] - first["energy_j"]
        seen = [(at, found["power_w"]) for at, found in self.samples if "power_w" in found]
        if len(seen) < 2:
            return None
        return sum((b - a) * (p + q) / 2 for (a, p), (b, q) in zip(seen, seen[1:], strict=False))

    @property
    def clock(self) -> float | None:
        """Lowest clock of the processors seen [MHz]."""
        return min((found["sm_clock_mhz"] for _, found in self.samples if "sm_clock_mhz" in found), default=None)

    @property
    def throttled(self) -> bool:
        """Whether power or heat held the clock down at any look."""
        return any(found.get("held", 0.0) > 0 for _, found in self.samples)
