"""Families of models in the evidence, by the words of their names."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

_FAMILIES: Final = (
    ("llama", "Llama"),
    ("nanotron", "Llama"),
    ("mistral", "Mistral"),
    ("mixtral", "Mixtral"),
    ("qwen", "Qwen"),
    ("gpt-oss", "gpt-oss"),
    ("gpt", "GPT"),
    ("opt", "GPT"),
    ("mpt", "MPT"),
    ("bert", "BERT"),
    ("nemotron", "Nemotron"),
    ("deepseek", "DeepSeek"),
    ("granite", "Granite"),
    ("powerlm", "Granite"),
    ("gemma", "Gemma"),
    ("phi", "Phi"),
    ("falcon", "Falcon"),
    ("stablelm", "StableLM"),
    ("glm", "GLM"),
    ("yi", "Yi"),
    ("maxtext", "MaxText's own"),
)
"""Word of a name, and the family; the first that a name holds counts. Sweeps by nanotron have Llama's blocks."""
OTHER: Final = "Other"


@cache
def family_of(model: str | None) -> str:
    """Family of a model of the evidence; `OTHER` where no known word is in its name."""
    name = (model or "").lower()
    for word, family in _FAMILIES:
        if re.search(rf"(?<![a-z]){word}" if len(word) <= 3 else word, name):
            return family
    return OTHER
