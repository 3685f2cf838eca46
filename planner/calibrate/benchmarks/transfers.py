"""Copies between host and device: pageable and pinned, each way, alone and beside products."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from planner.calibrate.benchmarks import Case, benchmark
from planner.calibrate.hardware import Hardware

SIZES = (2**26, 2**20, 2**28)
"""Bytes of one copy."""
BESIDE = (4096, 4096, 4096)
"""The product beside which copies run."""


@benchmark("transfers", "Copies between host and device", 0.03)
def transfers(hardware: Hardware) -> Iterator[Case]:
    """Nothing on a processor, which is its own host."""
    if hardware.synchronous:
        return
    for size in SIZES:
        for pinned in (1.0, 0.0):
            for direction in ("to_device", "to_host"):
                for beside in (0.0, 1.0) if pinned else (0.0,):
                    told: dict[str, float | str] = {"bytes": float(size), "pinned": pinned, "direction": direction, "beside": beside}
                    yield Case(told, _copy(hardware, size // 4, bool(pinned), direction, bool(beside)))


def _copy(hardware: Hardware, numel: int, pinned: bool, direction: str, beside: bool) -> Callable[[], Callable[[], Any]]:
    def prepare() -> Callable[[], Any]:
        host = torch.randn(numel, pin_memory=pinned)
        device = hardware.random(numel).clone()
        source, target = (host, device) if direction == "to_device" else (device, host)
        if not beside:
            return lambda: target.copy_(source, non_blocking=pinned)
        a, b = hardware.random(BESIDE[0], BESIDE[2], dtype="bf16"), hardware.random(BESIDE[2], BESIDE[1], dtype="bf16")
        stream = torch.Stream(hardware.device)

        def work() -> None:
            torch.mm(a, b)
            with stream:
                target.copy_(source, non_blocking=True)
            torch.accelerator.current_stream(hardware.device).wait_stream(stream)

        return work

    return prepare
