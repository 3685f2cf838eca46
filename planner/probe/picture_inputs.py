"""Batches of vision-language models: random text with a stretch of image tokens, as many as the model makes of its images."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from planner.errors import PlanError

GRIDDED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
"""Models that take patches of all images in one row, and their grids."""
BOTH_WAYS = ("paligemma", "gemma3")
"""Models that see images in both directions, and so are told in training which tokens are images."""
TOKEN = ("image_token_id", "image_token_index")


def picture_data(
    model: nn.Module, *, batch: int, head: str, seq: int = 0, images: int | None = None, image_size: int | None = None, **_: Any
) -> dict[str, Any]:
    """Tokens, labels and images of each sequence. Pixels are fp32, as image processors hand them out.

    Errors: PlanError when the images' tokens do not fit into the sequence.
    """
    config: Any = model.config
    token = next((getattr(config, name) for name in TOKEN if getattr(config, name, None) is not None), None)
    words = int(config.get_text_config().vocab_size)
    if token is not None and token >= words:
        raise PlanError("model", config.model_type, f"has the image token {token} outside of its {words} words", "Give image_token_id in its config.")
    if token is None:
        raise PlanError("model", config.model_type, "has no image token, which the probe would put into the text", "Probe its language model.")
    pixels = _pixels(config, batch * (1 if images is None else images), image_size)
    each = _features(model, pixels) // batch
    if each > seq:
        raise PlanError("batch.seq_len", seq, f"does not hold the {each} tokens of its images", "Use longer sequences or fewer images.")
    ids = torch.randint(0, words, (batch, seq))
    ids[ids == token] = 0 if token else 1
    ids[:, :each] = token
    data = {"input_ids": ids, "labels": ids.clone(), **pixels}
    if config.model_type in BOTH_WAYS:
        data["token_type_ids"] = (ids == token).long()
    if config.model_type in GRIDDED:
        data["position_ids"] = torch.arange(seq).expand(3, batch, seq)
    return data


def _pixels(config: Any, count: int, image_size: int | None) -> dict[str, Any]:
    vision = config.vision_config
    if config.model_type in GRIDDED:
        side = (image_size or 448) // vision.patch_size
        values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        grid = torch.tensor([[1, side, side]] * count, dtype=torch.long)
        return {"pixel_values": torch.randn((count * side * side, values)), "image_grid_thw": grid}
    if config.model_type in ("llava_next", "llava_onevision"):
        from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

        side, tile = image_size or 2 * vision.image_size, vision.image_size
        tiles = int(image_size_to_num_patches([side, side], config.image_grid_pinpoints, tile))
        return {"pixel_values": torch.randn((count, tiles, 3, tile, tile)), "image_sizes": torch.tensor([[side, side]] * count)}
    size = image_size or vision.image_size
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return {"pixel_values": torch.randn((count, 3, height, width))}


def _features(model: nn.Module, pixels: dict[str, Any]) -> int:
    """Image tokens that the model makes of all its images, asked of the model itself."""
    asked: Any = model.get_image_features
    dtype = next(model.parameters()).dtype
    cast = {name: value.to(dtype) if value.is_floating_point() else value for name, value in pixels.items()}
    with torch.no_grad():
        found: Any = asked(**cast)
    rows = getattr(found, "pooler_output", found)
    parts = rows if isinstance(rows, list | tuple) else [rows]
    return sum(int(part.numel() // part.shape[-1]) for part in parts)
