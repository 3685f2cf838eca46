"""Values of terms and of run fields as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from planner import units

_LONGEST: Final = 200


def value_text(value: float, unit: str) -> str:
    """A term's value as people read it."""
    formatters: dict[str, Callable[[float], str]] = {
        "B": units.format_bytes,
        "FLOP": units.format_flops,
        "FLOP/s": lambda v: units.format_flops(v, per_second=True),
        "s": units.format_seconds,
        "1": units.format_count,
        "USD": units.format_usd,
        "kWh": units.format_energy,
        "kg": units.format_mass,
        "B/s": units.format_bandwidth,
        "token/s": units.format_rate,
    }
    return formatters[unit](value)


def number_text(value: float | int | str) -> str:
    """An input of a formula."""
    if isinstance(value, float):
        return units.significant(value, 4) if 1e-3 <= abs(value) < 1e12 or value == 0 else f"{value:.4g}"
    return units.format_integer(value) if isinstance(value, int) else value


def shown(path: str, value: Any) -> str:
    """A field of a run."""
    if path == "model" and isinstance(value, Mapping):
        return f"configuration of {len(value)} fields ({value.get('model_type', value.get('_class_name', 'unknown type'))})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return units.format_integer(value)
    if isinstance(value, float):
        return f"{value:.12g}"
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
