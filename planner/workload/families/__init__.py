"""From a Hugging Face `config.json` to an `Architecture`: readers by `model_type`, registered by the modules imported here."""

from planner.workload.families import (
    contrastive,
    encoders,
    gated,
    hybrids,
    linear_attention,
    plain,
    seq2seq,
    sparse,
    statespace,
    variants,
    vision,
)
from planner.workload.families.fields import FAMILIES, family, read_config

__all__ = [
    "FAMILIES",
    "contrastive",
    "encoders",
    "family",
    "gated",
    "hybrids",
    "linear_attention",
    "plain",
    "read_config",
    "seq2seq",
    "sparse",
    "statespace",
    "variants",
    "vision",
]
