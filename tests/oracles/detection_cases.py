"""The recorded cases of detectors on a convolutional backbone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_BACKBONE: dict[str, Any] = {
    "model_type": "resnet", "embedding_size": 32, "hidden_sizes": [64, 128, 192, 256], "depths": [2, 1, 2, 1], "out_features": ["stage4"],
}  # fmt: skip
_DETR: dict[str, Any] = {
    "model_type": "detr", "d_model": 128, "encoder_layers": 3, "decoder_layers": 3, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 512, "decoder_ffn_dim": 512, "num_queries": 40, "num_labels": 10,
    "backbone_config": _BACKBONE,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "detr": _DETR,
    "detr-odd": {
        **_DETR, "d_model": 120, "encoder_layers": 2, "decoder_layers": 4, "encoder_attention_heads": 3, "decoder_attention_heads": 5,
        "encoder_ffn_dim": 301, "decoder_ffn_dim": 217, "num_queries": 33, "num_channels": 4, "position_embedding_type": "learned",
        "backbone_config": {
            "model_type": "resnet", "num_channels": 4, "embedding_size": 24, "hidden_sizes": [40, 60], "depths": [1, 2],
            "out_features": ["stage2"], "layer_type": "basic", "downsample_in_first_stage": True,
        },
    },
    "detr-reducing": {
        **_DETR, "dropout": 0.0, "attention_dropout": 0.1, "activation_function": "gelu",
        "backbone_config": {**_BACKBONE, "downsample_in_bottleneck": True},
    },
}  # fmt: skip
LORA: dict[str, Any] = {"name": "lora", "rank": 8, "targets": ["q_proj", "v_proj"]}
ALL: dict[str, Any] = {"name": "lora", "rank": 8, "targets": "all-linear"}
FIRST: dict[str, Any] = {"name": "freeze", "first": 1}
HEADS: dict[str, Any] = {"name": "freeze", "trainable": ["class_labels_classifier", "bbox_predictor"]}


def _case(name: str, method: dict[str, Any] | None, head: str = "object-detection", **arguments: Any) -> dict[str, Any]:
    return {"config": name, "head": head, "method": method, **arguments}


def parameter_cases() -> Iterator[dict[str, Any]]:
    """Every config with every method, and the model without its heads."""
    for name in CONFIGS:
        for method in (None, LORA, ALL, {"name": "bitfit"}, FIRST, HEADS):
            yield _case(name, method)
        yield _case(name, None, "none")


def flop_cases() -> Iterator[dict[str, Any]]:
    """Every config in full, with checkpointed adapters, and with frozen parts; images whose sides the strides do not divide."""
    for name in CONFIGS:
        for method in (None, ALL, FIRST, HEADS):
            yield _case(name, method, batch=4, image_size=256, attention="sdpa", precision="bf16", checkpointing=method is ALL)
            yield _case(name, method, batch=3, image_size=230, attention="eager")


def memory_cases() -> Iterator[dict[str, Any]]:
    """Every config in full and with adapters, in every precision, by both kernels of attention."""
    for name in CONFIGS:
        for precision in ("fp32", "bf16", "bf16-mixed"):
            for method in (None, LORA):
                for attention in ("sdpa", "eager"):
                    yield _case(name, method, batch=8, image_size=256, attention=attention, precision=precision)
        for method in (None, LORA):
            yield _case(name, method, batch=8, image_size=256, attention="sdpa", precision="bf16", checkpointing=True)
