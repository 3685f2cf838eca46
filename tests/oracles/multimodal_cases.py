"""The recorded cases of vision-language models and of diffusion transformers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.oracles import denoisers

Case = dict[str, Any]

_TEXT: Case = {
    "hidden_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 704,
    "vocab_size": 4096,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
}
_FEW_WORDS: Case = {**_TEXT, "vocab_size": 300}
_ODD: Case = {**_TEXT, "hidden_size": 200, "num_attention_heads": 5, "num_key_value_heads": 1, "intermediate_size": 333, "vocab_size": 1003}
_TOWER: Case = {
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "intermediate_size": 512,
    "image_size": 112,
    "patch_size": 14,
}
_WIDE_TOWER: Case = {
    **_TOWER,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "intermediate_size": 1536,
    "image_size": 224,
}
_CLIP: Case = {"model_type": "clip_vision_model", "projection_dim": 64}
_SIGLIP: Case = {"model_type": "siglip_vision_model", "vision_use_head": False}
_MROPE: Case = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 12, 12]}}
_INTERN: Case = {**_TOWER, "model_type": "internvl_vision", "image_size": [112, 112], "patch_size": [14, 14]}
_QWEN: Case = {"model_type": "qwen2_5_vl_vision", "depth": 4, "hidden_size": 192, "out_hidden_size": 256, "num_heads": 3}
_DIT: Case = {
    "num_attention_heads": 4,
    "attention_head_dim": 72,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 4,
    "patch_size": 2,
    "attention_bias": True,
    "activation_fn": "gelu-approximate",
    "norm_elementwise_affine": False,
}
_SD3: Case = {
    "_class_name": "SD3Transformer2DModel",
    "sample_size": 64,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 4,
    "attention_head_dim": 64,
    "num_attention_heads": 5,
    "joint_attention_dim": 512,
    "caption_projection_dim": 320,
    "pooled_projection_dim": 256,
    "pos_embed_max_size": 48,
}

VISION_LANGUAGE: dict[str, Case] = {
    "llava": {
        "model_type": "llava",
        "vision_config": {**_CLIP, **_TOWER},
        "text_config": {"model_type": "llama", **_TEXT},
        "image_token_index": 4095,
    },
    "llava-deep": {
        "model_type": "llava",
        "vision_config": {**_CLIP, **_WIDE_TOWER},
        "text_config": {"model_type": "llama", **_FEW_WORDS},
        "image_token_index": 299,
    },
    "llava-odd": {
        "model_type": "llava",
        "vision_config": {**_SIGLIP, **_TOWER, "hidden_size": 120, "intermediate_size": 301, "image_size": 98},
        "text_config": {"model_type": "qwen2", **_ODD},
        "vision_feature_layer": -3,
        "vision_feature_select_strategy": "full",
        "multimodal_projector_bias": False,
        "image_token_index": 1002,
    },
    "paligemma": {
        "model_type": "paligemma",
        "vision_config": {**_SIGLIP, **_TOWER, "projection_dim": 256},
        "text_config": {"model_type": "gemma", **_TEXT, "head_dim": 64},
        "projection_dim": 256,
        "hidden_size": 256,
        "image_token_index": 4095,
    },
    "gemma3": {
        "model_type": "gemma3",
        "vision_config": {**_SIGLIP, **_TOWER},
        "text_config": {"model_type": "gemma3_text", **_TEXT, "head_dim": 64, "num_hidden_layers": 6},
        "mm_tokens_per_image": 16,
        "image_token_index": 4095,
    },
    "gemma3-deep": {
        "model_type": "gemma3",
        "vision_config": {**_SIGLIP, **_WIDE_TOWER},
        "text_config": {"model_type": "gemma3_text", **_FEW_WORDS, "head_dim": 64},
        "mm_tokens_per_image": 16,
        "image_token_index": 299,
    },
    "qwen2_vl": {
        "model_type": "qwen2_vl",
        "vision_config": {
            "model_type": "qwen2_vl_vision", "depth": 4, "embed_dim": 192, "hidden_size": 256, "num_heads": 3, "mlp_ratio": 4,
        },
        "text_config": {"model_type": "qwen2_vl_text", **_TEXT, **_MROPE},
    },
    "qwen2_5_vl": {
        "model_type": "qwen2_5_vl",
        "vision_config": {**_QWEN, "intermediate_size": 500, "window_size": 112, "fullatt_block_indexes": [1, 3]},
        "text_config": {"model_type": "qwen2_5_vl_text", **_FEW_WORDS, **_MROPE},
    },
    "internvl": {
        "model_type": "internvl",
        "vision_config": _INTERN,
        "text_config": {"model_type": "qwen2", **_FEW_WORDS},
        "image_token_id": 299,
    },
    "internvl-rms": {
        "model_type": "internvl",
        "vision_config": {
            **_INTERN, "norm_type": "rms_norm", "use_qk_norm": True, "attention_bias": True, "use_mean_pooling": False,
        },
        "text_config": {"model_type": "qwen2", **_TEXT},
        "image_token_id": 4095,
    },
}  # fmt: skip
DIFFUSION: dict[str, Case] = {
    "dit": {
        "_class_name": "DiTTransformer2DModel", **_DIT, "sample_size": 32, "num_embeds_ada_norm": 1000,
        "norm_type": "ada_norm_zero",
    },
    "pixart": {
        "_class_name": "PixArtTransformer2DModel", **_DIT, "sample_size": 64, "cross_attention_dim": 288,
        "caption_channels": 512, "norm_type": "ada_norm_single",
    },
    "pixart-sized": {
        "_class_name": "PixArtTransformer2DModel", **_DIT, "sample_size": 64, "cross_attention_dim": 288,
        "caption_channels": 512, "norm_type": "ada_norm_single", "use_additional_conditions": True,
    },
    "sd3": _SD3,
    "sd35": {**_SD3, "num_layers": 5, "qk_norm": "rms_norm", "dual_attention_layers": [0, 1]},
    "flux": {
        "_class_name": "FluxTransformer2DModel",
        "patch_size": 1,
        "in_channels": 64,
        "num_layers": 3,
        "num_single_layers": 4,
        "attention_head_dim": 128,
        "num_attention_heads": 3,
        "joint_attention_dim": 512,
        "pooled_projection_dim": 256,
        "guidance_embeds": True,
        "axes_dims_rope": [16, 56, 56],
    },
}  # fmt: skip
CONFIGS = {**VISION_LANGUAGE, **DIFFUSION}

SIZES: dict[str, Case] = {
    "llava-deep": {"batch": 2, "seq": 560, "images": 2},
    "llava-odd": {"batch": 3, "seq": 131, "images": 1},
    "gemma3-deep": {"batch": 2, "seq": 256, "images": 4},
    "qwen2_vl": {"batch": 2, "seq": 256, "images": 2, "image_size": 280},
    "qwen2_5_vl": {"batch": 2, "seq": 256, "images": 2, "image_size": 280},
    "internvl": {"batch": 2, "seq": 128, "images": 6},
    "dit": {"batch": 8, "image_size": 256},
    "flux": {"batch": 3, "seq": 72, "image_size": 512},
    **{name: {"batch": 3, "seq": 72, "image_size": 512} for name in ("pixart", "pixart-sized", "sd3", "sd35")},
}
"""Sequences, tokens and images of each config; two images and 256 tokens for the others."""
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
ALL: Case = {"name": "lora", "rank": 8, "targets": "all-linear"}


def _lora(name: str) -> Case:
    targets = ATTENTION if name in DIFFUSION else ("q_proj", "v_proj")
    return {"name": "lora", "rank": 8, "targets": list(targets)}


TEXT_ONLY: Case = {"name": "lora", "rank": 8, "targets": r".*language_model.*(q_proj|v_proj)"}
FROZEN_TOWER: Case = {"name": "freeze", "trainable": [r"language_model", r"multi_modal_projector", r"lm_head", r"merger"]}
PROJECTOR_ONLY: Case = {"name": "freeze", "trainable": [r"multi_modal_projector", r"merger"]}
LAST_BLOCKS: Case = {"name": "freeze", "trainable": [r"transformer_blocks\.[23]\.", r"proj_out"]}


def _size(name: str) -> Case:
    return SIZES.get(name, {"batch": 3, "seq": 256, "images": 2})


def _methods(name: str) -> tuple[Case, ...]:
    own = (LAST_BLOCKS,) if name in DIFFUSION else (TEXT_ONLY, FROZEN_TOWER, PROJECTOR_ONLY)
    return (_lora(name), ALL, *own)


def _names() -> list[str]:
    return [name for name in CONFIGS if name in VISION_LANGUAGE or denoisers.available()]


def _case(name: str, method: Case | None, **arguments: Any) -> Case:
    return {"config": name, "head": "denoising" if name in DIFFUSION else "causal-lm", "method": method, **arguments}


def parameter_cases() -> Iterator[Case]:
    """Every config with every method."""
    for name in _names():
        for method in (None, *_methods(name)):
            yield _case(name, method)


def flop_cases() -> Iterator[Case]:
    """Every config: full, adapters, frozen parts; checkpointed; eager attention where there is one."""
    for name in _names():
        size = {"attention": "sdpa", "precision": "bf16", **_size(name)}
        for method in (None, *_methods(name)[1:3]):
            yield _case(name, method, **size)
        for method in (None, _lora(name)):
            yield _case(name, method, checkpointing=True, **size)
        if name in VISION_LANGUAGE:
            yield _case(name, None, **{**size, "attention": "eager"})


def memory_cases() -> Iterator[Case]:
    """Every config in full, with checkpointed adapters at the attention, and with adapters everywhere under autocast."""
    for name in _names():
        size = {"attention": "sdpa", **_size(name)}
        yield _case(name, None, precision="bf16", **size)
        yield _case(name, _lora(name), precision="bf16", checkpointing=True, **size)
        yield _case(name, ALL, precision="bf16-autocast", **size)
