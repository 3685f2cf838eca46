"""nvidia-smi's own tables: `--query-gpu=… --format=csv` and `dmon`.

Source: NVIDIA System Management Interface manual (`nvidia-smi --help-query-gpu`: a header of names with units in brackets; "[N/A]" and "[Not
Supported]" for what a board does not say; `dmon`: two lines that begin with #, names and units, again after every screenful).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from planner.logs.names import MEMORY_UNITS
from planner.logs.reader import kept, register
from planner.logs.record import Point, Record
from planner.logs.source import Source, cells, number
from planner.units import MEGA, MIB

_QUERY: Final[dict[str, tuple[str, float]]] = {
    "utilization.gpu": ("utilisation", 0.01), "power.draw": ("power_w", 1), "power.draw.instant": ("power_w", 1), "power.draw.average": ("power_w", 1),
    "power.limit": ("power_limit_w", 1), "enforced.power.limit": ("power_limit_w", 1), "temperature.gpu": ("temperature_c", 1),
    "clocks.sm": ("clock_hz", MEGA), "clocks.current.sm": ("clock_hz", MEGA), "clocks.gr": ("clock_hz", MEGA), "clocks.current.graphics": ("clock_hz", MEGA),
    "clocks.max.sm": ("clock_limit_hz", MEGA), "clocks.max.graphics": ("clock_limit_hz", MEGA),
    "memory.used": ("used_bytes", MIB), "memory.total": ("total_bytes", MIB),
}  # fmt: skip
_DMON: Final[dict[str, tuple[str, float]]] = {
    "pwr": ("power_w", 1), "gtemp": ("temperature_c", 1), "temp": ("temperature_c", 1), "sm": ("utilisation", 0.01), "pclk": ("clock_hz", MEGA),
    "fb": ("used_bytes", MIB), "pviol": ("power_violation", 0.01), "tviol": ("thermal_violation", 1),
}  # fmt: skip
_THROTTLE: Final = 0x4 | 0x8 | 0x20 | 0x40 | 0x80
"""NVML's clocksEventReasons that slow a board down: software power cap, hardware slowdown, software and hardware thermal, power brake."""
_SLOW: Final = re.compile(r"clocks_(throttle|event)_reasons\.(hw_|sw_)(thermal|power|slowdown)")
_NAME: Final = re.compile(r"([a-z_][\w.]*)(?: \[(.*)\])?$", re.I)


def _query(source: Source) -> bool:
    if not source.is_text:
        return False
    names = [name for name, _ in _header(source.head.lstrip().partition("\n")[0])]
    return len(names) > 1 and any(name in _QUERY for name in names)


def _header(line: str) -> list[tuple[str, str]]:
    """(name, unit) of every column; empty for what is none."""
    found = [_NAME.match(cell.strip()[:100]) for cell in line.split(",")]
    return [("", "") if match is None else (match[1].lower(), (match[2] or "").lower()) for match in found]


@register("nvidia_smi", label="nvidia-smi CSV", position=60, reference="nvidia-smi --query-gpu --format=csv", recognises=_query)
def read(source: Source) -> Record:
    """Samples of every board, with what the driver says of throttling."""
    points, notes = kept(_samples(source))
    return Record(source.name, "nvidia_smi", points, _facts(source), notes=notes)


def _samples(source: Source) -> Iterator[Point]:
    lines = source.lines()
    names = _header(next(lines)[1])
    known = [name for name, _ in names]
    for place, line in lines:
        said = [cell.strip() for cell in line.split(",")]
        if len(said) != len(names):
            continue
        row = dict(zip(known, said, strict=True))
        values: dict[str, float] = {}
        for (name, unit), cell in zip(names, said, strict=True):
            if (meant := _QUERY.get(name)) is not None and (value := _with_unit(cell, unit, meant[1])) is not None:
                values[meant[0]] = value
        for name in ("clocks_throttle_reasons.active", "clocks_event_reasons.active"):
            if row.get(name, "").lower().startswith("0x"):
                values["throttled"] = float(bool(_hexadecimal(row[name]) & _THROTTLE))
        if slow := [cell.lower() == "active" for name, cell in row.items() if _SLOW.match(name)]:
            values["throttled"] = max(values.get("throttled", 0.0), float(any(slow)))
        if values:
            device = next((row[name] for name in ("index", "uuid", "gpu_uuid", "pci.bus_id", "gpu_bus_id") if row.get(name)), "0")
            yield Point(f"line {place}", "device", values, time_s=_clock(row.get("timestamp", "")), device=device[:60])


def _with_unit(cell: str, unit: str, factor: float) -> float | None:
    """A cell's value in SI; its unit stands beside it, in the header, or nowhere (nounits)."""
    said = number(cell.split(" ")[0]) if cell else None
    if said is None or said < 0:
        return None
    written = cell.split(" ")[1].lower() if " " in cell else unit
    return said * (MEMORY_UNITS[written] if factor == MIB and written in MEMORY_UNITS else factor)


def _hexadecimal(text: str) -> int:
    try:
        return int(text[:20], 16)
    except ValueError:
        return 0


def _clock(text: str) -> float | None:
    """Seconds of "2024/06/01 11:27:05.177"; the zone is not said, differences are what is used."""
    try:
        return datetime.strptime(text[:23], "%Y/%m/%d %H:%M:%S.%f").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _facts(source: Source) -> dict[str, float | str]:
    """The board's name, where it was asked for."""
    first, _, rest = source.head.lstrip().partition("\n")
    names = [name for name, _ in _header(first)]
    row = cells(rest.partition("\n")[0])
    return {"device": row[names.index("name")][:100]} if "name" in names and len(row) == len(names) else {}


def _dmon(source: Source) -> bool:
    return source.is_text and any(_columns(line) is not None for line in source.head.splitlines()[:20])


@register("nvidia_dmon", label="nvidia-smi dmon", position=65, reference="nvidia-smi dmon", recognises=_dmon)
def read_dmon(source: Source) -> Record:
    """Samples by `dmon`, one a second and board unless -d says otherwise."""
    points, notes = kept(_monitored(source))
    return Record(source.name, "nvidia_dmon", points, notes=notes)


def _columns(line: str) -> list[str] | None:
    """Names of dmon's header line."""
    names = line.lstrip("# ").lower().replace(",", " ").split()
    return names if line.lstrip().startswith("#") and "gpu" in names and len({*names} & {*_DMON}) > 1 else None


def _monitored(source: Source) -> Iterator[Point]:
    names: list[str] = []
    for place, line in source.lines():
        if (found := _columns(line)) is not None:
            names = found
            continue
        row = line.lstrip("# ").replace(",", " ").split()
        if not names or len(row) != len(names) or "gpu" not in names or not row[names.index("gpu")].isdigit():
            continue
        values = {
            meant[0]: said * meant[1]
            for name, cell in zip(names, row, strict=True)
            if (meant := _DMON.get(name)) is not None and (said := number(cell)) is not None and said >= 0
        }
        slowed = values.pop("power_violation", 0.0) > 0.05 or values.pop("thermal_violation", 0.0) > 0
        if "pviol" in names or "tviol" in names:
            values["throttled"] = float(slowed)
        if values:
            yield Point(f"line {place}", "device", values, device=row[names.index("gpu")])
