"""`trainer_log.jsonl` of LLaMA-Factory.

Source: LLaMA-Factory 0.9 `train/callbacks.py` (`LogCallback.on_log`): one JSON object a line with current_steps, total_steps, loss, elapsed_time
("0:01:23", whole seconds), throughput (tokens per second since the start), total_tokens, vram_allocated and vram_reserved [GiB].
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from planner.logs.names import values_of
from planner.logs.reader import kept, register
from planner.logs.record import Point, Record
from planner.logs.source import Source, json_line, whole

_ELAPSED: Final = re.compile(r"^(?:(\d+) days?, )?(\d+):(\d\d):(\d\d)$")


def _is(source: Source) -> bool:
    first = source.head.lstrip().partition("\n")[0]
    return first.startswith("{") and '"current_steps"' in first and '"elapsed_time"' in first


@register("llamafactory", label="LLaMA-Factory's trainer_log.jsonl", position=25, reference="LLaMA-Factory 0.9 train/callbacks.py", recognises=_is)
def read(source: Source) -> Record:
    """A point a line."""
    points, notes = kept(_points(source))
    return Record(source.name, "llamafactory", points, notes=notes)


def _points(source: Source) -> Iterator[Point]:
    for place, line in source.lines():
        if (row := json_line(line)) is None:
            continue
        tested = row.get("loss") is None and row.get("eval_loss") is not None
        values = {} if tested else values_of(row)
        yield Point(f"line {place}", "evaluation" if tested else "train", values, whole(row.get("current_steps")), _elapsed(row))


def _elapsed(row: Mapping[str, Any]) -> float | None:
    match = _ELAPSED.match(str(row.get("elapsed_time", "")))
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
