"""From a Hugging Face `config.json` to an `Architecture`: readers by `model_type`, registered by the modules imported here."""

from planner.workload.families import encoders, gated, hybrids, linear_attention, plain, sparse, statespace, variants
from planner.workload.families.fields import FAMILIES, family, read_config

__all__ = ["FAMILIES", "encoders", "family", "gated", "hybrids", "linear_attention", "plain", "read_config", "sparse", "statespace", "variants"]
