"""Inputs of vision models: images (or videos) and labels, and the stand-in losses of models whose own loss needs values."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

VIDEO = ("videomae", "vivit")
UNCAST = ("yolos", "videomae", "vivit", "beit", "swin", "detr")
"""Models that take pixels in the type of their weights only."""
FREE = ("dinov2", "dinov2_with_registers", "dinov3_vit", "yolos", "detr", "beit", "swin")
"""Models that take images of any size without being asked."""


def constructor(config: Any, head: str | None) -> tuple[Any, Callable[..., nn.Module]] | None:
    """Config and constructor of a head that no auto class gives: DeiT has two, videos have one of their own."""
    import transformers

    kind = config.model_type
    if head != "image-classification":
        return None
    if kind in VIDEO:
        return config, transformers.AutoModelForVideoClassification.from_config
    if kind == "deit":
        return config, transformers.DeiTForImageClassification._from_config
    if kind != "clip_vision_model":
        return None
    whole: Any = transformers.CLIPConfig
    outer = whole(vision_config=config.to_dict(), num_labels=config.num_labels)
    return outer, transformers.CLIPForImageClassification._from_config


def pixel_data(
    model: nn.Module, *, batch: int, head: str, seq: int | None = None, image_size: int | None = None
) -> dict[str, torch.Tensor]:
    """Images as an image processor hands them out (fp32), videos too, and what the head expects beside them.

    `model.forward` is made to return the loss that training computes: with `return_loss`, with interpolated positions
    where `image_size` is not the config's, and as a mean where matching needs values or there is no loss.
    """
    outer: Any = model.config
    config = getattr(outer, "vision_config", outer)
    own = getattr(config, "image_size", 224)
    sides = own if image_size is None else image_size
    height, width = sides if isinstance(sides, list | tuple) else (sides, sides)
    frames = (config.num_frames,) if config.model_type in VIDEO else ()
    dtype = next(model.parameters()).dtype if config.model_type in UNCAST else torch.float32
    shape = (batch, *frames, getattr(config, "num_channels", 3), height, width)
    data = {"pixel_values": torch.randn(shape, dtype=dtype)}
    extra: dict[str, Any] = {}
    if head == "image-classification":
        data["labels"] = torch.zeros(batch, dtype=torch.long)
    if head == "contrastive":
        data["input_ids"] = torch.zeros((batch, seq or 0), dtype=torch.long)
        extra["return_loss"] = True
    if sides != own and config.model_type not in FREE:
        extra["interpolate_pos_encoding"] = True
    forward = model.forward

    def run(*args: Any, **kwargs: Any) -> Any:
        out = forward(*args, **kwargs, **extra)
        if head == "object-detection":
            return SimpleNamespace(loss=out.logits.float().mean() + out.pred_boxes.float().mean())
        if head == "none":
            pooled = getattr(out, "pooler_output", None)
            return SimpleNamespace(loss=(out.last_hidden_state if pooled is None else pooled).mean())
        return out

    model.forward = run
    return data
