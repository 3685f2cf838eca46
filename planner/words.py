"""Words that people write for methods, optimizers and precisions, and the nearest known word to a misspelt one. No formulas."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

METHODS: dict[str, dict[str, Any]] = {
    "houlsby": {"name": "adapter", "placement": "houlsby"},
    "pfeiffer": {"name": "adapter", "placement": "pfeiffer"},
    "parallel": {"name": "adapter", "placement": "parallel"},
    "parallel_adapter": {"name": "adapter", "placement": "parallel"},
    **{name: {"name": "lora", "init_lora_weights": name} for name in ("olora", "eva", "corda", "lora_ga")},
    **{key: {"name": "adapter"} for key in ("adapters", "bottleneck")},
    **{key: {"name": "head"} for key in ("head_only", "linear_probe", "linear_probing")},
    **{key: {"name": "loraplus"} for key in ("lora+", "lora_plus")},
    "lorafa": {"name": "lora_fa"},
    **{key: {"name": "alora"} for key in ("activated_lora", "a_lora")},
    "prompt_tuning": {"name": "prompt"},
    "prefix_tuning": {"name": "prefix"},
    "ptuning": {"name": "p_tuning"},
    **{key: {"name": "ln_tuning"} for key in ("layernorm", "layer_norm", "layernorm_tuning", "lntuning")},
    **{key: {"name": "adaption_prompt"} for key in ("llama_adapter", "adapter_v1")},
    **{key: {"name": "adaption_prompt_v2"} for key in ("llama_adapter_v2", "adapter_v2")},
    **{key: {"name": "full"} for key in ("fft", "full_finetuning", "full_fine_tuning")},
    "loreft": {"name": "reft"},
    "(ia)3": {"name": "ia3"},
    "freezing": {"name": "freeze"},
}
"""Fields that a name of a method stands for; hyphens read as underscores."""
OPTIMIZERS: dict[str, str] = {
    **dict.fromkeys(("schedule-free", "schedulefree", "schedule-free-adamw", "schedule-free-radam"), "adamw-schedule-free"),
    **dict.fromkeys(("adam", "adamw-torch", "adamw-hf"), "adamw"),
    **dict.fromkeys(("adamw-torch-fused", "fused-adamw"), "adamw-fused"),
    **dict.fromkeys(("adamw-bnb-8bit", "adamw-8bit", "adam8bit"), "adamw8bit"),
    **dict.fromkeys(("paged-adamw-32bit", "paged-adamw32bit"), "paged-adamw"),
    "paged-adamw-8bit": "paged-adamw8bit",
    **dict.fromkeys(("lion-8bit", "lion-bnb-8bit"), "lion8bit"),
    "lion-32bit": "lion",
    **dict.fromkeys(("paged-lion-32bit", "paged-lion32bit"), "paged-lion"),
    "paged-lion-8bit": "paged-lion8bit",
    "ademamix-8bit": "ademamix8bit",
    "galore-adamw": "galore",
    "apollo-adamw": "apollo",
    "adammini": "adam-mini",
    **dict.fromkeys(("sgd+momentum", "momentum"), "sgd-momentum"),
    "sophiag": "sophia",
    "lorafa": "lora-fa",
}
"""Other names of optimizers, transformers' among them; underscores read as hyphens."""


def method(value: Mapping[Any, Any]) -> dict[Any, Any]:
    """A method's fields with its name as registered; what the run says goes before what the word stands for."""
    name = value.get("name")
    if not isinstance(name, str):
        return dict(value)
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    known = METHODS.get(plain, {"name": plain})
    return {**known, **value, "name": known["name"]}


def optimizer(name: str) -> str:
    """An optimizer's name as registered."""
    plain = name.strip().lower().replace("_", "-").replace(" ", "-")
    return OPTIMIZERS.get(plain, plain)


def nearest(word: str, known: Iterable[str]) -> str:
    """`Did you mean X?` for a word that is nearly a known one, else nothing."""
    names, plain = list(known), word.lower()
    found = [n for n in names if sorted(n) == sorted(plain)] or difflib.get_close_matches(plain, names, 1, 0.6)  # swapped letters first
    return f"Did you mean {found[0]}? " if found else ""
