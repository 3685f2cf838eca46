"""The recorded cases of encoders that put norms or positions elsewhere than BERT: Megatron's BERT and MPNet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Case = dict[str, Any]

_SMALL: Case = {
    "hidden_size": 384, "num_hidden_layers": 3, "num_attention_heads": 6, "intermediate_size": 1001, "vocab_size": 3001,
    "max_position_embeddings": 514, "pad_token_id": 1, "num_labels": 3,
}  # fmt: skip
CONFIGS: dict[str, Case] = {
    "megatron-bert": {"model_type": "megatron-bert", **_SMALL},
    "mpnet": {"model_type": "mpnet", **_SMALL},
    "mpnet-odd": {
        "model_type": "mpnet", **_SMALL, "hidden_size": 130, "num_attention_heads": 5, "hidden_dropout_prob": 0.0,
        "num_hidden_layers": 4,
    },
}  # fmt: skip
"""MPNet takes no other number of buckets than 32: it looks them up as if there were so many."""
NAMES = {"megatron-bert": ["query", "value"], "mpnet": ["q", "v"], "mpnet-odd": ["q", "v"]}
HEADS = ("sequence-classification", "masked-lm")
SETTINGS: tuple[Case, ...] = (
    {"precision": "fp32", "attention": "eager"},
    {"precision": "bf16", "attention": "eager"},
    {"precision": "bf16-mixed", "attention": "eager"},
)


def _methods(name: str) -> tuple[Case | None, ...]:
    lora = {"name": "lora", "rank": 8, "targets": NAMES[name]}
    return None, lora, {**lora, "targets": "all-linear"}, {"name": "bitfit"}


def parameter_cases() -> Iterator[Case]:
    """Every config with every method and both heads."""
    for name in CONFIGS:
        for method in _methods(name):
            for head in HEADS:
                yield {"config": name, "head": head, "method": method, "attention": "eager"}


def flop_cases() -> Iterator[Case]:
    """Every config in full and with LoRA."""
    for name in CONFIGS:
        for turn, method in enumerate(_methods(name)):
            yield {"config": name, "head": HEADS[turn % 2], "method": method, **SETTINGS[turn % 2], "batch": 2, "seq": 96}


def memory_cases() -> Iterator[Case]:
    """Every config with every method through all settings."""
    for name in CONFIGS:
        for turn, method in enumerate(_methods(name)):
            for setting in SETTINGS:
                size = {"batch": 3, "seq": 250} if name.endswith("odd") else {"batch": 4, "seq": 256}
                yield {"config": name, "head": HEADS[turn % 2], "method": method, **setting, **size}
    yield {"config": "megatron-bert", "head": HEADS[0], "method": None, **SETTINGS[1], "checkpointing": True, "batch": 4, "seq": 256}
