"""`metrics.csv` of Lightning's CSVLogger.

Source: lightning.pytorch.loggers.csv_logs (columns: one a metric, with `step` and `epoch`; a row has only those logged together),
`callbacks.throughput_monitor` ("train|device/samples_per_sec", "train|time"), `callbacks.device_stats_monitor` (torch.cuda.memory_stats).
"""

from __future__ import annotations

from collections.abc import Iterator

from planner.logs.names import STEP, TIME, quantity, told
from planner.logs.reader import kept, register
from planner.logs.record import Point, Record
from planner.logs.source import Source, cells, number, whole


def _is(source: Source) -> bool:
    if not source.is_text:
        return False
    names = cells(source.head.partition("\n")[0])
    low = {name.lower() for name in names}
    return len(names) > 1 and bool(low & {*STEP, "epoch"}) and any(quantity(name) is not None for name in names)


@register("lightning", label="Lightning metrics.csv", position=40, reference="lightning.pytorch.loggers.CSVLogger", recognises=_is)
def read(source: Source) -> Record:
    """Rows that say something of training, memory or evaluation."""
    points, notes = kept(_points(source))
    return Record(source.name, "lightning", points, notes=notes)


def _points(source: Source) -> Iterator[Point]:
    lines = source.lines()
    names = cells(next(lines)[1])
    for place, line in lines:
        row = {name: cell for name, cell in zip(names, cells(line), strict=False) if cell != ""}
        low = {name.lower(): cell for name, cell in row.items()}
        step = next((value for name in STEP if (value := whole(low.get(name))) is not None), None)
        clock = next((seconds for name in (*TIME, "train|time") if (seconds := number(low.get(name))) is not None), None)
        if (said := told(row)) is not None:
            # Lightning counts steps from 0
            yield Point(f"line {place}", *said, None if step is None else step + 1, clock)
