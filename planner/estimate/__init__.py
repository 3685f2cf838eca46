"""From a run to an estimate: the only room that chooses models of memory and time."""

from planner.estimate.engine import estimate
from planner.estimate.result import Estimate, MemoryPoint, Term

__all__ = ["Estimate", "MemoryPoint", "Term", "estimate"]
