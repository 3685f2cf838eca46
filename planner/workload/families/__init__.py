"""From a Hugging Face `config.json` to an `Architecture`: readers by `model_type`, registered by the modules imported here."""

from planner.workload.families import diffusion, encoders, gated, plain, sparse, variants, vision
from planner.workload.families.fields import FAMILIES, family, read_config

__all__ = ["FAMILIES", "diffusion", "encoders", "family", "gated", "plain", "read_config", "sparse", "variants", "vision"]
