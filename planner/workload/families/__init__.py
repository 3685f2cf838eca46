"""From a Hugging Face `config.json` to an `Architecture`: readers by `model_type`, registered by the modules imported here."""

from planner.workload.families import encoders, fine_grained, gated, llama4, plain, sparse, variants
from planner.workload.families.fields import FAMILIES, family, read_config

__all__ = [
    "FAMILIES",
    "encoders",
    "family",
    "fine_grained",
    "gated",
    "llama4",
    "plain",
    "read_config",
    "sparse",
    "variants",
]
