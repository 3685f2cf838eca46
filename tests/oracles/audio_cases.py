"""The recorded cases of the audio spectrogram transformer and of Speech2Text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_AST: dict[str, Any] = {
    "model_type": "audio-spectrogram-transformer", "hidden_size": 192, "num_hidden_layers": 3, "num_attention_heads": 3,
    "intermediate_size": 512, "max_length": 256, "num_mel_bins": 64, "num_labels": 7,
}  # fmt: skip
_S2T: dict[str, Any] = {
    "model_type": "speech_to_text", "d_model": 192, "encoder_layers": 3, "decoder_layers": 2, "encoder_ffn_dim": 512,
    "decoder_ffn_dim": 400, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "vocab_size": 1000, "conv_channels": 256,
    "max_source_positions": 400,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "ast": _AST,
    "ast-odd": {
        **_AST, "hidden_size": 120, "patch_size": 12, "frequency_stride": 7, "time_stride": 9, "qkv_bias": False,
        "intermediate_size": 333, "hidden_dropout_prob": 0.1,
    },
    "speech_to_text": _S2T,
    "speech_to_text-odd": {
        **_S2T, "d_model": 120, "encoder_attention_heads": 3, "decoder_attention_heads": 5, "encoder_ffn_dim": 333,
        "conv_kernel_sizes": [5, 3, 3], "num_conv_layers": 3, "conv_channels": 130, "input_feat_per_channel": 40, "scale_embedding": False,
    },
}  # fmt: skip
ALL: dict[str, Any] = {"name": "lora", "rank": 8, "targets": "all-linear"}
FIRST: dict[str, Any] = {"name": "freeze", "first": 1}
BITFIT: dict[str, Any] = {"name": "bitfit"}


def _case(name: str, **arguments: Any) -> dict[str, Any]:
    return {"config": name, "head": "audio-classification" if name.startswith("ast") else None, **arguments}


def _sized(name: str, **arguments: Any) -> dict[str, Any]:
    size = {"batch": 4} if name.startswith("ast") else {"batch": 4, "target_len": 48, "audio_seconds": 3.0}
    return _case(name, **size, **arguments)


def _fused(name: str) -> str:
    return "sdpa" if name.startswith("ast") else "eager"


def parameter_cases() -> Iterator[dict[str, Any]]:
    """Every config in full, with adapters, and with frozen parts; the spectrogram transformer without a head too."""
    for name in CONFIGS:
        for method in (None, ALL, FIRST, BITFIT):
            yield _case(name, method=method)
        if name.startswith("ast"):
            yield {**_case(name, method=None), "head": "none"}


def flop_cases() -> Iterator[dict[str, Any]]:
    """Every config in full, with checkpointed adapters, and with frozen layers."""
    for name in CONFIGS:
        yield _sized(name, method=None, attention="eager")
        yield _sized(name, method=ALL, precision="bf16", attention=_fused(name), checkpointing=True)
        yield _sized(name, method=FIRST, attention="eager")


def memory_cases() -> Iterator[dict[str, Any]]:
    """Every config in full and with adapters, in every precision."""
    for name in CONFIGS:
        yield _sized(name, method=None, precision="fp32", attention="eager")
        yield _sized(name, method=None, precision="bf16", attention=_fused(name))
        yield _sized(name, method=None, precision="bf16-mixed", attention=_fused(name), checkpointing=True)
        yield _sized(name, method=ALL, precision="bf16-autocast", attention=_fused(name))
