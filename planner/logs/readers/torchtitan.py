"""torchtitan's console.

Source: torchtitan 0.2 and 0.3 `components/metrics.py` (`MetricsProcessor.log`): "step: … loss: … grad_norm: … memory: …GiB(…%)  tps: …
tflops: … mfu: …%"; older ones without grad_norm and tflops. tps is tokens per second of one device, memory the peak that was reserved since the last
line; "validate step:" lines are of evaluation; the logger writes the time in front.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from planner.logs.reader import register
from planner.logs.readers.text import clock, collect, sniff
from planner.logs.record import Point, Record
from planner.logs.source import Source, number, whole
from planner.units import GIB, TERA

_LINE: Final = re.compile(r"(validate )?step:\s*([\d,]{1,20})\s+loss:\s*(\S{1,40})\s")
_MEMORY: Final = re.compile(r"\bmemory:\s*([\d.]{1,20})\s*GiB\(")
_TPS: Final = re.compile(r"\btps:\s*([\d,]{1,20})")
_TFLOPS: Final = re.compile(r"\btflops:\s*([\d,.]{1,20})")
_SAVED: Final = re.compile(r"in ([\d.]{1,20}) seconds")


@register("torchtitan", label="torchtitan's console", position=70, reference="torchtitan 0.3 components/metrics.py", recognises=sniff(_LINE, "GiB("))
def read(source: Source) -> Record:
    """Steps, evaluations and checkpoints."""
    return collect(source, "torchtitan", _points)


def _points(where: str, line: str) -> Iterator[Point]:
    if "Finished saving the checkpoint" in line and (saved := _SAVED.search(line)) is not None:
        yield Point(where, "checkpoint", {"pause_s": float(value)} if (value := number(saved[1])) is not None else {}, time_s=clock(line))
    match, memory = _LINE.search(line), _MEMORY.search(line)
    if match is None or memory is None:
        return
    values: dict[str, float] = {}
    rate, flops = _TPS.search(line), _TFLOPS.search(line)
    for name, text, factor in (
        ("loss", match[3], 1.0), ("reserved_bytes", memory[1], GIB), ("tokens_per_s_per_gpu", rate and rate[1], 1.0), ("flops_per_s", flops and flops[1], TERA),
    ):  # fmt: skip
        if (value := number(text)) is not None and (value > 0 or name == "loss"):
            values[name] = value * factor
    if match[1]:
        yield Point(where, "evaluation", {}, whole(match[2]), clock(line))
    else:
        yield Point(where, "train", values, whole(match[2]), clock(line))
