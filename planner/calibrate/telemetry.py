"""What the driver tells while a GPU is measured: clocks, power, temperature, who else uses it, and whether the clock is held down.

`Nvml` is the only place that talks to NVIDIA's management library. It may be missing, forbidden or silent about a figure: each of these
is a warning from a closed list, and measuring goes on.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from planner.errors import PlanError

WARNINGS: Final[dict[str, str]] = {
    "no_telemetry": "The driver's figures are not available, so throttling goes unseen. Install nvidia-ml-py and the NVIDIA driver.",
    "not_permitted": "The driver refuses its figures to this user. Ask for permission, or run as the owner of the GPU.",
    "not_supported": "This GPU does not report every figure (common on consumer cards and on MIG slices). What it reports is used.",
    "mig": "This is a slice of a partitioned GPU (MIG): the profile holds for slices of this size only.",
    "other_processes": "Other processes use this GPU. Stop them and calibrate again: they take time and memory from it.",
    "throttled": "The clock was held down by power or heat during part of the measurement. Those samples were left out; improve the "
    "cooling or raise the power limit.",
    "always_throttled": "The clock was held down nearly all the time, so throttled samples had to be used. The profile describes that state.",
    "lost": "The GPU stopped answering. Look at the driver's log (dmesg), reset the GPU or the machine, and calibrate again: finished samples are kept.",
    "busy_processor": "Other work keeps this machine's processor busy. Stop it and calibrate again: times vary more than 20 %.",
    "out_of_memory": "Some cases did not fit into the free memory and were left out.",
    "not_run": "Some cases do not run on this device or with this software and were left out; the log says which and why.",
    "short": "The time ran out before every case was measured. Give a larger budget for a narrower interval.",
}
"""Every warning of a calibration, and what to do about it."""

_HELD: Final = {
    0x0000000000000004: "power cap", 0x0000000000000008: "hardware slowdown", 0x0000000000000020: "thermal slowdown",
    0x0000000000000040: "hardware thermal slowdown", 0x0000000000000080: "power brake",
}  # fmt: skip
"""Throttle reasons that hold the clock down (nvml.h, nvmlClocksThrottleReasons); idle and application settings do not count."""


@dataclass(frozen=True)
class Reading:
    """One look at the GPU; None where it does not say. Clocks [MHz], power [W], temperature [°C], shares between 0 and 1, energy [J]."""

    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: float | None = None
    utilization: float | None = None
    memory_used_bytes: int | None = None
    energy_j: float | None = None
    held: tuple[str, ...] = ()
    others: int | None = None


@dataclass
class Telemetry:
    """Reads one GPU; without a library or a driver every reading is empty.

    in_container: processes have other numbers here than the driver gives them · warnings: names from `WARNINGS`, each once.
    """

    library: Any = None
    handle: Any = None
    in_container: bool = False
    warnings: list[str] = field(default_factory=list)

    def warn(self, name: str) -> None:
        """Note a warning of the closed list."""
        assert name in WARNINGS
        if name not in self.warnings:
            self.warnings.append(name)

    def read(self) -> Reading:
        """One look. A GPU that is lost is noted and gives an empty reading."""
        if self.handle is None:
            return Reading()
        lib, h = self.library, self.handle
        held = self._reasons()
        processes = self._ask(lambda: lib.nvmlDeviceGetComputeRunningProcesses(h))
        own = os.getpid()
        others = None if processes is None else sum(1 for p in processes if p.pid != own)
        if others and others == len(processes or ()) and self.in_container:
            others -= 1  # the driver counts in the host's numbers: one of them is this process
        if others:
            self.warn("other_processes")
        memory = self._ask(lambda: lib.nvmlDeviceGetMemoryInfo(h))
        rates = self._ask(lambda: lib.nvmlDeviceGetUtilizationRates(h))
        return Reading(
            sm_clock_mhz=self._ask(lambda: float(lib.nvmlDeviceGetClockInfo(h, lib.NVML_CLOCK_SM))),
            memory_clock_mhz=self._ask(lambda: float(lib.nvmlDeviceGetClockInfo(h, lib.NVML_CLOCK_MEM))),
            power_w=self._ask(lambda: lib.nvmlDeviceGetPowerUsage(h) / 1e3),
            power_limit_w=self._ask(lambda: lib.nvmlDeviceGetEnforcedPowerLimit(h) / 1e3),
            temperature_c=self._ask(lambda: float(lib.nvmlDeviceGetTemperature(h, lib.NVML_TEMPERATURE_GPU))),
            utilization=None if rates is None else rates.gpu / 100.0,
            memory_used_bytes=None if memory is None else int(memory.used),
            energy_j=self._ask(lambda: lib.nvmlDeviceGetTotalEnergyConsumption(h) / 1e3),
            held=held,
            others=others,
        )

    def figures(self) -> dict[str, float | None]:
        """Clock [MHz], power [W], temperature [°C] and memory in use [bytes] now; empty without a driver."""
        if self.handle is None:
            return {}
        now = self.read()
        used = None if now.memory_used_bytes is None else float(now.memory_used_bytes)
        return {"sm_clock_mhz": now.sm_clock_mhz, "power_w": now.power_w, "temperature_c": now.temperature_c, "memory_bytes": used}

    def held(self) -> bool:
        """Whether power or heat holds the clock down now."""
        if self.handle is None:
            return False
        found = bool(self._reasons())
        if found:
            self.warn("throttled")
        return found

    def _reasons(self) -> tuple[str, ...]:
        """What holds the clock down now; empty where the driver does not say."""
        bits = self._ask(lambda: self.library.nvmlDeviceGetCurrentClocksThrottleReasons(self.handle))
        return tuple(name for bit, name in _HELD.items() if bits is not None and bits & bit)

    def identity(self) -> dict[str, str | None]:
        """Driver version and the first eight characters of the GPU's identifier."""
        if self.handle is None:
            return {"driver": None, "uuid": None}
        uuid = self._ask(lambda: _text(self.library.nvmlDeviceGetUUID(self.handle)))
        return {
            "driver": self._ask(lambda: _text(self.library.nvmlSystemGetDriverVersion())),
            "uuid": uuid.removeprefix("GPU-").removeprefix("MIG-")[:8] if uuid else None,
        }

    def close(self) -> None:
        """Let go of the library."""
        if self.library is not None:
            self._ask(self.library.nvmlShutdown)
        self.library = self.handle = None

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except self.library.NVMLError as error:
            self.warn(_meaning(self.library, error))
            if "lost" in self.warnings:
                self.handle = None
            return None


