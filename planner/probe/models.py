"""The real transformers (and peft) model of a run, from its configuration alone: random weights, nothing downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from planner.probe import layer_methods, reft, sequence_methods, vision_inputs
from planner.probe.freezing import freeze

HEADS = {
    "causal-lm": "AutoModelForCausalLM",
    "sequence-classification": "AutoModelForSequenceClassification",
    "masked-lm": "AutoModelForMaskedLM",
    "none": "AutoModel",
    "ctc": "AutoModelForCTC",
    "audio-classification": "AutoModelForAudioClassification",
    "image-classification": "AutoModelForImageClassification",
    "object-detection": "AutoModelForObjectDetection",
    "contrastive": "AutoModel",
}
HEAD_ONLY = (r"^score\.", r"^classifier\.", r"^lm_head\.", r"^embed_out\.", r"^proj_out\.")
"""Parameters of output heads that are layers of their own."""
DECODERS = {"input_ids": "AutoModelForSeq2SeqLM", "input_features": "AutoModelForSpeechSeq2Seq"}
"""The language model over a decoder with cross-attention, by what the encoder takes; its head is `causal-lm` too."""


def multimodal(config: Mapping[str, Any]) -> bool:
    """Whether a config mapping is that of a vision-language model."""
    return "vision_config" in config and config.get("model_type") not in ("clip", "siglip", "siglip2")


def base_model(config: Mapping[str, Any], head: str, dtype: torch.dtype, attention: str) -> nn.Module:
    """The model without a method, on torch's current default device.

    Arguments
    ---------
    config: what a Hugging Face ``config.json`` holds, ``model_type`` included.
    head: a name of `HEADS`.
    dtype: of the stored weights.
    attention: ``eager``, ``sdpa`` or another name of transformers' ``attn_implementation``.
    """
    import transformers

    values = dict(config)
    auto_config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    auto_class = getattr(transformers, HEADS[head])
    if head == "causal-lm" and auto_config.is_encoder_decoder:
        speech = hasattr(auto_config, "max_source_positions")
        auto_class = getattr(transformers, DECODERS["input_features" if speech else "input_ids"])
    if multimodal(config):
        auto_class = transformers.AutoModelForImageTextToText
    if hasattr(auto_config, "use_cache"):
        auto_config.use_cache = False
    if auto_config.is_encoder_decoder and getattr(auto_config, "decoder_start_token_id", None) is None:
        auto_config.decoder_start_token_id = getattr(auto_config, "pad_token_id", None) or 0  # targets are shifted behind it
    own = vision_inputs.constructor(auto_config, head)
    auto_config, make_model = own or (auto_config, auto_class.from_config)
    # a convolutional backbone has no attention, and refuses to be asked for sdpa
    kernels: Any = {"": attention, "backbone_config": "eager"} if config.get("backbone_config") else attention
    model: nn.Module = make_model(auto_config, dtype=dtype, attn_implementation=kernels)
    return model


def apply_method(model: nn.Module, method: Mapping[str, Any] | None, head: str | None = None) -> nn.Module:
    """Make exactly the parameters of `method` trainable: through peft where it has the method, else by requires_grad.

    `method` has the fields of a run's method. Raises ValueError for a method that neither knows.
    """
    name = "full" if method is None else method["name"]
    if method is None or name in ("full", "galore"):  # GaLore's optimizer does everything
        return model
    if name == "reft":
        return reft.apply(model, method)
    if name in sequence_methods.NAMES:
        return sequence_methods.apply(model, method, head)
    if name in layer_methods.NAMES:
        return layer_methods.apply(model, method, head)
    return freeze(model, {"name": "freeze", "trainable": HEAD_ONLY} if name == "head" else method)


def checkpoint(model: nn.Module, every: int = 1) -> None:
    """Recompute every block in backward, or one in `every`, as the Trainer asks for it (which means use_reentrant=False)."""
    enable: Any = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable(**({} if every == 1 else {"every_n_layers": every}))
