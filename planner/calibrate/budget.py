"""How long a measurement may take. Imports no torch, so that the app can offer it."""

from __future__ import annotations

from typing import Final

from planner.errors import PlanError

BUDGETS: Final = {"quick": 30.0, "standard": 120.0, "full": 600.0}
"""Named budgets [s]."""
LEAST: Final = 5.0
MOST: Final = 86400.0


def parse_budget(value: str | float) -> float:
    """Seconds of a budget: a name, or a number [s]. Raises `PlanError`."""
    if isinstance(value, str) and value in BUDGETS:
        return BUDGETS[value]
    try:
        seconds = float(value)
    except ValueError:
        seconds = float("nan")
    if not LEAST <= seconds <= MOST:
        raise PlanError(
            "budget", value, f"is not a time of at least {LEAST:g} s", f"Write {', '.join(BUDGETS)} or seconds up to {MOST:.0f}."
        )
    return seconds
