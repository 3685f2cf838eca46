"""The recorded cases of the methods that change blocks or the sequence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.oracles.cases import CONFIGS, HEADS

Case = dict[str, Any]

PROMPT: Case = {"name": "prompt", "virtual_tokens": 20}
P_TUNING: Case = {"name": "p_tuning", "virtual_tokens": 20, "encoder_hidden": 128}
LSTM: Case = {"name": "p_tuning", "virtual_tokens": 12, "encoder": "lstm", "encoder_hidden": 96}
PREFIX: Case = {"name": "prefix", "virtual_tokens": 30}
PROJECTED: Case = {"name": "prefix", "virtual_tokens": 20, "projection": True, "encoder_hidden": 128}
GATED: Case = {"name": "adaption_prompt", "virtual_tokens": 10, "adapter_layers": 2}
HOULSBY: Case = {"name": "adapter", "bottleneck": 64, "placement": "houlsby"}
PFEIFFER: Case = {"name": "adapter", "bottleneck": 48, "placement": "pfeiffer"}
PARALLEL: Case = {"name": "adapter", "bottleneck": 64, "placement": "parallel"}
METHODS = (PROMPT, P_TUNING, LSTM, PREFIX, PROJECTED, GATED, HOULSBY, PFEIFFER, PARALLEL)
FAMILIES = (
    *("llama", "llama-odd", "gpt2", "gpt2-odd", "opt", "gpt_neox", "mistral", "qwen2", "qwen3", "gemma", "gemma2"),
    *("phi", "phi3", "olmo2", "bert", "roberta"),
)
SETTINGS: tuple[Case, ...] = (
    {"precision": "bf16", "attention": "sdpa"},
    {"precision": "fp32", "attention": "eager"},
    {"precision": "bf16-mixed", "attention": "sdpa"},
    {"precision": "bf16", "attention": "sdpa", "checkpointing": True},
)


def offered(name: str, method: Case) -> bool:
    """peft's prefixes need a model that takes past keys and values, its adaption prompts know three families."""
    family = CONFIGS[name]["model_type"]
    if method["name"] == "adaption_prompt":
        return family in ("llama", "mistral", "gpt2")
    return method["name"] != "prefix" or family not in ("bert", "roberta")


def _cases(names: tuple[str, ...]) -> Iterator[tuple[str, Case, Case]]:
    for name in names:
        for method in METHODS:
            if offered(name, method):
                yield name, method, {"config": name, "head": HEADS.get(name), "method": method}


def parameter_cases() -> Iterator[Case]:
    """Every family with every method."""
    for name, method, case in _cases(FAMILIES):
        yield case
        if name in ("llama", "gpt2") and method["name"] != "adaption_prompt":
            yield {**case, "head": "sequence-classification"}


def flop_cases() -> Iterator[Case]:
    """Every family with every method; some checkpointed."""
    size = {"batch": 2, "seq": 128}
    for name, method, case in _cases(FAMILIES):
        yield {**case, "precision": "bf16", "attention": "eager" if name == "gemma2" else "sdpa", **size}
        if name in ("llama", "gpt2", "bert") and method["name"] != "prefix":
            yield {**case, "attention": "eager", "checkpointing": True, **size}


def memory_cases() -> Iterator[Case]:
    """Four families (two of them deep) through all settings, the others through one setting a method, in turn."""
    whole = ("llama", "gpt2", "llama-deep", "gpt2-deep", "bert")
    for turn, (name, method, case) in enumerate(_cases((*whole, *(n for n in FAMILIES if n not in whole)))):
        for position, setting in enumerate(SETTINGS):
            if name not in whole and position != turn % len(SETTINGS):
                continue
            if setting.get("checkpointing") and method["name"] == "prefix":
                setting = SETTINGS[turn % 3]  # peft refuses the two together
                if name in whole:
                    continue
            size = {"batch": 3, "seq": 250} if name.endswith("odd") else {"batch": 4, "seq": 256}
            if name == "gemma2":
                setting = {**setting, "attention": "eager"}
            yield {**case, **setting, **size}
