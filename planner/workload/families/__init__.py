"""From a Hugging Face `config.json` to an `Architecture`: readers by `model_type`, registered by the modules imported here."""

from planner.workload.families import encoders, gated, plain, relatives, sparse, variants
from planner.workload.families.fields import FAMILIES, family, read_config

__all__ = ["FAMILIES", "encoders", "family", "gated", "plain", "read_config", "relatives", "sparse", "variants"]
