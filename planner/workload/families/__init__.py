"""From a Hugging Face `config.json` to an `Architecture`: readers by `model_type`, registered by the modules imported here."""

from planner.workload.families import (
    contrastive,
    diffusion,
    encoders,
    gated,
    multimodal,
    plain,
    sparse,
    variants,
    vision,
)
from planner.workload.families.fields import FAMILIES, family, read_config

__all__ = [
    "FAMILIES",
    "contrastive",
    "diffusion",
    "encoders",
    "family",
    "gated",
    "multimodal",
    "plain",
    "read_config",
    "sparse",
    "variants",
    "vision",
]
