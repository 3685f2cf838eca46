"""Weights & Biases exports: history as JSON or CSV (`run.history()`, `run.scan_history()`, a chart's download), its system metrics, `wandb-summary.json`.

Source: W&B reference of `Run.history` (columns `_step`, `_runtime` [s], `_timestamp` [s since 1970]) and of system metrics; a chart's CSV has the
columns "Step" or "Relative Time (Process)" and, for each run, "NAME - METRIC", "NAME - METRIC__MIN", "NAME - METRIC__MAX".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from planner.logs.names import SINCE, STEP, TIME, quantity, telemetry, told, values_of
from planner.logs.reader import kept, register
from planner.logs.record import Point, Record
from planner.logs.source import Source, cells, json_line, number, whole

_OWN: Final = ("_step", "_runtime", "_timestamp", "_wandb")
MAX_COLUMNS: Final = 200
_AXES: Final = ("step", "relative time (process)", "relative time (wall)", "wall time", "train/global_step", "trainer/global_step", "global_step")


def _is(source: Source) -> bool:
    if not source.is_text:
        return False
    first = source.head.lstrip().partition("\n")[0]
    if first.startswith(("{", "[")):
        if not any(f'"{name}"' in source.head for name in _OWN):
            return False
        found = source.document
        entry = found if isinstance(found, dict) else found[0] if isinstance(found, list) and found else json_line(first)
        return isinstance(entry, dict) and any(name in entry for name in _OWN)
    names = cells(first)
    return any(name in names for name in _OWN[:3]) or (len(names) > 1 and names[0].lower() in _AXES and any(" - " in name for name in names[1:]))


@register("wandb", label="Weights & Biases export", position=30, reference="W&B Run.history, system metrics", recognises=_is)
def read(source: Source) -> Record:
    """Rows of the history, or the one of a summary."""
    document = source.document
    if isinstance(document, dict) and "_step" in document and not isinstance(document["_step"], dict | list):
        return _summary(source, document)
    if isinstance(document, dict) and ("_wandb" in document or "_runtime" in document) and not isinstance(document.get("_runtime"), dict | list):
        return _summary(source, document)
    points, notes = kept(_points(_rows(source, document)))
    return Record(source.name, "wandb", points, notes=notes)


def _rows(source: Source, document: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place, row): a list of rows, rows by line, columns of pandas, or CSV."""
    if isinstance(document, list):
        yield from ((f"row {place}", row) for place, row in enumerate(document) if isinstance(row, dict))
    elif isinstance(document, dict):
        columns = {name: column for name, column in document.items() if isinstance(column, dict | list) and _says(name)}
        columns = dict(list(columns.items())[:MAX_COLUMNS])
        keys: Iterable[Any] = range(max((len(c) for c in columns.values()), default=0))
        if any(isinstance(column, dict) for column in columns.values()):
            keys = dict.fromkeys(key for column in columns.values() if isinstance(column, dict) for key in column)
        for key in keys:
            yield f"row {key}", {name: _cell(column, key) for name, column in columns.items()}
    elif source.head.lstrip().startswith("{"):
        for place, line in source.lines():
            if (row := json_line(line)) is not None:
                yield f"line {place}", row
    else:
        yield from _csv(source)


def _says(name: str) -> bool:
    """Whether a column is one of those that are read."""
    return name.lower() in (*STEP, *TIME, *SINCE) or quantity(name) is not None or telemetry(name) is not None


def _cell(column: Any, key: Any) -> Any:
    if isinstance(column, dict):
        return column.get(key)
    return column[key] if isinstance(key, int) and key < len(column) else None


def _csv(source: Source) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows; of a chart that shows several runs the first."""
    lines = source.lines()
    names = cells(next(lines)[1])
    runs = [name.partition(" - ")[0] for name in names if " - " in name]
    shown = [name.removeprefix(f"{runs[0]} - ") if runs else name for name in names]
    for place, line in lines:
        yield f"line {place}", {name: cell for name, cell in zip(shown, cells(line), strict=False) if cell != "" and not name.endswith(("__MIN", "__MAX"))}


def _points(rows: Iterator[tuple[str, Mapping[str, Any]]]) -> Iterator[Point]:
    for where, row in rows:
        low = {str(name).lower(): value for name, value in row.items()}
        clock = next((value for name in (*TIME, *SINCE) if (value := number(low.get(name))) is not None), None)
        step = next((value for name in reversed(STEP) if name in low and (value := whole(low[name])) is not None), None)
        if (own := next((v for n in ("train/global_step", "trainer/global_step", "global_step") if (v := whole(low.get(n))) is not None), None)) is not None:
            step = own
        devices: dict[str, dict[str, float]] = {}
        for name, value in row.items():
            if (meant := telemetry(str(name))) is not None and (said := number(value)) is not None and said >= 0:
                devices.setdefault(meant[0], {})[meant[1]] = said * meant[2]
        for device, values in devices.items():
            yield Point(where, "device", values, time_s=clock, device=device)
        if (entry := told(row)) is not None:
            yield Point(where, *entry, step, clock)


def _summary(source: Source, document: Mapping[str, Any]) -> Record:
    """`wandb-summary.json`: the last value of every metric, and how long the run took."""
    nested = document.get("_wandb")
    seconds = number(document.get("_runtime")) or (number(nested.get("runtime")) if isinstance(nested, dict) else None)
    facts: dict[str, float | str] = {} if not seconds else {"wall_seconds": seconds}
    for name, meant in (("train_runtime", "train_seconds"), ("train_steps_per_second", "steps_per_s"), ("train_samples_per_second", "samples_per_s")):
        if value := number(document.get(f"train/{name}", document.get(name))):
            facts[meant] = value
    steps = next((value for name in ("train/global_step", "trainer/global_step", "global_step", "_step") if (value := whole(document.get(name)))), None)
    if steps:
        facts["global_step"] = float(steps)
    flat = {name: value for name, value in document.items() if not isinstance(value, dict | list)}
    values = values_of(flat)
    points = (Point("summary", "train", values, steps),) if values else ()
    return Record(source.name, "wandb", points, facts, notes=("A summary holds the last value of every metric, not their course.",))
