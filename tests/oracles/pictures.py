"""Batches of vision-language models, and what fake tensors need to run them: they hold no values, and images are merged by value.

Replaced while the model's forward runs: the check that placeholder tokens and image features are equally many,
`masked_scatter` (whose backward selects by value; here it gives a gradient of the features' shape), and the index
helpers of models that pack images of many sizes, which read the grids.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy
import torch
from torch import nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
from transformers import vision_utils
from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

from planner.probe.inputs import INPUTS, Data

KIND = "pictures"
GRIDDED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe")
"""Models that take patches of all images in one row, and their grids (numpy arrays here, which hold values)."""
BOTH_WAYS = ("paligemma", "gemma3")
"""Models that see images in both directions, and so are told in training which tokens are images."""

BY_SEQUENCE = ("idefics3", "smolvlm")
"""Models that take the images of each sequence apart."""


class _Merge(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, embeddings: torch.Tensor, mask: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(mask)
        ctx.shape = features.shape
        return torch.empty_like(embeddings)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        (mask,) = ctx.saved_tensors
        text, _, image = ctx.needs_input_grad
        return gradient.masked_fill(mask, 0) if text else None, None, gradient.new_empty(ctx.shape) if image else None


def _merge(self: torch.Tensor, mask: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    return _Merge.apply(self, mask, source)  # type: ignore[no-any-return,no-untyped-call]


def _outside(name: str, *args: Any, **kwargs: Any) -> Any:
    """What transformers' own helper answers for real tensors, as arrays."""
    kwargs.pop("kwargs", None)
    with unset_fake_temporarily():
        grids = torch.tensor(args[0].tolist())
        made = getattr(vision_utils, name)(grids, *args[1:], **kwargs)
        return tuple(t.numpy().copy() for t in made) if isinstance(made, tuple) else made.numpy().copy()


def _nothing(*_: Any, **__: Any) -> None:
    """In place of a Mock, which would remember its arguments and so keep tensors alive."""


def _lengths(grids: Any, config: Any, *args: Any, **kwargs: Any) -> tuple[Any, None]:
    return _outside("get_vision_cu_seqlens", grids), None


def _windows(grids: Any, **kwargs: Any) -> tuple[torch.Tensor, Any]:
    index, lengths = _outside("get_vision_window_index", grids, **kwargs)
    return torch.empty(index.shape, dtype=torch.long), lengths


