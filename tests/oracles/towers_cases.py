"""The recorded cases of vision-language models whose tower is their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Case = dict[str, Any]
_TEXT: Case = {
    "hidden_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 704,
    "vocab_size": 2048, "max_position_embeddings": 1024, "pad_token_id": 0, "head_dim": 64,
}  # fmt: skip
_ODD: Case = {
    **_TEXT, "hidden_size": 240, "num_attention_heads": 6, "num_key_value_heads": 3, "intermediate_size": 333, "vocab_size": 303,
    "head_dim": 32,
}  # fmt: skip
_ROPE: Case = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [12, 10, 10]}}
_ODD_ROPE: Case = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [6, 5, 5]}}
_DEEP: Case = {
    "depth": 4, "hidden_size": 192, "num_heads": 3, "intermediate_size": 512, "out_hidden_size": 256,
    "deepstack_visual_indexes": [0, 2], "num_position_embeddings": 256, "patch_size": 16,
}  # fmt: skip
_TOWER: Case = {
    "hidden_size": 192, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 512, "image_size": 128, "patch_size": 16,
}  # fmt: skip
_EXPERTS: Case = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 160}
_LINEAR: Case = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 32, "linear_value_head_dim": 32,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
}  # fmt: skip
CONFIGS: dict[str, Case] = {
    "qwen3_vl": {"model_type": "qwen3_vl", "text_config": {**_TEXT, **_ROPE}, "vision_config": _DEEP},
    "qwen3_vl-odd": {
        "model_type": "qwen3_vl", "text_config": {**_ODD, **_ODD_ROPE, "attention_bias": True}, "tie_word_embeddings": True,
        "vision_config": {
            **_DEEP, "hidden_size": 120, "intermediate_size": 333, "out_hidden_size": 240, "patch_size": 14, "spatial_merge_size": 1,
            "deepstack_visual_indexes": [3], "num_position_embeddings": 81,
        },
    },
    "qwen3_vl_moe": {"model_type": "qwen3_vl_moe", "text_config": {**_TEXT, **_ROPE, **_EXPERTS}, "vision_config": _DEEP},
    "qwen3_5": {
        "model_type": "qwen3_5", "vision_config": _DEEP, "text_config": {**_TEXT, **_ROPE, **_LINEAR, "vocab_size": 512},
    },
    "qwen3_5_moe": {
        "model_type": "qwen3_5_moe", "vision_config": _DEEP,
        "text_config": {**_TEXT, **_ROPE, **_LINEAR, **_EXPERTS, "shared_expert_intermediate_size": 144},
    },
    "mistral3": {
        "model_type": "mistral3", "text_config": {**_TEXT, "model_type": "mistral"},
        "vision_config": {**_TOWER, "model_type": "pixtral", "patch_size": 14, "image_size": 224},
    },
    "mistral3-odd": {
        "model_type": "mistral3", "text_config": {**_ODD, "model_type": "mistral"}, "multimodal_projector_bias": True,
        "tie_word_embeddings": False, "spatial_merge_size": 3,
        "vision_config": {**_TOWER, "model_type": "pixtral", "hidden_size": 120, "intermediate_size": 333, "patch_size": 14},
    },
    "idefics3": {"model_type": "idefics3", "text_config": {**_TEXT, "model_type": "llama"}, "vision_config": _TOWER},
    "smolvlm": {
        "model_type": "smolvlm", "text_config": {**_ODD, "model_type": "llama"}, "scale_factor": 4,
        "vision_config": {**_TOWER, "hidden_size": 120, "intermediate_size": 333},
    },
}  # fmt: skip
SIZES: dict[str, Case] = {
    "qwen3_vl": {"image_size": 160}, "qwen3_vl-odd": {"image_size": 126, "images": 1}, "qwen3_vl_moe": {"image_size": 160},
    "qwen3_5": {"image_size": 160}, "qwen3_5_moe": {"image_size": 160}, "mistral3": {"image_size": 112}, "mistral3-odd": {"image_size": 126},
}  # fmt: skip
LEAST: Case = {"seq": 256, "images": 2}
ALL: Case = {"name": "lora", "rank": 8, "targets": "all-linear"}
TEXT: Case = {"name": "lora", "rank": 8, "targets": ["q_proj", "v_proj"]}
FIRST: Case = {"name": "freeze", "first": 1}


def _case(name: str, **arguments: Any) -> Case:
    return {"config": name, "head": None, **arguments}


def _sized(name: str, **arguments: Any) -> Case:
    return _case(name, batch=2, **{**LEAST, **SIZES.get(name, {})}, **arguments)


def parameter_cases() -> Iterator[Case]:
    """Every config in full, with adapters, and with frozen layers."""
    for name in CONFIGS:
        for method in (None, TEXT, ALL, FIRST):
            yield _case(name, method=method)


def _fused(name: str) -> str:
    """Linear attention has fused kernels where the word is not eager, which transformers alone does not bring."""
    return "eager" if name.startswith("qwen3_5") else "sdpa"


def flop_cases() -> Iterator[Case]:
    """Every config in full, with checkpointed adapters, and with frozen layers."""
    for name in CONFIGS:
        yield _sized(name, method=None, attention="eager")
        yield _sized(name, method=ALL, precision="bf16", attention=_fused(name), checkpointing=True)
        yield _sized(name, method=FIRST, attention="eager")


def memory_cases() -> Iterator[Case]:
    """Every config in full in three precisions, and with adapters."""
    for name in CONFIGS:
        yield _sized(name, method=None, precision="fp32", attention="eager")
        yield _sized(name, method=None, precision="bf16", attention=_fused(name))
        yield _sized(name, method=None, precision="bf16-mixed", attention=_fused(name), checkpointing=True)
        yield _sized(name, method=ALL, precision="bf16-autocast", attention=_fused(name))
