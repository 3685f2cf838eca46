"""Optimizers, one family a file. Every module of this package registers what it defines; importing the package loads all."""

import pkgutil
from importlib import import_module

from planner.workload.optimizers.base import (
    OPTIMIZERS,
    Decomposition,
    Optimizer,
    Step,
    Task,
    Trained,
    find_optimizer,
)

for _module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name != "adamw"):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["OPTIMIZERS", "Decomposition", "Optimizer", "Step", "Task", "Trained", "find_optimizer"]
