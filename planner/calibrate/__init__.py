"""Measure a device with torch and correct its curves: microbenchmarks, honest timing, a fit that starts from what is published.

Needs torch beside the planner's own requirements, and nvidia-ml-py for clocks and power; nothing else. Only this room and `probe`
import torch, so a plan can be made where it is not installed.
"""

from planner.calibrate.result import Calibration, Sample
from planner.calibrate.runner import BUDGETS, calibrate
from planner.device.conditions import Conditions

__all__ = ["BUDGETS", "Calibration", "Conditions", "Sample", "calibrate"]
