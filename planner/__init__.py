"""Plumbline: what a transformer training run will take, how sure that is, and how to measure it.

>>> from planner import Run, estimate
>>> estimate(Run(model="gpt2", hardware={"gpu": "H100 SXM 80GB"})).fits
True

Names load on first use, so `import planner` costs nothing and one room can be used without the others.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planner.device.profile import load_profile
    from planner.errors import PlanError
    from planner.estimate.engine import estimate
    from planner.estimate.result import Estimate
    from planner.run import Run

__version__ = "0.1.0"
__all__ = ["Estimate", "PlanError", "Run", "__version__", "estimate", "load_profile"]

_HOMES = {
    "Estimate": "planner.estimate.result",
    "PlanError": "planner.errors",
    "Run": "planner.run",
    "load_profile": "planner.device.profile",
}


class _Package(ModuleType):
    """Keeps `planner.estimate` the function: Python rebinds a package's attribute when it imports a subpackage of that name."""

    @property
    def estimate(self) -> Any:
        return import_module("planner.estimate.engine").estimate

    @estimate.setter
    def estimate(self, subpackage: ModuleType) -> None:
        """The subpackage stays reachable by `from planner.estimate import …`."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'planner' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


sys.modules[__name__].__class__ = _Package
