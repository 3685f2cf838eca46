"""The torch device that a probe runs on: its name, its memory counters, its software."""

from __future__ import annotations

import gc
import importlib.metadata
import platform
from dataclasses import dataclass
from typing import Any

import torch

from planner.calibrate.hardware import open_hardware

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "flash-attn", "nvidia-ml-py")


@dataclass(frozen=True)
class Device:
    """One device. memory_bytes: all of it, None where torch does not say · uuid: of a GPU, to find it again in the driver."""

    device: torch.device
    name: str
    memory_bytes: int | None = None
    units: int | None = None
    uuid: str | None = None

    @property
    def kind(self) -> str:
        """cpu, cuda, xpu, mps."""
        return self.device.type

    @property
    def index(self) -> int:
        """Number of the device among those of its kind."""
        return self.device.index or 0

    def synchronize(self) -> None:
        """Wait until all that was issued is done."""
        if self.kind != "cpu":
            torch.accelerator.synchronize(self.device)

    def clean(self) -> None:
        """Give unused memory back, cuBLAS's workspaces too, so that each measurement counts its own."""
        gc.collect()
        if self.kind == "cuda":
            release: Any = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
            if release is not None:
                release()
            torch.cuda.empty_cache()

    def allocated(self) -> int:
        """Bytes of live tensors; 0 where nothing counts them."""
        return torch.cuda.memory_allocated(self.device) if self.kind == "cuda" else 0

    def free_memory(self) -> int | None:
        """Bytes that a processor has left for tensors, None where the system does not say (or the device refuses by itself)."""
        if self.kind != "cpu":
            return None
        try:
            with open("/proc/meminfo", encoding="utf-8") as handle:
                found = next((line.split()[1] for line in handle if line.startswith("MemAvailable:")), None)
        except OSError:  # not Linux
            return None
        return int(found) * 1024 if found else None

    def reset_peak(self) -> None:
        """Forget earlier peaks."""
        if self.kind == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def peaks(self) -> dict[str, int]:
        """Peaks of the CUDA allocator since `reset_peak` [bytes]."""
        return {
            "allocated": torch.cuda.max_memory_allocated(self.device),
            "reserved": torch.cuda.max_memory_reserved(self.device),
        }

    def versions(self) -> dict[str, str]:
        """Software that a measurement depends on."""
        found = {"python": platform.python_version()}
        for name in PACKAGES:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        if torch.version.cuda and self.kind == "cuda":
            found["cuda"] = torch.version.cuda
        if self.kind == "cpu":
            found["threads"] = str(torch.get_num_threads())
        return found


def open_device(name: str) -> Device:
    """The device that `name` (``cpu``, ``cuda:0``, …) means here. Raises `PlanError` with what is missing."""
    found = open_hardware(name)
    if found.device.type != "cuda":
        return Device(found.device, found.name, units=found.threads)
    device = torch.device("cuda", found.device.index or 0)
    return Device(device, found.name, found.memory_bytes, found.units, found.uuid)
