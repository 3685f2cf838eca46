"""The recorded cases of vision models: small configs, every kind of training, every precision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_SMALL: dict[str, Any] = {
    "hidden_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
    "image_size": 112,
    "patch_size": 16,
}
_CLASSES: dict[str, Any] = {**_SMALL, "num_labels": 10}
_TEXT: dict[str, Any] = {
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "intermediate_size": 768,
    "vocab_size": 2003,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
_ODD: dict[str, Any] = {
    "hidden_size": 264,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "intermediate_size": 777,
    "image_size": [90, 118],
    "patch_size": [9, 14],
    "num_channels": 4,
    "num_labels": 7,
}

CONFIGS: dict[str, dict[str, Any]] = {
    **{name: {"model_type": name, **_CLASSES} for name in ("vit", "deit", "vit_msn", "ijepa", "dinov2")},
    "vit-odd": {"model_type": "vit", **_ODD, "qkv_bias": False, "hidden_act": "gelu_fast"},
    "vit-dropout": {"model_type": "vit", **_CLASSES, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    "dinov2-swiglu": {"model_type": "dinov2", **_CLASSES, "use_swiglu_ffn": True, "drop_path_rate": 0.1},
    "dinov2_with_registers": {"model_type": "dinov2_with_registers", **_CLASSES},
    "dinov3_vit": {"model_type": "dinov3_vit", **_SMALL, "num_register_tokens": 4},
    "dinov3-gated": {"model_type": "dinov3_vit", **_SMALL, "use_gated_mlp": True, "drop_path_rate": 0.1},
    "beit": {"model_type": "beit", **_CLASSES, "use_relative_position_bias": True},
    "beit-shared": {
        "model_type": "beit",
        **_CLASSES,
        "use_shared_relative_position_bias": True,
        "use_absolute_position_embeddings": True,
        "use_mean_pooling": False,
        "use_mask_token": True,
    },
    "yolos": {"model_type": "yolos", **_CLASSES, "image_size": [96, 128], "num_detection_tokens": 30},
    "videomae": {"model_type": "videomae", **_CLASSES, "num_frames": 8},
    "vivit": {"model_type": "vivit", **_CLASSES, "num_frames": 8, "tubelet_size": [2, 16, 16]},
    "clip_vision_model": {"model_type": "clip_vision_model", **_CLASSES},
    "siglip_vision_model": {"model_type": "siglip_vision_model", **_SMALL},
    "clip": {"model_type": "clip", "vision_config": _SMALL, "text_config": _TEXT, "projection_dim": 160},
    "siglip": {
        "model_type": "siglip",
        "vision_config": _SMALL,
        "text_config": {**_TEXT, "projection_size": _SMALL["hidden_size"]},
    },
    "swin": {
        "model_type": "swin",
        "image_size": 112,
        "embed_dim": 64,
        "depths": [2, 3],
        "num_heads": [2, 4],
        "num_labels": 10,
    },
    "swin-odd": {
        "model_type": "swin",
        "image_size": 90,
        "embed_dim": 48,
        "depths": [2, 1, 2],
        "num_heads": [2, 3, 4],
        "window_size": 5,
        "num_labels": 10,
        "drop_path_rate": 0.0,
        "qkv_bias": False,
        "mlp_ratio": 3.0,
    },
}
HEADS = {
    **dict.fromkeys(("dinov3_vit", "dinov3-gated", "siglip_vision_model"), "none"),
    "yolos": "object-detection",
    **dict.fromkeys(("clip", "siglip"), "contrastive"),
}
OLD_NAMES = ("yolos", "videomae")
"""Models whose linear layers have BERT's names."""
UNCHECKPOINTED = ("swin", "swin-odd")
"""Models that transformers checkpoints in two nested levels, which the engine refuses."""
BITFIT: dict[str, Any] = {"name": "bitfit"}
ALL: dict[str, Any] = {"name": "lora", "rank": 8, "targets": "all-linear"}


def lora(name: str, rank: int = 8) -> dict[str, Any]:
    """LoRA on queries and values."""
    return {"name": "lora", "rank": rank, "targets": ["query", "value"] if name in OLD_NAMES else ["q_proj", "v_proj"]}


