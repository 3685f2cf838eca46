"""What is believed of a device before it is measured: its catalogue row's curves, or those of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from planner.calibrate.hardware import Hardware
from planner.calibrate.result import Sample
from planner.catalog import identify
from planner.device import DeviceProfile, default_profile
from planner.device.processor import processor_profile

_DEFAULT: Final = {"fp32": 1e12, "bf16": 4e12, "fp16": 4e12}


def prior_profile(hardware: Hardware, samples: Sequence[Sample]) -> DeviceProfile:
    """The default profile of the catalogued part that the driver names; otherwise curves of a processor with the rates just measured."""
    if hardware.device.type == "cuda":
        part = identify(hardware.name, hardware.memory_bytes, hardware.units)
        if part is not None:
            return default_profile(part)
    peaks: dict[str, float] = {}
    for s in samples:
        if s.benchmark == "matmul":
            flops = 2.0 * float(s.case["m"]) * float(s.case["n"]) * float(s.case["k"])
            dtype = str(s.case["dtype"])
            peaks[dtype] = max(peaks.get(dtype, 0.0), flops / s.seconds)
    moved = [float(s.case["moved"]) / s.seconds for s in samples if s.benchmark == "operators" and s.case["operator"] == "residual"]
    return processor_profile(
        hardware.name,
        threads=hardware.units,
        peak_flops=peaks or dict(_DEFAULT),
        memory_bandwidth=max(moved, default=2e10),
        cache_bytes=hardware.cache_bytes,
        memory_bytes=hardware.memory_bytes,
    )