def _positions(grids: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    real = _outside("get_vision_position_ids", grids, *args, **kwargs)
    return torch.empty(real.shape, dtype=torch.long)


def _interpolation(grids: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
    index, weights = _outside("get_vision_interpolation_indices_and_weights", grids, **kwargs)
    return torch.empty(index.shape, dtype=torch.long), torch.empty(weights.shape)


class _Added(torch.autograd.Function):
    """`y = x.clone(); y[mask] = y[mask] + features`, with every copy that autograd makes of it but for the values of the mask."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, mask: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        taken, put = (torch.empty((len(features), 2), dtype=torch.long) for _ in range(2))
        ctx.save_for_backward(taken, put)
        ctx.shape = features.shape
        rows = torch.empty_like(features)
        torch.add(rows, features)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        x, _, features = ctx.needs_input_grad
        rows = gradient.new_empty(ctx.shape)
        rest = gradient.clone() if x else None  # of what is written over, set to zero
        spread = gradient.new_zeros(gradient.shape) if x else None  # of the rows that were read
        return rest + spread if x else None, None, rows if features else None  # type: ignore[operator]


def _deep(self: Any, hidden_states: torch.Tensor, visual_pos_masks: torch.Tensor, visual_embeds: torch.Tensor) -> torch.Tensor:
    return _Added.apply(hidden_states, visual_pos_masks, visual_embeds.to(hidden_states.dtype))  # type: ignore[no-any-return,no-untyped-call]


_INDICES: dict[str, Any] = {
    "get_vision_attention_seqlens": _lengths,
    "get_vision_window_index": _windows,
    "get_vision_position_ids": _positions,
    "get_vision_interpolation_indices_and_weights": _interpolation,
    "get_max_seqlen": _nothing,
}


class _Sizes:
    """Heights and widths of images as the models calculate with them, without a tensor that would hold no values."""

    def __init__(self, sizes: numpy.ndarray[Any, Any]) -> None:
        self.sizes = sizes

    def __floordiv__(self, other: int) -> _Sizes:
        return _Sizes(self.sizes // other)

    def prod(self, dim: int) -> numpy.ndarray[Any, Any]:
        return self.sizes.prod(axis=dim)  # type: ignore[no-any-return]


def _tensor(data: Any, *args: Any, **kwargs: Any) -> Any:
    return _Sizes(numpy.array(data)) if isinstance(data, list) else torch.tensor(data, *args, **kwargs)


def _real_images(self: Any, pixel_values: torch.Tensor, pixel_attention_mask: Any = None, **kwargs: Any) -> Any:
    """`get_image_features` of models that leave out padding images: here there are none."""
    count = pixel_values.shape[1]
    pixels = pixel_values.to(dtype=self.dtype)
    pixels = pixels.view(-1, *pixel_values.shape[2:]).clone()
    side = self.config.vision_config.patch_size
    mask = torch.ones((len(pixels), pixels.shape[2] // side, pixels.shape[3] // side), dtype=torch.bool)
    made = self.vision_model(pixel_values=pixels, patch_attention_mask=mask, return_dict=True)
    features = self.connector(made.last_hidden_state)
    made.pooler_output = [f.reshape(-1, f.shape[-1]) for f in features.split([count] * (len(pixels) // count))]
    return made


def _no_mask(*, config: Any, inputs_embeds: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> torch.Tensor | None:
    """What transformers makes of a mask full of ones, which it cannot see in a fake one."""
    if config._attn_implementation != "eager":
        return None
    count, length = attention_mask.shape
    return torch.zeros((count, 1, length, length), dtype=inputs_embeds.dtype)


@contextlib.contextmanager
def without_values(module: Any) -> Iterator[None]:
    """Within the block, the modeling file `module` merges images without reading values."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(torch.Tensor, "masked_scatter", _merge))
        if hasattr(module, "torch_compilable_check"):
            stack.enter_context(mock.patch.object(module, "torch_compilable_check", _nothing))
        for name, replaced in _INDICES.items():
            if hasattr(module, name):
                stack.enter_context(mock.patch.object(module, name, replaced))
        if hasattr(module, "Idefics3Model") or hasattr(module, "SmolVLMModel"):
            model = getattr(module, "Idefics3Model", None) or module.SmolVLMModel
            stack.enter_context(mock.patch.object(model, "get_image_features", _real_images))
            stack.enter_context(mock.patch.object(module, "create_bidirectional_mask", _no_mask))
        if hasattr(module, "Mistral3Model"):
            stack.enter_context(mock.patch.object(torch, "as_tensor", _tensor))
        for text in (value for name, value in vars(module).items() if name.endswith("TextModel")):
            if hasattr(text, "_deepstack_process"):
                stack.enter_context(mock.patch.object(text, "_deepstack_process", _deep))
        yield


def prepare(model: nn.Module) -> None:
    """Let a vision-language model run on fake tensors, and take `picture_data`."""
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
    forward, module = base.forward, sys.modules[type(base).__module__]

    def run(*args: Any, **kwargs: Any) -> Any:
        with without_values(module):
            return forward(*args, **kwargs)

    base.forward, base.batch_kind = run, KIND


def picture_data(
    model: Any, *, batch: int, head: str, seq: int = 0, images: int = 1, image_size: int | None = None, **_: Any
) -> Data:
    """Tokens, labels and images of each sequence. Pixels are fp32, as image processors hand them out."""
    config = model.config
    vision = config.vision_config
    ids = torch.randint(0, config.get_text_config().vocab_size, (batch, seq))
    data: dict[str, Any] = {"input_ids": ids, "labels": torch.empty_like(ids)}
    if config.model_type in BOTH_WAYS:
        data["token_type_ids"] = torch.empty_like(ids)
    if config.model_type in GRIDDED:
        count, side = batch * images, (image_size or 448) // vision.patch_size
        values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        data["pixel_values"] = torch.empty((count * side * side, values))
        data["position_ids"] = torch.empty((3, batch, seq), dtype=torch.long)  # the model makes them of the tokens' types
        data["image_grid_thw"] = numpy.array([[1, side, side]] * count)
        return data
    if config.model_type == "llava_next":
        side, tile = image_size or 2 * vision.image_size, vision.image_size
        tiles = image_size_to_num_patches([side, side], config.image_grid_pinpoints, tile)
        data["pixel_values"] = torch.empty((batch * images, tiles, 3, tile, tile))
        data["image_sizes"] = [[side, side]] * (batch * images)
        return data
    size = image_size or vision.image_size
    height, width = size if isinstance(size, list | tuple) else (size, size)
    if config.model_type in BY_SEQUENCE:
        data["pixel_values"] = torch.empty((batch, images, 3, height, width))
        return data
    data["pixel_values"] = torch.empty((batch * images, 3, height, width))
    if config.model_type == "mistral3":
        data["image_sizes"] = [[height, width]] * (batch * images)
    return data


INPUTS[KIND] = picture_data
