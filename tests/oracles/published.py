"""Shapes of well-known checkpoints, as their config.json states them, for parameter counts at real size."""

from __future__ import annotations

from typing import Any


def _llama(hidden: int, inner: int, layers: int, heads: int, groups: int, vocab: int, **more: Any) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "vocab_size": vocab,
        **more,
    }


def _as(model_type: str, config: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**config, "model_type": model_type, **more}


def _gpt2(hidden: int, layers: int, heads: int) -> dict[str, Any]:
    return {"model_type": "gpt2", "n_embd": hidden, "n_layer": layers, "n_head": heads, "vocab_size": 50257}


def _opt(hidden: int, layers: int, heads: int, projected: int | None = None) -> dict[str, Any]:
    return {
        "model_type": "opt",
        "hidden_size": hidden,
        "ffn_dim": 4 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "word_embed_proj_dim": projected or hidden,
        "vocab_size": 50272,
        "max_position_embeddings": 2048,
        "do_layer_norm_before": projected is None,
    }


def _neox(hidden: int, layers: int, heads: int, vocab: int) -> dict[str, Any]:
    return {
        "model_type": "gpt_neox",
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": vocab,
    }


def _bert(model_type: str, hidden: int, layers: int, heads: int, vocab: int, positions: int) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "vocab_size": vocab,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "max_position_embeddings": positions,
        "type_vocab_size": 1 if model_type == "roberta" else 2,
    }


PUBLISHED: dict[str, dict[str, Any]] = {
    "openai-community/gpt2": _gpt2(768, 12, 12),
    "openai-community/gpt2-xl": _gpt2(1600, 48, 25),
    "facebook/opt-125m": _opt(768, 12, 12),
    "facebook/opt-350m": _opt(1024, 24, 16, 512),
    "facebook/opt-1.3b": _opt(2048, 24, 32),
    "facebook/opt-6.7b": _opt(4096, 32, 32),
    "EleutherAI/pythia-160m": _neox(768, 12, 12, 50304),
    "EleutherAI/pythia-6.9b": _neox(4096, 32, 32, 50432),
    "EleutherAI/gpt-neox-20b": _neox(6144, 44, 64, 50432),
    "TinyLlama/TinyLlama-1.1B": _llama(2048, 5632, 22, 32, 4, 32000),
    "meta-llama/Llama-2-7b-hf": _llama(4096, 11008, 32, 32, 32, 32000),
    "meta-llama/Llama-2-70b-hf": _llama(8192, 28672, 80, 64, 8, 32000),
    "meta-llama/Llama-3.1-8B": _llama(4096, 14336, 32, 32, 8, 128256),
    "meta-llama/Llama-3.2-1B": _llama(2048, 8192, 16, 32, 8, 128256, head_dim=64, tie_word_embeddings=True),
    "meta-llama/Llama-3.1-405B": _llama(16384, 53248, 126, 128, 8, 128256),
    "mistralai/Mistral-7B-v0.1": _as("mistral", _llama(4096, 14336, 32, 32, 8, 32000)),
    "Qwen/Qwen2.5-0.5B": _as("qwen2", _llama(896, 4864, 24, 14, 2, 151936), tie_word_embeddings=True),
    "Qwen/Qwen2.5-7B": _as("qwen2", _llama(3584, 18944, 28, 28, 4, 152064)),
    "Qwen/Qwen3-0.6B": _as("qwen3", _llama(1024, 3072, 28, 16, 8, 151936), head_dim=128, tie_word_embeddings=True),
    "Qwen/Qwen3-8B": _as("qwen3", _llama(4096, 12288, 36, 32, 8, 151936), head_dim=128),
    "google/gemma-2b": _as("gemma", _llama(2048, 16384, 18, 8, 1, 256000), head_dim=256),
    "google/gemma-7b": _as("gemma", _llama(3072, 24576, 28, 16, 16, 256000), head_dim=256),
    "google/gemma-2-9b": _as("gemma2", _llama(3584, 14336, 42, 16, 8, 256000), head_dim=256),
    "microsoft/phi-2": {
        "model_type": "phi",
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 51200,
        "partial_rotary_factor": 0.4,
    },
    "microsoft/Phi-3-mini-4k-instruct": _as("phi3", _llama(3072, 8192, 32, 32, 32, 32064)),
    "allenai/OLMo-2-1124-7B": _as("olmo2", _llama(4096, 11008, 32, 32, 32, 100352)),
    "google-bert/bert-base-uncased": _bert("bert", 768, 12, 12, 30522, 512),
    "google-bert/bert-large-uncased": _bert("bert", 1024, 24, 16, 30522, 512),
    "FacebookAI/roberta-base": _bert("roberta", 768, 12, 12, 50265, 514),
}
