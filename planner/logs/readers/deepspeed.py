"""DeepSpeed's console.

Source: DeepSpeed 0.19 `utils/timer.py` (`ThroughputTimer.stop`): "epoch=…/micro_step=…/global_step=…, RunningAvgSamplesPerSec=…,
CurrSamplesPerSec=…, MemAllocated=…GB, MaxMemAllocated=…GB" (divided by 1024³); with `wall_clock_breakdown` "time (ms) | fwd: … | bwd: … | step: …"
(`runtime/engine.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from planner.logs.reader import register
from planner.logs.readers.text import clock, collect, sniff
from planner.logs.record import Point, Record
from planner.logs.source import Source, number, whole
from planner.units import GIB

_LINE: Final = re.compile(r"micro_step=\d{1,15}/global_step=(\d{1,15}), RunningAvgSamplesPerSec=[\d.]{1,20}, CurrSamplesPerSec=([\d.]{1,20})")
_MEMORY: Final = re.compile(r"MaxMemAllocated=([\d.]{1,20})GB")
_PARTS: Final = (re.compile(r"\| fwd: ([\d.]{1,20})"), re.compile(r"\| bwd: ([\d.]{1,20})"), re.compile(r"\| step: ([\d.]{1,20})"))


@register("deepspeed", label="DeepSpeed's console", position=74, reference="DeepSpeed 0.19 utils/timer.py", recognises=sniff(_LINE))
def read(source: Source) -> Record:
    """Samples per second, memory, and the phases of a step where it writes them."""
    return collect(source, "deepspeed", _points)


def _points(where: str, line: str) -> Iterator[Point]:
    if (match := _LINE.search(line)) is not None:
        memory = _MEMORY.search(line, match.end())
        values = {
            name: value * factor
            for name, text, factor in (("samples_per_s", match[2], 1.0), ("allocated_bytes", memory and memory[1], float(GIB)))
            if (value := number(text)) is not None and value > 0
        }
        yield Point(where, "train", values, whole(match[1]), clock(line))
    elif "time (ms)" in line:
        seconds = [value for part in _PARTS if (found := part.search(line)) is not None and (value := number(found[1])) is not None]
        if len(seconds) == 3:
            yield Point(where, "train", dict(zip(("forward_s", "backward_s", "optimizer_s"), (s / 1000 for s in seconds), strict=True)), time_s=clock(line))
