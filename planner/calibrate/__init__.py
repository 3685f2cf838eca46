"""Measure a device with torch and correct its curves: microbenchmarks, honest timing, a fit that starts from what is published.

Needs torch beside the planner's own requirements, and nvidia-ml-py for clocks and power; nothing else. Only this room and `probe`
import torch, so a plan can be made where it is not installed; names load on first use, so that the app can follow a measurement
without loading it either.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planner.calibrate.budget import BUDGETS
    from planner.calibrate.result import Calibration, Sample
    from planner.calibrate.runner import calibrate
    from planner.device.conditions import Conditions

__all__ = ["BUDGETS", "Calibration", "Conditions", "Sample", "calibrate"]

_HOMES = {
    "BUDGETS": "planner.calibrate.budget",
    "Calibration": "planner.calibrate.result",
    "Conditions": "planner.device.conditions",
    "Sample": "planner.calibrate.result",
    "calibrate": "planner.calibrate.runner",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