def contained(root: Path = Path("/")) -> bool:
    """Whether this process runs in a container, as far as its files tell."""
    marks = (root / ".dockerenv", root / "run/.containerenv", root / "var/run/secrets/kubernetes.io")
    if any(mark.exists() for mark in marks):
        return True
    try:
        first = (root / "proc/1/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return False
    return first not in ("systemd", "init", "launchd", "openrc-init", "runit")


def open_telemetry(kind: str, uuid: str | None = None, index: int = 0, library: Any = None) -> Telemetry:
    """Telemetry of a CUDA device, by identifier where torch knows it (order and visibility may differ from the driver's), else by index.

    Any other kind of device has none and needs none. `library` stands in for `pynvml` in tests.
    """
    if kind != "cuda":
        return Telemetry()
    found = Telemetry(in_container=contained())
    if library is None:
        try:
            library = importlib.import_module("pynvml")
        except ImportError:
            found.warn("no_telemetry")
            return found
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        found.warn("not_permitted" if _meaning(library, error) == "not_permitted" else "no_telemetry")
        return found
    found.library = library
    try:
        found.handle = (
            library.nvmlDeviceGetHandleByUUID(uuid) if uuid else library.nvmlDeviceGetHandleByIndex(index)
        )
    except library.NVMLError as error:
        found.warn(_meaning(library, error))
        return found
    mode = found._ask(lambda: library.nvmlDeviceGetMigMode(found.handle)[0])
    if mode:
        found.warn("mig")
    elif mode is None and found.warnings == ["not_supported"]:
        found.warnings.clear()  # a GPU that cannot be partitioned says so by not supporting the question
    return found


def remedy(name: str) -> str:
    """The sentence of a warning. Raises `PlanError` for a name outside the list."""
    try:
        return WARNINGS[name]
    except KeyError:
        raise PlanError("warnings", name, "is no warning of a calibration", f"Known are {', '.join(WARNINGS)}.") from None


def _meaning(library: Any, error: Any) -> str:
    code = getattr(error, "value", None)
    if code == library.NVML_ERROR_NO_PERMISSION:
        return "not_permitted"
    if code == library.NVML_ERROR_GPU_IS_LOST:
        return "lost"
    return "not_supported"


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
