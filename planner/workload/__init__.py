"""The workload: a run traced into operations and tensors, with no hardware in it."""

from planner.workload.architecture import Architecture
from planner.workload.families import FAMILIES, read_config
from planner.workload.trace import Workload, trace
from planner.workload.writer import Setting

__all__ = ["FAMILIES", "Architecture", "Setting", "Workload", "read_config", "trace"]
