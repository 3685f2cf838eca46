"""Models without a reader, whose import by structure is compared: what their modules hold, and what a step of training multiplies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.oracles import flops, parameters

_SMALL: dict[str, Any] = {
    "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 256,
    "vocab_size": 512, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_ENCODER: dict[str, Any] = {k: v for k, v in _SMALL.items() if k != "num_key_value_heads"}
_EXPERTS: dict[str, Any] = {**_SMALL, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "head_dim": 32}
_OLD: dict[str, Any] = {"n_embd": 128, "n_layer": 2, "n_head": 4, "vocab_size": 512}
STRUCTURES: dict[str, dict[str, Any]] = {
    "afmoe": {"model_type": "afmoe", **_EXPERTS},
    "laguna": {"model_type": "laguna", **_EXPERTS, "shared_expert_intermediate_size": 64},
    "doge": {"model_type": "doge", **_SMALL},
    "granite_swa": {"model_type": "granite_swa", **_SMALL},
    "minimax": {"model_type": "minimax", **_SMALL, "num_local_experts": 4},
    "gpt_neox_japanese": {"model_type": "gpt_neox_japanese", **_ENCODER, "intermediate_multiple_size": 2},
    "openai-gpt": {"model_type": "openai-gpt", **_OLD},
    "ctrl": {"model_type": "ctrl", **_OLD, "dff": 256},
    "convbert": {"model_type": "convbert", **_ENCODER},
    "layoutlm": {"model_type": "layoutlm", **_ENCODER},
    "diffllama": {"model_type": "diffllama", **_SMALL},
    "recurrent_gemma": {"model_type": "recurrent_gemma", **_SMALL, "lru_width": 128, "head_dim": 32},
}
MASKED = ("convbert", "layoutlm")


def structures() -> Iterator[dict[str, Any]]:
    """One case a type."""
    for name in STRUCTURES:
        yield {"config": name, "head": "masked-lm" if name in MASKED else "causal-lm", "batch": 2, "seq": 64, "attention": "eager"}


def measure(config: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, int]:
    """Parameters, and FLOPs of forward and backward."""
    counted = flops.measure(config, method=None, **arguments)
    return {"parameters": parameters.count(config, arguments["head"], None)["total"], "flops": counted["forward"] + counted["backward"]}