def head_only(name: str) -> dict[str, Any]:
    """A linear probe: the head is trained, the rest is frozen."""
    head = HEADS.get(name, "image-classification")
    patterns = {
        "image-classification": [r"^classifier\."],
        "object-detection": ["class_labels_classifier", "bbox_predictor"],
        "contrastive": ["projection", r"text_model\.head"],
        "none": [r"^norm\.", r"^head\.", "post_layernorm"],
    }
    return {"name": "freeze", "trainable": patterns[head]}


def first(name: str) -> dict[str, Any]:
    """The first layers (of Swin: stages) frozen. The oracle would take the layers of YOLOS's heads for blocks."""
    if name == "yolos":
        return {"name": "freeze", "trainable": [r"encoder\.layer\.[12]\.", r"vit\.layernorm", "classifier", "predictor"]}
    return {"name": "freeze", "first": 1 if name in UNCHECKPOINTED else 2}


def _case(name: str, **arguments: Any) -> dict[str, Any]:
    return {"config": name, "head": HEADS.get(name, "image-classification"), **arguments}


def _size(name: str) -> dict[str, Any]:
    if HEADS.get(name) == "contrastive":
        return {"batch": 16, "seq": 64}
    return {"batch": 4 if name in ("videomae", "vivit", *UNCHECKPOINTED) else 16}


def parameter_cases() -> Iterator[dict[str, Any]]:
    """Every config with every method, and the models without a head."""
    for name in CONFIGS:
        for method in (None, lora(name), lora(name, 64), ALL, head_only(name), first(name), BITFIT):
            yield _case(name, method=method)
        if HEADS.get(name, "image-classification") == "image-classification":
            yield _case(name, method={**lora(name), "modules_to_save": ["classifier"]})
            yield {**_case(name, method=None), "head": "none"}


def flop_cases() -> Iterator[dict[str, Any]]:
    """Every config in full and under checkpointing with adapters everywhere; the other methods take turns."""
    for number, name in enumerate(CONFIGS):
        size = _size(name)
        yield _case(name, method=None, attention="eager", **size)
        checkpointing = name not in UNCHECKPOINTED
        yield _case(name, method=ALL, precision="bf16", attention="sdpa", checkpointing=checkpointing, **size)
        turns = (lora(name), head_only(name), first(name), BITFIT)
        yield _case(name, method=turns[number % 4], attention="eager", **size)
    for name, image_size in (("vit", 160), ("dinov2", 140), ("clip_vision_model", 160), ("beit", 96), ("swin", 120)):
        yield _case(name, method=None, attention="eager", image_size=image_size, batch=4)


def memory_cases() -> Iterator[dict[str, Any]]:
    """Every config in full at two precisions and with adapters, checkpointed where it can be; the other settings take turns."""
    for number, name in enumerate(CONFIGS):
        size, checkpointing = _size(name), name not in UNCHECKPOINTED
        yield _case(name, method=None, precision="fp32", attention="eager", **size)
        yield _case(
            name, method=None, precision="bf16-mixed", attention="sdpa", checkpointing=checkpointing, **size
        )
        yield _case(
            name, method=lora(name), precision="bf16", attention="sdpa", checkpointing=checkpointing, **size
        )
        turns: tuple[dict[str, Any], ...] = (
            {"method": None, "precision": "bf16", "optimizer": "adamw-fused"},
            {"method": ALL, "precision": "bf16"},
            {"method": head_only(name), "precision": "bf16"},
            {"method": first(name), "precision": "fp32"},
            {"method": BITFIT, "precision": "bf16-mixed"},
            {"method": lora(name), "precision": "bf16-autocast"},
        )
        yield _case(name, attention="sdpa", **turns[number % len(turns)], **size)
    for name in ("vit", "dinov2", "beit"):
        yield _case(name, method=None, precision="bf16", attention="sdpa", image_size=160, batch=8)
        saved = {**lora(name), "modules_to_save": ["classifier"]}
        yield _case(name, method=saved, precision="bf16-mixed", attention="sdpa", batch=16)
