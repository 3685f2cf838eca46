"""The recorded cases of decoders that differ from well-known ones in a few traits: latent attention, experts, and windows by layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_TOKENS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_GATED: dict[str, Any] = {
    "hidden_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 512,
    "vocab_size": 2048, "max_position_embeddings": 1024, **_TOKENS,
}  # fmt: skip
_ODD: dict[str, Any] = {
    **_GATED, "hidden_size": 240, "num_attention_heads": 6, "num_key_value_heads": 3, "intermediate_size": 344, "vocab_size": 1003,
    "head_dim": 40, "tie_word_embeddings": True,
}  # fmt: skip
_LATENT: dict[str, Any] = {
    **_GATED, "num_key_value_heads": 4, "kv_lora_rank": 96, "q_lora_rank": 128, "qk_rope_head_dim": 32, "v_head_dim": 48,
    "qk_nope_head_dim": 64,
}  # fmt: skip
_ODD_LATENT: dict[str, Any] = {
    **_LATENT, "hidden_size": 200, "num_attention_heads": 5, "num_key_value_heads": 5, "intermediate_size": 333, "vocab_size": 1003,
    "kv_lora_rank": 56, "q_lora_rank": None, "qk_rope_head_dim": 24, "v_head_dim": 40, "qk_nope_head_dim": 40,
}  # fmt: skip
_ROUTED: dict[str, Any] = {"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 160, "n_group": 2, "topk_group": 1}
_EXPERTS: dict[str, Any] = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 160}
_SLIDING, _FULL = "sliding_attention", "full_attention"
_KOLIBRI: dict[str, Any] = {k: v for k, v in _GATED.items() if k != "intermediate_size"}

CONFIGS: dict[str, dict[str, Any]] = {
    "youtu": {"model_type": "youtu", **_LATENT},
    "youtu-odd": {"model_type": "youtu", **_ODD_LATENT, "tie_word_embeddings": False},
    "minicpm3": {"model_type": "minicpm3", **_LATENT},
    "minicpm3-odd": {"model_type": "minicpm3", **_ODD_LATENT, "attention_bias": True, "mlp_bias": True},
    "axk1": {"model_type": "axk1", **_LATENT, **_ROUTED},
    "axk1-odd": {"model_type": "axk1", **_ODD_LATENT, **_ROUTED, "q_lora_rank": 72, "mlp_layer_types": ["sparse", "dense", "sparse"]},
    "mistral4": {"model_type": "mistral4", **_LATENT, **_ROUTED, "first_k_dense_replace": 1},
    "sarvam_mla": {"model_type": "sarvam_mla", **_LATENT, **_ROUTED},
    "sarvam_mla-odd": {"model_type": "sarvam_mla", **_ODD_LATENT, **_ROUTED, "first_k_dense_replace": 2},
    "sarvam_moe": {"model_type": "sarvam_moe", **_GATED, **_ROUTED},
    "sarvam_moe-odd": {"model_type": "sarvam_moe", **_ODD, **_ROUTED, "use_qk_norm": False, "attention_bias": True},
    "mellum": {"model_type": "mellum", **_GATED, **_EXPERTS, "layer_types": [_SLIDING, _FULL, _SLIDING], "sliding_window": 64},
    "mellum-odd": {"model_type": "mellum", **_ODD, **_EXPERTS, "mlp_layer_types": ["dense", "sparse", "sparse"], "norm_topk_prob": False},
    "kolibri1": {
        "model_type": "kolibri1", **_KOLIBRI, **_EXPERTS, "num_hidden_layers": 6, "sliding_window": 64,
        "shared_expert_intermediate_size": 144,
    },
    "hy_v3": {"model_type": "hy_v3", **_GATED, **_EXPERTS},
    "hy_v3-odd": {"model_type": "hy_v3", **_ODD, **_EXPERTS, "num_shared_experts": 2, "attention_bias": True, "enable_moe_fp32_combine": False},
    "cohere2_moe": {
        "model_type": "cohere2_moe", **_GATED, "num_experts": 8, "num_experts_per_tok": 2, "num_shared_experts": 1, "head_dim": 64,
        "num_hidden_layers": 5, "sliding_window": 64, "mlp_layer_types": ["dense", *["sparse"] * 4],
    },
    "cohere2_moe-odd": {
        "model_type": "cohere2_moe", **_ODD, "num_experts": 5, "num_experts_per_tok": 2, "prefix_dense_intermediate_size": 411,
        "sliding_window": 64, "mlp_layer_types": ["dense", "sparse", "dense"], "rms_norm_eps": 1e-5,
    },
    "bitnet": {"model_type": "bitnet", **_GATED},
    "bitnet-odd": {"model_type": "bitnet", **_ODD, "attention_bias": True},
    "gpt-sw3": {"model_type": "gpt-sw3", "n_embd": 192, "n_layer": 2, "n_head": 4, "vocab_size": 1003, **_TOKENS},
}  # fmt: skip
LATENT = ("youtu", "minicpm3", "axk1", "mistral4", "sarvam_mla")
HEADLESS = ("mistral4",)
"""Text models of others, which transformers offers no language head for by themselves."""
ALL: dict[str, Any] = {"name": "lora", "rank": 8, "targets": "all-linear"}
FIRST: dict[str, Any] = {"name": "freeze", "first": 1}


def lora(name: str) -> dict[str, Any]:
    """LoRA on attention."""
    if name.split("-")[0] in LATENT:
        return {"name": "lora", "rank": 8, "targets": ["kv_b_proj", "o_proj"]}
    return {"name": "lora", "rank": 8, "targets": ["c_attn"] if name == "gpt-sw3" else ["q_proj", "v_proj"]}


def _case(name: str, **arguments: Any) -> dict[str, Any]:
    return {"config": name, "head": "none" if name in HEADLESS else None, **arguments}


def parameter_cases() -> Iterator[dict[str, Any]]:
    """Every config in full, with adapters, and with frozen layers."""
    for name in CONFIGS:
        for method in (None, lora(name), ALL, FIRST):
            yield _case(name, method=method)


def flop_cases() -> Iterator[dict[str, Any]]:
    """Every config in full and with checkpointed adapters; frozen layers for the plain ones."""
    size = {"batch": 2, "seq": 96}
    for name in (n for n in CONFIGS if n not in HEADLESS):
        yield _case(name, method=None, attention="eager", **size)
        yield _case(name, method=ALL, precision="bf16", attention="sdpa", checkpointing=True, **size)
        if "-" not in name:
            yield _case(name, method=FIRST, attention="eager", **size)


def memory_cases() -> Iterator[dict[str, Any]]:
    """Every config in full and with adapters; precisions take turns."""
    size = {"batch": 2, "seq": 128}
    for number, name in enumerate(n for n in CONFIGS if n not in HEADLESS):
        yield _case(name, method=None, precision="fp32", attention="eager", **size)
        yield _case(name, method=None, precision="bf16", attention="sdpa", **size)
        turns: tuple[dict[str, Any], ...] = (
            {"method": None, "precision": "bf16-mixed", "checkpointing": True},
            {"method": lora(name), "precision": "bf16-autocast"},
            {"method": ALL, "precision": "bf16", "checkpointing": True},
        )
        yield _case(name, attention="sdpa", **turns[number % 3], **size)
