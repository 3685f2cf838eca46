"""Recorded cases of state-space models, linear attention and hybrids: transformers' separate operators, which need no GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.oracles.cases import FIRST_TWO, LAST_ONE, lora_all

_COMMON: dict[str, Any] = {"hidden_size": 256, "num_hidden_layers": 3, "vocab_size": 512, "pad_token_id": 0}
CONFIGS: dict[str, dict[str, Any]] = {
    "mamba": {"model_type": "mamba", **_COMMON},
    "mamba-odd": {
        "model_type": "mamba", "hidden_size": 90, "num_hidden_layers": 3, "vocab_size": 1003, "state_size": 7,
        "conv_kernel": 3, "expand": 3, "use_bias": True, "residual_in_fp32": False, "time_step_rank": 5,
    },
    "falcon_mamba": {"model_type": "falcon_mamba", **_COMMON},
    "mamba2": {
        "model_type": "mamba2", **_COMMON, "num_heads": 8, "head_dim": 64, "state_size": 48, "n_groups": 2, "chunk_size": 32,
    },
    "mamba2-odd": {
        "model_type": "mamba2", "hidden_size": 90, "num_hidden_layers": 3, "vocab_size": 1003, "state_size": 7, "conv_kernel": 3,
        "expand": 3, "use_bias": True, "residual_in_fp32": False, "num_heads": 10, "head_dim": 27, "n_groups": 5, "chunk_size": 20,
    },
}  # fmt: skip
_ATTENTION: dict[str, Any] = {"num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 640, **_COMMON}
_MAMBA2: dict[str, Any] = {"mamba_n_heads": 8, "mamba_d_state": 32, "mamba_chunk_size": 32, "mamba_n_groups": 2}
CONFIGS.update(
    {
        "jamba": {
            "model_type": "jamba", **_ATTENTION, "num_hidden_layers": 4, "attn_layer_period": 4, "attn_layer_offset": 2, "num_experts": 4,
        },
        "bamba": {"model_type": "bamba", **_ATTENTION, **_MAMBA2, "attn_layer_indices": [1]},
        "granitemoehybrid": {
            "model_type": "granitemoehybrid", **_ATTENTION, **_MAMBA2, "num_local_experts": 6, "intermediate_size": 192,
            "shared_intermediate_size": 320, "layer_types": ["mamba", "attention", "mamba"], "residual_multiplier": 0.5,
        },
        "granitemoehybrid-dense": {
            "model_type": "granitemoehybrid", **_ATTENTION, **_MAMBA2, "num_local_experts": 0, "shared_intermediate_size": 320,
            "layer_types": ["mamba", "attention", "mamba"], "position_embedding_type": "rope", "tie_word_embeddings": True,
        },
        "falcon_h1": {"model_type": "falcon_h1", **_ATTENTION, **_MAMBA2, "mamba_d_ssm": 384, "key_multiplier": 0.5},
        "falcon_h1-normed": {
            "model_type": "falcon_h1", **_ATTENTION, **_MAMBA2, "mamba_d_ssm": None, "mamba_rms_norm": True, "projectors_bias": True,
            "mamba_norm_before_gate": False, "attention_bias": True,
        },
        "qwen3_next": {
            "model_type": "qwen3_next", **_ATTENTION, "num_hidden_layers": 4, "head_dim": 64, "linear_num_key_heads": 2,
            "linear_num_value_heads": 4, "linear_key_head_dim": 32, "linear_value_head_dim": 48, "num_experts": 6,
            "num_experts_per_tok": 2, "moe_intermediate_size": 96, "shared_expert_intermediate_size": 128,
        },
        "qwen3_5_text": {
            "model_type": "qwen3_5_text", **_ATTENTION, "num_hidden_layers": 4, "head_dim": 64, "linear_num_key_heads": 4,
            "linear_num_value_heads": 4, "linear_key_head_dim": 32, "linear_value_head_dim": 48,
        },
        "qwen3_5_moe_text": {
            "model_type": "qwen3_5_moe_text", **_ATTENTION, "num_hidden_layers": 4, "head_dim": 64, "linear_num_key_heads": 2,
            "linear_num_value_heads": 4, "linear_key_head_dim": 32, "linear_value_head_dim": 48, "num_experts": 6,
            "num_experts_per_tok": 2, "moe_intermediate_size": 96, "shared_expert_intermediate_size": 128,
        },
        "zamba2": {
            "model_type": "zamba2", **_ATTENTION, "num_hidden_layers": 5, "num_key_value_heads": 8, "mamba_d_state": 32, "chunk_size": 32,
            "n_mamba_heads": 8, "mamba_ngroups": 2, "adapter_rank": 16, "num_mem_blocks": 2, "use_shared_attention_adapter": True,
            "layers_block_type": ["mamba", "hybrid", "hybrid", "mamba", "hybrid"],
        },
        "zamba2-rope": {
            "model_type": "zamba2", **_ATTENTION, "num_hidden_layers": 4, "num_key_value_heads": 8, "mamba_d_state": 32, "chunk_size": 32,
            "n_mamba_heads": 8, "adapter_rank": 16, "use_mem_rope": True, "add_bias_linear": True,
            "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
        },
        "lfm2_moe": {
            "model_type": "lfm2_moe", **_ATTENTION, "layer_types": ["conv", "full_attention", "conv"], "num_dense_layers": 1,
            "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 96,
        },
        "lfm2": {"model_type": "lfm2", **_ATTENTION, "layer_types": ["conv", "full_attention", "conv"]},
        "lfm2-odd": {
            "model_type": "lfm2", **_ATTENTION, "full_attn_idxs": [2], "conv_bias": True, "conv_L_cache": 5, "block_multiple_of": 24,
            "block_ffn_dim_multiplier": 1.3, "tie_word_embeddings": False,
        },
        "nemotron_h": {
            "model_type": "nemotron_h", "hidden_size": 256, "vocab_size": 512, "hybrid_override_pattern": "M-M*-M", "mamba_num_heads": 8,
            "mamba_head_dim": 32, "ssm_state_size": 32, "n_groups": 2, "chunk_size": 32, "num_attention_heads": 8,
            "num_key_value_heads": 2, "head_dim": 40, "intermediate_size": 640,
        },
        "nemotron_h-experts": {
            "model_type": "nemotron_h", "hidden_size": 256, "vocab_size": 512, "hybrid_override_pattern": "ME*ME-", "mamba_num_heads": 8,
            "mamba_head_dim": 64, "ssm_state_size": 32, "n_groups": 2, "chunk_size": 32, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 512, "n_routed_experts": 8, "num_experts_per_tok": 2,
            "moe_intermediate_size": 96, "moe_shared_expert_intermediate_size": 160,
        },
        "nemotron_h-latent": {
            "model_type": "nemotron_h", "hidden_size": 256, "vocab_size": 512, "hybrid_override_pattern": "ME*E", "mamba_num_heads": 8,
            "mamba_head_dim": 64, "ssm_state_size": 32, "n_groups": 2, "chunk_size": 32, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 512, "n_routed_experts": 6, "num_experts_per_tok": 3,
            "n_group": 2, "moe_intermediate_size": 72, "moe_shared_expert_intermediate_size": 88, "moe_latent_size": 104, "mlp_bias": True,
        },
    }
)
TARGETS: dict[str, list[str]] = {
    **{key: ["in_proj", "x_proj"] for key in ("mamba", "mamba-odd", "falcon_mamba")},
    "jamba": ["in_proj", "x_proj", "q_proj"],
    **{key: ["in_proj"] for key in ("mamba2", "mamba2-odd", "bamba", "granitemoehybrid", "granitemoehybrid-dense", "zamba2", "zamba2-rope")},
    **{key: ["in_proj", "q_proj", "v_proj"] for key in ("falcon_h1", "falcon_h1-normed", "nemotron_h", "nemotron_h-experts", "nemotron_h-latent")},
    "qwen3_next": ["in_proj_qkvz", "out_proj", "q_proj"],
    **{key: ["in_proj_qkv", "in_proj_z", "q_proj"] for key in ("qwen3_5_text", "qwen3_5_moe_text")},
    **{key: ["in_proj", "q_proj"] for key in ("lfm2", "lfm2-odd", "lfm2_moe")},
}
"""What LoRA adapts in each config, beside all-linear."""
REFUSED = ("mamba", "falcon_mamba", "falcon_h1", "nemotron_h")
"""peft refuses all-linear for these, since it reaches out_proj."""
LOOPED = ("mamba", "mamba-odd", "falcon_mamba", "jamba")
"""A loop over tokens: shorter sequences keep the recording fast."""


def _lora(name: str) -> dict[str, Any]:
    return {"name": "lora", "rank": 8, "targets": TARGETS[name]}


def _size(name: str, looped: int, odd: int) -> dict[str, Any]:
    if name.endswith("odd"):
        return {"batch": 3, "seq": odd}
    return {"batch": 2, "seq": looped} if name in LOOPED else {"batch": 4, "seq": 160}


def parameter_cases() -> Iterator[dict[str, Any]]:
    """Every config with every method."""
    for name in CONFIGS:
        for method in (None, _lora(name), lora_all(), FIRST_TWO, LAST_ONE):
            if method is None or method.get("targets") != "all-linear" or not name.startswith(REFUSED):
                yield {"config": name, "head": None, "method": method}


def flop_cases() -> Iterator[dict[str, Any]]:
    """Every config, full and with LoRA, with checkpointing and without."""
    for name in CONFIGS:
        for method in (None, _lora(name)):
            for checkpointing in (False, True):
                yield {
                    "config": name, "head": None, "method": method, "attention": "eager", "checkpointing": checkpointing,
                    **_size(name, 64, 45),
                }  # fmt: skip


def memory_cases() -> Iterator[dict[str, Any]]:
    """Every config in three precisions, with checkpointing, and with LoRA."""
    for name in CONFIGS:
        case = {"config": name, "head": None, "attention": "eager", **_size(name, 40, 37)}
        for precision in ("fp32", "bf16", "bf16-mixed"):
            yield {**case, "method": None, "precision": precision}
        yield {**case, "method": None, "precision": "fp32", "checkpointing": True}
        yield {**case, "method": _lora(name), "precision": "bf16-autocast"}
