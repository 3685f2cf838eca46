"""How much of a machine's processors other programs take while something is measured (Linux; unknown elsewhere)."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

BUSY = 0.1
"""Others that take more than this share of the processors spoil a measurement on them."""


@dataclass
class Load:
    """Enter it around what is measured; `others` is then the share of all processors that other programs used, None where unknown."""

    others: float | None = None
    _start: tuple[float, float, float] | None = None

    def __enter__(self) -> Load:
        self._start = _now()
        return self

    def __exit__(self, *_: object) -> None:
        end = _now()
        if self._start is None or end is None:
            return
        wall, machine, own = (after - before for before, after in zip(self._start, end, strict=True))
        if wall >= 0.1:  # the system counts in hundredths of a second
            self.others = min(1.0, max(0.0, (machine - own) / (wall * (os.cpu_count() or 1))))


def _now() -> tuple[float, float, float] | None:
    """Seconds of the clock, of all processors at work, and of this process."""
    try:
        with open("/proc/stat", encoding="utf-8") as handle:
            fields = [int(word) for word in handle.readline().split()[1:]]
    except (OSError, ValueError):
        return None
    user, nice, system, _, _, interrupts, soft, stolen = fields[:8]
    ticks = user + nice + system + interrupts + soft + stolen
    return time.perf_counter(), ticks / os.sysconf("SC_CLK_TCK"), time.process_time()
