"""Fine-tuning methods: one registered file each. Importing this package registers those that ship with Plumbline."""

from planner.workload.methods import freeze, full, lora
from planner.workload.methods.base import METHODS, Adaptation, adapt

__all__ = ["METHODS", "Adaptation", "adapt", "freeze", "full", "lora"]
