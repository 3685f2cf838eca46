"""What a device holds under the load of training: products with operators between them, cold for a moment and then for seconds on end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
import torch.nn.functional as F

from planner.calibrate.benchmarks import Case, benchmark
from planner.calibrate.hardware import Hardware, Staged

PRODUCT: Final = (8192, 8192, 4096)
"""m, n, k of each product."""
REST_S: Final = 0.5
BURST, STEADY = 4, 400
"""Rounds of a short measurement after a rest, and of one that heats the device up."""


@benchmark("sustained", "Load held for seconds", 0.03)
def sustained(hardware: Hardware) -> Iterator[Case]:
    """A processor's clock follows its load within microseconds; a GPU's follows power and heat within seconds."""
    if hardware.device.type != "cuda":
        return
    for rounds in (BURST, STEADY):
        yield Case({"rounds": rounds}, _rounds(hardware, rounds), unthrottled=False)


def _rounds(hardware: Hardware, rounds: int) -> Callable[[], Callable[[], Any]]:
    m, n, k = PRODUCT

    def prepare() -> Callable[[], Any]:
        import time

        x, w = hardware.random(m, k, dtype="bf16"), hardware.random(n, k, dtype="bf16")

        def work() -> torch.Tensor:
            for _ in range(rounds):
                y = F.gelu(x @ w.T)
            return y

        def rest() -> None:
            hardware.synchronize()
            if rounds == BURST:
                time.sleep(REST_S)

        return Staged(rest, work)

    return prepare
