"""Fine-tuning methods, one file each. Every module of this package registers what it defines; importing the package loads all."""

import pkgutil
from importlib import import_module

from planner.workload.methods.base import METHODS, Adaptation, adapt

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["METHODS", "Adaptation", "adapt"]
