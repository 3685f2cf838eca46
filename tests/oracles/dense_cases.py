"""The recorded cases of dense text models that came after the first thirty families."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Case = dict[str, Any]

_WIDE: Case = {
    "hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8, "vocab_size": 4096, "intermediate_size": 1376,
    "max_position_embeddings": 1024, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_GATED: Case = {**_WIDE, "num_hidden_layers": 3, "num_key_value_heads": 2, "head_dim": 64}
_ODD: Case = {
    **_WIDE, "hidden_size": 360, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 60,
    "intermediate_size": 1001, "vocab_size": 5003,
}  # fmt: skip
_FOUR: Case = {**_GATED, "num_hidden_layers": 4, "hidden_size": 384, "num_attention_heads": 6}

CONFIGS: dict[str, Case] = {
    "cohere": {"model_type": "cohere", **_GATED},
    "cohere-odd": {"model_type": "cohere", **_ODD, "use_qk_norm": True, "attention_bias": True},
    "cohere2": {"model_type": "cohere2", **_FOUR},
    "cohere2-odd": {"model_type": "cohere2", **_ODD, "sliding_window_pattern": 2, "attention_bias": True},
    "olmo": {"model_type": "olmo", **_GATED, "num_key_value_heads": 8},
    "olmo-odd": {"model_type": "olmo", **_ODD, "clip_qkv": 8.0, "attention_bias": True, "tie_word_embeddings": True},
    "olmo3": {"model_type": "olmo3", **_FOUR},
    "olmo3-odd": {"model_type": "olmo3", **_ODD, "attention_bias": True},
    "glm": {"model_type": "glm", **_GATED},
    "glm-odd": {"model_type": "glm", **_ODD, "head_dim": 40, "attention_bias": False},
    "glm4": {"model_type": "glm4", **_GATED},
    "glm4-odd": {"model_type": "glm4", **_ODD, "head_dim": 40, "tie_word_embeddings": True},
    "smollm3": {"model_type": "smollm3", **_FOUR},
    "smollm3-odd": {"model_type": "smollm3", **_ODD, "no_rope_layers": [1, 0], "mlp_bias": True, "attention_bias": True},
    "helium": {"model_type": "helium", **_GATED},
    "helium-odd": {"model_type": "helium", **_ODD, "attention_bias": True, "mlp_bias": True},
    "ernie4_5": {"model_type": "ernie4_5", **_GATED},
    "ernie4_5-odd": {"model_type": "ernie4_5", **_ODD, "head_dim": 40, "use_bias": True, "tie_word_embeddings": False},
    "exaone": {"model_type": "exaone", **_GATED},
    "exaone-odd": {"model_type": "exaone", **_ODD, "attention_bias": True, "mlp_bias": True},
    "exaone4": {"model_type": "exaone4", **_FOUR},
    "exaone4-odd": {"model_type": "exaone4", **_ODD, "sliding_window": None},
    "hunyuan_v1_dense": {"model_type": "hunyuan_v1_dense", **_GATED},
    "hunyuan_v1_dense-odd": {"model_type": "hunyuan_v1_dense", **_ODD, "attention_bias": True},
    "apertus": {"model_type": "apertus", **_GATED},
    "apertus-odd": {"model_type": "apertus", **_ODD, "attention_bias": True},
    "ministral3": {"model_type": "ministral3", **_GATED},
    "ministral3-odd": {"model_type": "ministral3", **_ODD, "head_dim": 40},
    "bitnet": {"model_type": "bitnet", **_GATED},
    "bitnet-odd": {"model_type": "bitnet", **_ODD, "attention_bias": True},
    "nanochat": {"model_type": "nanochat", **_GATED},
    "nanochat-odd": {"model_type": "nanochat", **_ODD, "attention_bias": True, "final_logit_softcapping": None},
    "vaultgemma": {"model_type": "vaultgemma", **_GATED, "query_pre_attn_scalar": 64},
    "vaultgemma-odd": {"model_type": "vaultgemma", **_ODD, "attn_logit_softcapping": None, "attention_bias": True},
    "jais2": {"model_type": "jais2", **_GATED},
    "jais2-odd": {"model_type": "jais2", **_ODD, "attention_bias": False, "mlp_bias": False},
    "cwm": {"model_type": "cwm", **_FOUR},
    "cwm-odd": {"model_type": "cwm", **_ODD},
    "internlm3": {"model_type": "internlm3", **_GATED},
    "internlm3-odd": {"model_type": "internlm3", **_ODD, "attention_bias": True, "mlp_bias": True},
    "iquestcoder": {"model_type": "iquestcoder", **_GATED},
    "iquestcoder-odd": {"model_type": "iquestcoder", **_ODD, "head_dim": 40, "attention_bias": True},
    "hyperclovax": {"model_type": "hyperclovax", **_GATED},
    "hyperclovax-odd": {"model_type": "hyperclovax", **_ODD, "use_post_norm": False, "mlp_bias": True},
}
EAGER_ONLY = ("vaultgemma",)
"""Families that transformers runs without fused attention."""
HEADS: dict[str, str] = {}
"""Output heads of the families that are not causal language models."""
TARGETS: dict[str, list[str]] = {}
"""peft's default targets (peft.utils.constants), where it has any; q_proj and v_proj for the others."""


def lora(name: str) -> Case:
    """LoRA on peft's default targets, or the usual ones."""
    return {"name": "lora", "rank": 8, "targets": TARGETS.get(CONFIGS[name]["model_type"], ["q_proj", "v_proj"])}


ALL_LINEAR: Case = {"name": "lora", "rank": 8, "targets": "all-linear"}


def has_sdpa(name: str) -> bool:
    """Whether transformers offers fused attention for the config."""
    return CONFIGS[name]["model_type"] not in EAGER_ONLY


def METHODS(name: str) -> tuple[Case | None, ...]:
    """What parameter counts are recorded for."""
    return (None, lora(name), ALL_LINEAR)


def SETTINGS(name: str) -> Iterator[Case]:
    """What FLOPs and memory are recorded for: methods, precisions, kernels and checkpointing over the set."""
    fused = "sdpa" if has_sdpa(name) else "eager"
    size = {"batch": 3, "seq": 200} if name.endswith("odd") else {"batch": 4, "seq": 256}
    yield {"method": None, "precision": "bf16", "attention": fused, **size}
    if name.endswith("odd"):
        yield {"method": None, "precision": "fp32", "attention": "eager", **size}
        yield {"method": ALL_LINEAR, "precision": "bf16-autocast", "attention": fused, **size}
        yield {"method": lora(name), "precision": "bf16", "attention": fused, "checkpointing": True, **size}
    else:
        yield {"method": None, "precision": "bf16-mixed", "attention": "eager", **size}
        yield {"method": None, "precision": "bf16-mixed", "attention": fused, "checkpointing": True, **size}
        yield {"method": ALL_LINEAR, "precision": "bf16", "attention": fused, **size}
