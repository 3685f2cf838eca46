"""diffusers' transformers as training scripts run them: precomputed latents and text states in, mean squared error out.

Needs diffusers on the path (any folder: ``PYTHONPATH=...``); the truths that tests read are recorded without it.
Source of the step: diffusers 0.42 examples (train_dreambooth_sd3.py, train_dreambooth_flux.py, and the PixArt and DiT
scripts): text encoders and VAE run before and without gradients, the loss is taken in fp32.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from planner.probe.inputs import INPUTS

COMPRESSION = 8
"""Pixels a side of a latent: that of every VAE used here."""
MAIN_INPUT = "latents"
LEGACY = {"ada_norm_zero": "DiTTransformer2DModel", "ada_norm_single": "PixArtTransformer2DModel"}
"""The class of a published config that says Transformer2DModel."""


def available() -> bool:
    """Whether diffusers is installed."""
    return find_spec("diffusers") is not None


def make(config: Mapping[str, Any], dtype: torch.dtype, compute: torch.dtype) -> nn.Module:
    """The model of a diffusers config, whose forward also takes ``target`` and returns a ``loss``.

    compute: type of latents and text states, as the scripts cast them.
    """
    import diffusers

    base = getattr(diffusers, LEGACY.get(config.get("norm_type", ""), config["_class_name"]))
    values = {key: value for key, value in config.items() if not key.startswith("_")}

    def forward(self: Any, target: torch.Tensor, **inputs: Any) -> Any:
        predicted = base.forward(self, **inputs).sample
        if predicted.shape[1] == 2 * target.shape[1]:  # a learned variance beside the noise
            predicted = predicted.chunk(2, dim=1)[0]
        return SimpleNamespace(loss=functional.mse_loss(predicted.float(), target.float()))

    added = {"forward": forward, "main_input_name": MAIN_INPUT, "compute": compute}
    return type(base.__name__, (base,), added)(**values).to(dtype)  # type: ignore[no-any-return]


def latent_data(model: Any, *, batch: int, head: str, seq: int = 0, image_size: int = 512, **_: Any) -> dict[str, Any]:
    """Noisy latents, time steps, and what the class is conditioned on."""
    config, side, name = model.config, image_size // COMPRESSION, type(model).__name__

    def new(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=model.compute)

    data: dict[str, Any] = {"timestep": torch.zeros(batch)}
    if name == "FluxTransformer2DModel":
        data["hidden_states"] = new(batch, (side // 2) ** 2, config.in_channels)
        data["img_ids"], data["txt_ids"] = new((side // 2) ** 2, 3), new(seq, 3)
        if config.guidance_embeds:
            data["guidance"] = new(batch)
    else:
        data["hidden_states"] = new(batch, config.in_channels, side, side)
    data["target"] = torch.empty_like(data["hidden_states"])
    if name == "DiTTransformer2DModel":
        data["class_labels"] = torch.zeros(batch, dtype=torch.long)
    elif name == "PixArtTransformer2DModel":
        data["encoder_hidden_states"] = new(batch, seq, config.caption_channels)
        data["encoder_attention_mask"] = torch.ones(batch, seq, dtype=torch.long)
        if model.use_additional_conditions:
            data["added_cond_kwargs"] = {"resolution": new(batch, 2), "aspect_ratio": new(batch, 1)}
    else:
        data["encoder_hidden_states"] = new(batch, seq, config.joint_attention_dim)
        data["pooled_projections"] = new(batch, config.pooled_projection_dim)
    return data


INPUTS[MAIN_INPUT] = latent_data
