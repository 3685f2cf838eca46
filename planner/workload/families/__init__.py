"""From a Hugging Face `config.json` to an `Architecture`: readers by `model_type`, registered by the modules of this package."""

import pkgutil
from importlib import import_module

from planner.workload.families.fields import FAMILIES, family, read_config

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["FAMILIES", "family", "read_config"]
