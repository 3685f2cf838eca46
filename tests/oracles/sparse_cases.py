"""The recorded cases of mixtures of experts and latent attention."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Case = dict[str, Any]

_BASE: Case = {
    "hidden_size": 384, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2,
    "intermediate_size": 1024, "vocab_size": 2048, "max_position_embeddings": 1024,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_FINE: Case = {
    **_BASE, "moe_intermediate_size": 160, "num_experts_per_tok": 4, "n_routed_experts": 16, "n_shared_experts": 2,
    "first_k_dense_replace": 1,
}  # fmt: skip
_QWEN: Case = {**_BASE, "num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 160}
_LATENT: Case = {
    **_FINE, "num_key_value_heads": 8, "kv_lora_rank": 96, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32,
    "v_head_dim": 64,
}  # fmt: skip
_ODD: Case = {"hidden_size": 360, "num_hidden_layers": 3, "intermediate_size": 1001, "vocab_size": 5003}

CONFIGS: dict[str, Case] = {
    "qwen2_moe-mixed": {
        "model_type": "qwen2_moe", **_QWEN, "shared_expert_intermediate_size": 512, "decoder_sparse_step": 2,
    },
    "qwen3_moe-mixed": {"model_type": "qwen3_moe", **_QWEN, "head_dim": 64, "mlp_only_layers": [0, 3]},
    "olmoe-clipped": {"model_type": "olmoe", **_BASE, "intermediate_size": 160, "num_experts": 16, "num_experts_per_tok": 4, "clip_qkv": 8.0},
    "granitemoeshared": {"model_type": "granitemoeshared", **_BASE, "intermediate_size": 256, "num_local_experts": 12, "shared_intermediate_size": 512},
    "deepseek_v2": {"model_type": "deepseek_v2", **_LATENT, "q_lora_rank": None},
    "deepseek_v2-limited": {
        "model_type": "deepseek_v2", **_LATENT, "q_lora_rank": 128, "topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2,
    },
    "deepseek_v3": {"model_type": "deepseek_v3", **_LATENT, "q_lora_rank": 192, "n_group": 4, "topk_group": 2},
    "deepseek_v3-odd": {
        "model_type": "deepseek_v3", **_LATENT, **_ODD, "num_attention_heads": 5, "num_key_value_heads": 5, "q_lora_rank": None,
        "n_group": 1, "topk_group": 1, "moe_intermediate_size": 104, "v_head_dim": 40, "rope_interleave": False,
    },
    "deepseek_v3-deep": {
        "model_type": "deepseek_v3", **_LATENT, "q_lora_rank": 192, "n_group": 4, "topk_group": 2, "num_hidden_layers": 9, "vocab_size": 512,
    },
    "glm4_moe_lite": {"model_type": "glm4_moe_lite", **_LATENT, "q_lora_rank": 192, "v_head_dim": 96},
    "glm4_moe": {"model_type": "glm4_moe", **_FINE, "head_dim": 64, "use_qk_norm": True, "attention_bias": True},
    "glm4_moe-odd": {
        "model_type": "glm4_moe", **_FINE, **_ODD, "head_dim": 40, "num_attention_heads": 9, "num_key_value_heads": 3, "moe_intermediate_size": 104,
    },
    "dots1": {"model_type": "dots1", **_FINE, "num_key_value_heads": 8},
    "solar_open": {"model_type": "solar_open", **_FINE, "head_dim": 64},
    "exaone_moe": {
        "model_type": "exaone_moe", **_FINE, "num_experts": 16, "num_shared_experts": 2, "head_dim": 64, "sliding_window": 512,
        "sliding_window_pattern": 4,
    },
    "ernie4_5_moe": {
        "model_type": "ernie4_5_moe", **_FINE, "moe_num_experts": 16, "moe_k": 4, "tie_word_embeddings": False,
    },
    "hunyuan_v1_moe": {"model_type": "hunyuan_v1_moe", **_BASE, "intermediate_size": 320, "num_experts": 8, "moe_topk": 2, "head_dim": 64},
    "minimax_m2": {
        "model_type": "minimax_m2", **_BASE, "intermediate_size": 160, "num_local_experts": 16, "num_experts_per_tok": 4, "head_dim": 64,
        "rotary_dim": 32,
    },
    "flex_olmo": {"model_type": "flex_olmo", **_BASE, "intermediate_size": 256, "num_experts": 7, "num_experts_per_tok": 3},
    "phimoe": {"model_type": "phimoe", **_BASE, "intermediate_size": 256, "num_local_experts": 8, "attention_bias": True, "lm_head_bias": True},
    "gpt_oss": {"model_type": "gpt_oss", **_BASE, "intermediate_size": 256, "num_local_experts": 16, "head_dim": 64, "sliding_window": 128},
    "gpt_oss-odd": {
        "model_type": "gpt_oss", **_BASE, **_ODD, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 40, "intermediate_size": 104,
        "num_local_experts": 5, "num_experts_per_tok": 2,
    },
    "llama4_text": {
        "model_type": "llama4_text", **_BASE, "head_dim": 64, "intermediate_size": 256, "intermediate_size_mlp": 1024, "num_local_experts": 4,
        "interleave_moe_layer_step": 2,
    },
    "llama4_text-odd": {
        "model_type": "llama4_text", **_BASE, **_ODD, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 40,
        "intermediate_size": 104, "intermediate_size_mlp": 501, "num_local_experts": 3, "use_qk_norm": False, "no_rope_layers": [1, 0, 1],
    },
}  # fmt: skip
for _config in CONFIGS.values():
    if _config["model_type"] in ("exaone_moe", "ernie4_5_moe"):
        for _key in ("n_routed_experts", "n_shared_experts"):
            _config.pop(_key)

EAGER_ONLY = ("gpt_oss",)


def _targets(config: Case) -> list[str]:
    if "kv_lora_rank" in config:
        return ["q_proj" if config.get("q_lora_rank") is None else "q_b_proj", "kv_b_proj", "o_proj"]
    return ["q_proj", "v_proj"]


def lora(name: str, rank: int = 8) -> Case:
    """LoRA on projections of the attention."""
    return {"name": "lora", "rank": rank, "targets": _targets(CONFIGS[name])}


def _case(name: str, **arguments: Any) -> Case:
    return {"config": name, "head": None, **arguments}


def parameter_cases() -> Iterator[Case]:
    """Every config in full, and with LoRA on the attention alone."""
    for name in CONFIGS:
        for method in (None, lora(name), lora(name, 64)):
            yield _case(name, method=method)


def flop_cases() -> Iterator[Case]:
    """Every config in full, with LoRA, checkpointed."""
    size: Case = {"batch": 2, "seq": 128}
    for name, config in CONFIGS.items():
        fused = "eager" if config["model_type"] in EAGER_ONLY else "sdpa"
        yield _case(name, method=None, attention="eager", **size)
        yield _case(name, method=None, precision="bf16", attention=fused, **size)
        yield _case(name, method=lora(name), precision="bf16", attention=fused, checkpointing=True, **size)
        yield _case(name, method=lora(name), attention="eager", **size)


def memory_cases() -> Iterator[Case]:
    """Every config through four settings."""
    for name, config in CONFIGS.items():
        size: Case = {"batch": 3, "seq": 250} if name.endswith("odd") else {"batch": 4, "seq": 256}
        fused = "eager" if config["model_type"] in EAGER_ONLY else "sdpa"
        yield _case(name, method=None, precision="fp32", attention="eager", **size)
        yield _case(name, method=None, precision="bf16", attention=fused, **size)
        yield _case(name, method=None, precision="bf16-mixed", attention=fused, checkpointing=True, **size)
        yield _case(name, method=None, precision="bf16-mixed", attention=fused, **size)
        yield _case(name, method=lora(name), precision="bf16", attention=fused, **size)
        yield _case(name, method=lora(name), precision="bf16-autocast", attention=fused, **size)
