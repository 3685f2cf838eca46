"""One batch for the real model of a run, by what the model takes: `config.main_input_name`.

A kind of input is one function in `INPUTS`. It gets the model and the sizes of the batch and returns the tensors of a
batch, labels included. Sizes beside batch and seq are those of a run's batch: target_len, audio_seconds, image_size ….
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from planner.probe.picture_inputs import picture_data
from planner.probe.vision_inputs import pixel_data

Data = dict[str, torch.Tensor]
FRAMES = 100
"""Mel frames in a second of sound."""
RATE = 16_000
"""Samples of sound in a second, as every speech model here takes them."""


def token_data(model: nn.Module, *, batch: int, head: str, seq: int, padding: bool = False, **sizes: Any) -> Data:
    """Token ids and the labels that the head expects; with `padding` also an attention mask.

    Without a mask, or with one full of ones, transformers builds none for sdpa. Fake masks hold no values, so
    transformers takes `padding` as a batch in which something is padded, as variable-length data is.
    """
    ids = torch.randint(0, _vocabulary(model), (batch, seq))
    data = {"input_ids": ids, "labels": label_data(model, batch=batch, head=head, seq=seq, **sizes)}
    if padding:
        data["attention_mask"] = torch.ones_like(ids)
    return data


def label_data(
    model: nn.Module, *, batch: int, head: str, seq: int | None, target_len: int | None = None, **_: Any
) -> torch.Tensor:
    """Labels: one class a sample, or tokens of the target (as long as the source when `target_len` is not given)."""
    if head.endswith("-classification"):
        return torch.zeros(batch, dtype=torch.long)
    length = target_len or seq
    assert length is not None
    return torch.randint(0, _vocabulary(model), (batch, length))


def _vocabulary(model: nn.Module) -> int:
    config: Any = model.config
    return int(config.get_text_config().vocab_size)


def mel_data(model: nn.Module, *, batch: int, head: str, **sizes: Any) -> Data:
    """Log-mel spectrograms: of Whisper's fixed window, two frames a position, as `num_mel_bins` × frames; or of any length, as frames × bins."""
    config: Any = model.config
    if hasattr(config, "input_feat_per_channel"):
        frames, bins = round(sizes.pop("audio_seconds", 10.0) * FRAMES), config.input_feat_per_channel * config.input_channels
        mel = torch.randn((batch, frames, bins), dtype=_float(model))
        return {"input_features": mel, "labels": label_data(model, batch=batch, head=head, **{"seq": None, **sizes})}
    features = torch.randn((batch, config.num_mel_bins, 2 * config.max_source_positions), dtype=_float(model))
    return {"input_features": features, "labels": label_data(model, batch=batch, head=head, **{"seq": None, **sizes})}


def wave_data(model: nn.Module, *, batch: int, head: str, audio_seconds: float = 10.0, **sizes: Any) -> Data:
    """Sound waves, and a class or some characters as labels."""
    values = torch.randn((batch, round(audio_seconds * RATE)), dtype=_float(model))
    return {"input_values": values, "labels": label_data(model, batch=batch, head=head, **{"seq": 16, **sizes})}


def spectrogram_data(model: nn.Module, *, batch: int, head: str, **sizes: Any) -> Data:
    """Mel spectrograms of a fixed length, and a class."""
    config: Any = model.config
    values = torch.randn((batch, config.max_length, config.num_mel_bins), dtype=_float(model))
    return {"input_values": values, "labels": label_data(model, batch=batch, head=head, **{"seq": None, **sizes})}


def _float(model: nn.Module) -> torch.dtype:
    return next(p.dtype for p in model.parameters() if p.is_floating_point())


INPUTS: dict[str, Callable[..., Data]] = {
    "input_ids": token_data,
    "input_features": mel_data,
    "input_values": wave_data,
    "pixel_values": pixel_data,
    "spectrogram": spectrogram_data,
    "images_and_text": picture_data,
}


def make(
    model: nn.Module, *, batch: int, head: str | None = None, device: str = "cpu", **sizes: Any
) -> Mapping[str, torch.Tensor]:
    """One batch of the kind that the model takes."""
    base: Any = getattr(model, "get_base_model", None)
    inner: Any = base() if callable(base) else model
    with torch.device(device):
        usual = "images_and_text" if head == "causal-lm" and hasattr(inner.config, "vision_config") else inner.main_input_name
        if usual == "input_values" and hasattr(inner.config, "num_mel_bins"):
            usual = "spectrogram"
        kind = "pixel_values" if head == "contrastive" else getattr(inner, "batch_kind", usual)
        return INPUTS[kind](inner, batch=batch, head=head or "causal-lm", **sizes)
