"""torchtune's log on disk or console.

Source: torchtune 0.6 `training/metric_logging.py` (`DiskLogger.log_dict`, `StdoutLogger`): "Step 12 | loss:1.23 lr:… tokens_per_second_per_gpu:…
peak_memory_active:… peak_memory_alloc:… peak_memory_reserved:…" (GiB, `training/memory.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from planner.logs.names import values_of
from planner.logs.reader import register
from planner.logs.readers.text import clock, collect, sniff
from planner.logs.record import Point, Record
from planner.logs.source import Source, whole

_LINE: Final = re.compile(r"^Step (\d{1,15}) \| [\w/]{1,60}:", re.MULTILINE)
_FIELD: Final = re.compile(r"\b([A-Za-z_][\w/]{0,60}):\s*([-+.\deE]{1,30})")


@register("torchtune", label="torchtune's log", position=76, reference="torchtune 0.6 training/metric_logging.py", recognises=sniff(_LINE))
def read(source: Source) -> Record:
    """Every step's metrics."""
    return collect(source, "torchtune", _points)


def _points(where: str, line: str) -> Iterator[Point]:
    if (match := _LINE.search(line)) is not None and (values := values_of(dict(_FIELD.findall(line[line.index("|") :])))):
        yield Point(where, "train", values, whole(match[1]), clock(line))
