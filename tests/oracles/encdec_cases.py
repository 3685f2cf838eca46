"""The recorded cases of encoder-decoders and speech models: which configs, methods, precisions and options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_T5: dict[str, Any] = {
    "d_model": 384, "d_kv": 48, "d_ff": 1024, "num_layers": 3, "num_heads": 8, "vocab_size": 4096, "decoder_start_token_id": 0,
}  # fmt: skip
_BART: dict[str, Any] = {
    "d_model": 384, "encoder_layers": 3, "decoder_layers": 3, "encoder_attention_heads": 6, "decoder_attention_heads": 6,
    "encoder_ffn_dim": 1536, "decoder_ffn_dim": 1536, "max_position_embeddings": 512, "vocab_size": 4096,
    "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2,
    "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0,
}  # fmt: skip
_WHISPER: dict[str, Any] = {
    **_BART,
    "max_source_positions": 300,
    "max_target_positions": 200,
    "num_mel_bins": 40,
    "pad_token_id": 2,
}
_WAVE: dict[str, Any] = {
    "hidden_size": 384, "num_hidden_layers": 3, "num_attention_heads": 6, "intermediate_size": 1536, "conv_dim": [128] * 7,
    "num_conv_pos_embeddings": 32, "num_conv_pos_embedding_groups": 8, "layerdrop": 0.0, "apply_spec_augment": False,
    "num_labels": 5,
}  # fmt: skip

CONFIGS: dict[str, dict[str, Any]] = {
    "t5": {"model_type": "t5", **_T5},
    "t5-gated": {"model_type": "t5", **_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "t5-odd": {
        "model_type": "t5", **_T5, "d_model": 200, "d_kv": 40, "d_ff": 501, "num_layers": 2, "num_decoder_layers": 4,
        "num_heads": 3, "vocab_size": 3001, "relative_attention_num_buckets": 24,
    },
    "mt5": {"model_type": "mt5", **_T5},
    "umt5": {"model_type": "umt5", **_T5},
    "bart": {"model_type": "bart", **_BART},
    "bart-odd": {
        "model_type": "bart", **_BART, "d_model": 210, "encoder_layers": 2, "decoder_layers": 4, "encoder_attention_heads": 5,
        "decoder_attention_heads": 7, "encoder_ffn_dim": 501, "decoder_ffn_dim": 777, "vocab_size": 3001,
        "activation_dropout": 0.1, "attention_dropout": 0.1,
    },
    "mbart": {"model_type": "mbart", **_BART, "scale_embedding": True},
    "plbart": {"model_type": "plbart", **_BART},
    "pegasus": {"model_type": "pegasus", **_BART, "activation_function": "relu"},
    "marian": {"model_type": "marian", **_BART, "activation_function": "swish"},
    "blenderbot": {"model_type": "blenderbot", **_BART},
    "blenderbot-small": {"model_type": "blenderbot-small", **_BART},
    "m2m_100": {"model_type": "m2m_100", **_BART},
    "whisper": {"model_type": "whisper", **_WHISPER},
    "whisper-odd": {"model_type": "whisper", **_WHISPER, "decoder_layers": 2, "encoder_ffn_dim": 501, "num_mel_bins": 33},
    "wav2vec2": {"model_type": "wav2vec2", **_WAVE},
    "wav2vec2-stable": {
        "model_type": "wav2vec2", **_WAVE, "do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True,
    },
    "hubert": {"model_type": "hubert", **_WAVE},
    "unispeech": {"model_type": "unispeech", **_WAVE},
    "unispeech-sat": {"model_type": "unispeech-sat", **_WAVE},
}  # fmt: skip
WAVES = tuple(name for name, config in CONFIGS.items() if "conv_dim" in config)
TARGETS = {name: ["q", "v"] if "t5" in name else ["q_proj", "v_proj"] for name in CONFIGS}
FIRST: dict[str, Any] = {"name": "freeze", "first": 2}
LAST: dict[str, Any] = {"name": "freeze", "last": 2}
BITFIT: dict[str, Any] = {"name": "bitfit"}


def lora(name: str, rank: int = 8) -> dict[str, Any]:
    """LoRA on the attention projections of config `name`."""
    return {"name": "lora", "rank": rank, "targets": TARGETS[name]}


PROMPTED = ("t5", "t5-gated", "bart", "mbart", "pegasus", "umt5", "m2m_100", "marian")
PROMPTS: tuple[dict[str, Any], ...] = (
    {"name": "prompt", "virtual_tokens": 20},
    {"name": "p_tuning", "virtual_tokens": 20, "encoder_hidden": 128},
    {"name": "prefix", "virtual_tokens": 30},
    {"name": "prefix", "virtual_tokens": 20, "projection": True, "encoder_hidden": 128},
)
ALL: dict[str, Any] = {"name": "lora", "rank": 8, "targets": "all-linear"}


def _methods(name: str) -> tuple[dict[str, Any] | None, ...]:
    common = (None, lora(name), ALL, FIRST) if name in WAVES else (None, lora(name), ALL, FIRST, LAST)
    return common if "t5" in name else (*common, BITFIT)


def _case(name: str, head: str | None = None, **arguments: Any) -> dict[str, Any]:
    """A case in the sizes that its model takes. CTC reads its labels' values, which fake tensors have not: waves are classified."""
    if name in WAVES:
        head = head or "audio-classification"
        arguments = {k: v for k, v in arguments.items() if k not in ("seq", "target_len")}
        if "batch" in arguments:
            arguments["audio_seconds"] = 2.0
    elif name.startswith("whisper") and "seq" in arguments:
        arguments = {k: v for k, v in arguments.items() if k != "seq"} | {"target_len": 90}
    return {"config": name, "head": head, **arguments}


