"""Power and energy of a GPU while it trains, as the driver tells them. Nothing else of the probe talks to the driver."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

INTERVAL = 0.1
"""Seconds between two looks at the power."""


@dataclass
class Meter:
    """Reads one GPU: `sample()` is what the driver says now. Without a library, a driver or a right to read it says nothing.

    library: stands in for ``pynvml`` in tests · problem: why nothing is read, None while something is.
    """

    uuid: str | None = None
    index: int = 0
    library: Any = None
    problem: str | None = None
    _handle: Any = None

    def open(self) -> Meter:
        """Start talking to the driver."""
        if self.library is None:
            try:
                import pynvml as library
            except ImportError:
                self.problem = "nvidia-ml-py is not installed"
                return self
            self.library = library
        try:
            self.library.nvmlInit()
            if self.uuid:
                self._handle = self.library.nvmlDeviceGetHandleByUUID(self.uuid)
            else:
                self._handle = self.library.nvmlDeviceGetHandleByIndex(self.index)
        except self.library.NVMLError as error:
            self.problem = f"the driver does not answer ({error})"
        return self

    def sample(self) -> dict[str, float]:
        """``power_w``, ``energy_j`` (since the driver was loaded), ``sm_clock_mhz``, ``temperature_c``: those that the GPU reports."""
        if self._handle is None:
            return {}
        lib, handle = self.library, self._handle
        asked: dict[str, Callable[[], float]] = {
            "power_w": lambda: lib.nvmlDeviceGetPowerUsage(handle) / 1e3,
            "energy_j": lambda: lib.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3,
            "sm_clock_mhz": lambda: float(lib.nvmlDeviceGetClockInfo(handle, lib.NVML_CLOCK_SM)),
            "temperature_c": lambda: float(lib.nvmlDeviceGetTemperature(handle, lib.NVML_TEMPERATURE_GPU)),
        }
        found: dict[str, float] = {}
        for name, question in asked.items():
            try:
                found[name] = question()
            except lib.NVMLError as error:
                self.problem = f"the GPU does not report everything ({error})"
        return found


@dataclass
class Watch:
    """Looks at the power in the background while a block runs; `energy` is then what the block took."""

    meter: Meter
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
        self.samples.append((time.perf_counter(), self.meter.sample()))

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
        seen = [(at, sample["power_w"]) for at, sample in self.samples if "power_w" in sample]
        if len(seen) < 2:
            return None
        return sum((b - a) * (p + q) / 2 for (a, p), (b, q) in zip(seen, seen[1:], strict=False))

    @property
    def clock(self) -> float | None:
        """Lowest clock of the processors seen [MHz]."""
        return min((s["sm_clock_mhz"] for _, s in self.samples if "sm_clock_mhz" in s), default=None)
