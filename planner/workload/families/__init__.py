"""From a Hugging Face `config.json` to an `Architecture`: readers by `model_type`, registered by the modules imported here."""

from planner.workload.families import (
    early,
    encoder_variants,
    encoders,
    gated,
    modern_encoders,
    plain,
    relatives,
    sparse,
    variants,
)
from planner.workload.families.fields import FAMILIES, family, read_config

__all__ = [
    "FAMILIES",
    "early",
    "encoder_variants",
    "encoders",
    "family",
    "gated",
    "modern_encoders",
    "plain",
    "read_config",
    "relatives",
    "sparse",
    "variants",
]