def parameter_cases() -> Iterator[dict[str, Any]]:
    """Every config with every method."""
    for name in CONFIGS:
        for method in _methods(name):
            yield _case(name, method=method)
        for method in PROMPTS if name in PROMPTED else ():
            yield _case(name, method=method)
        if name in WAVES:
            for method in (None, ALL):
                yield _case(name, "ctc", method=method)


def flop_cases() -> Iterator[dict[str, Any]]:
    """Every config, with a target of another length than the source; checkpointing where it is planned."""
    size = {"batch": 2, "seq": 96, "target_len": 40}
    for name in CONFIGS:
        for method in (None, ALL, FIRST):
            yield _case(name, method=method, attention="eager", **size)
        yield _case(name, method=None, precision="bf16", attention="sdpa", **size)
        if name not in WAVES:
            method = None if name.startswith("whisper") else lora(name)
            yield _case(name, method=method, precision="bf16", attention="sdpa", checkpointing=True, **size)
        for method in PROMPTS if name in PROMPTED else ():
            yield _case(name, method=method, precision="fp32", attention="eager", **size)


def memory_cases() -> Iterator[dict[str, Any]]:
    """Every config in fp32 or mixed precision, in bf16, and with LoRA; the whole matrix for T5, BART and Whisper."""
    for name in CONFIGS:
        size = {"batch": 3, "seq": 250, "target_len": 70} if name.endswith("odd") else {"batch": 4, "seq": 256}
        yield _case(name, method=None, precision="bf16-mixed", attention="eager", **size)
        yield _case(name, method=lora(name), precision="bf16-autocast", attention="sdpa", **size)
        if name not in WAVES:
            yield _case(name, method=None, precision="bf16", attention="sdpa", checkpointing=True, **size)
    for name in ("t5", "bart", "whisper", "wav2vec2"):
        size = {"batch": 4, "seq": 256}
        yield _case(name, method=None, precision="fp32", attention="eager", **size)
        yield _case(name, method=None, precision="bf16", attention="sdpa", optimizer="adamw-fused", **size)
        yield _case(name, method=FIRST, precision="fp32", attention="sdpa", **size)
        yield _case(name, method=ALL, precision="bf16", attention="sdpa", **size)
    for turn, name in enumerate(PROMPTED[:4]):
        for method in PROMPTS:
            for precision, attention in (("bf16", "sdpa"), ("fp32", "eager"), ("bf16-mixed", "sdpa"))[turn % 3 :][:2]:
                yield _case(name, method=method, precision=precision, attention=attention, batch=4, seq=256, target_len=120)
