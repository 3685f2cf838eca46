"""Megatron-LM's console, and that of what descends from it (Megatron-DeepSpeed, GPT-NeoX, NeMo's progress lines).

Source: Megatron-LM `megatron/training/training.py` (`training_log`): "iteration …/… | consumed samples: … | elapsed time per iteration (ms): … |
throughput per GPU (TFLOP/s/GPU): … | global batch size: … | lm loss: … |"; `megatron/training/utils.py` (`report_memory`, in MiB, once after the
first interval): "[Rank 0] (after 2 iterations) memory (MB) | allocated: … | max allocated: … | reserved: … | max reserved: …". NeMo 2
`lightning/pytorch/callbacks/progress_printer.py`: "Training epoch 0, iteration 3/99 | … | global_step: 3 | train_step_timing in s: … |".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from planner.logs.names import values_of
from planner.logs.reader import register
from planner.logs.readers.text import clock, collect, sniff
from planner.logs.record import Point, Record
from planner.logs.source import Source, number, whole
from planner.units import MIB

_TIMES: Final = ("elapsed time per iteration (ms)", "train_step_timing in s")
_LINE: Final = re.compile(r"\biteration\s+(\d{1,15})\s*/\s*\d{1,15}\s*\|")
_REPORT: Final = re.compile(r"\(after (\d{1,15}) iterations\) memory \(MB\) \|")
_PEAKS: Final = (("allocated_bytes", re.compile(r"max allocated:\s*([\d.]{1,25})")), ("reserved_bytes", re.compile(r"max reserved:\s*([\d.]{1,25})")))
_TESTED: Final = re.compile(r"validation loss at iteration (\d+)")
_SAVED: Final = re.compile(r"successfully saved checkpoint (?:at|from) iteration\s+(\d+)")
_TIMER: Final = re.compile(r"\b(save-checkpoint|evaluate|eval-time) ?\.{0,80}: ?\(?([\d.]{1,20})")


@register(
    "megatron", label="Megatron-LM's or NeMo's console", position=72, reference="Megatron-LM training_log, NeMo ProgressPrinter",
    recognises=sniff(_LINE, *_TIMES),
)  # fmt: skip
def read(source: Source) -> Record:
    """Steps, the report of memory, evaluations and checkpoints."""
    return collect(source, "megatron", _points)


def _points(where: str, line: str) -> Iterator[Point]:
    if (report := _REPORT.search(line)) is not None:
        peaks = {name: found[1] for name, pattern in _PEAKS if (found := pattern.search(line, report.end())) is not None}
        values = {name: value * MIB for name, text in peaks.items() if (value := number(text)) is not None}
        yield Point(where, "train", values, whole(report[1]))
    if (match := _LINE.search(line)) is not None and any(name in line for name in _TIMES):
        cells = (cell.partition(":") for cell in line[match.end() :].split("|"))
        values = values_of({name.strip(): text.strip() for name, mark, text in cells if mark})
        step = whole(match[1])
        nemo = "train_step_timing in s" in line  # counts from 0
        yield Point(where, "train", values, step + 1 if nemo and step is not None else step, clock(line))
    elif (tested := _TESTED.search(line)) is not None:
        yield Point(where, "evaluation", {}, whole(tested[1]), clock(line))
    elif (saved := _SAVED.search(line)) is not None:
        yield Point(where, "checkpoint", {}, whole(saved[1]), clock(line))
    elif (timer := _TIMER.search(line)) is not None and (milliseconds := number(timer[2])) is not None:
        yield Point(where, "checkpoint" if timer[1].startswith("save") else "evaluation", {"pause_s": milliseconds / 1000}, time_s=clock(line))
