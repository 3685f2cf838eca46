"""Inputs of vision models: images (or videos) and labels, and the stand-in losses of models whose own loss needs values."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

VIDEO = ("videomae", "vivit")
UNCAST = ("yolos", "videomae")
"""Models that take pixels in the type of their weights only."""
HEADS = ("image-classification", "object-detection", "contrastive")


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
    whole = {"clip_vision_model": "CLIP", "siglip_vision_model": "Siglip"}.get(kind)
    if whole is None:
        return None
    outer = getattr(transformers, whole + "Config")(vision_config=config.to_dict(), num_labels=config.num_labels)
    return outer, getattr(transformers, whole + "ForImageClassification")._from_config


def images(config: Any, batch: int, size: int | None, weights: torch.dtype, device: str) -> torch.Tensor:
    """Pixels as an image processor hands them out: fp32."""
    config = getattr(config, "vision_config", config)
    sides = size if size is not None else getattr(config, "image_size", 224)
    height, width = sides if isinstance(sides, list | tuple) else (sides, sides)
    channels = getattr(config, "num_channels", 3)
    frames = (config.num_frames,) if config.model_type in VIDEO else ()
    dtype = weights if config.model_type in UNCAST else torch.float32
    return torch.empty((batch, *frames, channels, height, width), dtype=dtype, device=device)


def vision(
    model: nn.Module, *, batch: int, seq: int | None, head: str | None, image_size: int | None, device: str
) -> dict[str, torch.Tensor]:
    """One batch of a vision model, or of a model of images and text."""
    config: Any = model.config
    data = {"pixel_values": images(config, batch, image_size, next(model.parameters()).dtype, device)}
    if head == "image-classification":
        data["labels"] = torch.zeros(batch, dtype=torch.long, device=device)
    elif head == "contrastive":
        assert seq is not None
        data["input_ids"] = torch.zeros((batch, seq), dtype=torch.long, device=device)
    return data


def prepare(model: nn.Module, head: str | None, image_size: int | None) -> None:
    """Make `model(**data).loss` what training would compute, or a mean where matching needs values."""
    forward = model.forward
    extra: dict[str, Any] = {}
    config: Any = model.config
    own = getattr(getattr(config, "vision_config", config), "image_size", None)
    if image_size is not None and image_size != own and "dino" not in config.model_type:
        extra["interpolate_pos_encoding"] = True
    if head == "contrastive":
        extra["return_loss"] = True

    def run(*args: Any, **kwargs: Any) -> Any:
        out = forward(*args, **kwargs, **extra)
        if head == "object-detection":
            return SimpleNamespace(loss=out.logits.float().mean() + out.pred_boxes.float().mean())
        return out

    model.forward = run
