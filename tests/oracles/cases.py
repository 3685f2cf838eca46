"""The recorded cases: which configs, methods, precisions and options the truths are taken for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_WIDE: dict[str, Any] = {
    "hidden_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "vocab_size": 8192,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
}
_TOKENS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_GATED: dict[str, Any] = {**_WIDE, "intermediate_size": 1376, "num_key_value_heads": 2}

_EXPERTS: dict[str, Any] = {"num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 192}
_ODD: dict[str, Any] = {
    "hidden_size": 360,
    "num_hidden_layers": 3,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1001,
    "vocab_size": 5003,
}

CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {"model_type": "gpt2", "n_embd": 512, "n_layer": 4, "n_head": 8, "vocab_size": 8192, **_TOKENS},
    "opt": {"model_type": "opt", **_WIDE, "ffn_dim": 2048, "word_embed_proj_dim": 512},
    "gpt_neox": {"model_type": "gpt_neox", **_WIDE, "intermediate_size": 2048},
    "llama": {"model_type": "llama", **_GATED},
    "llama-tied": {"model_type": "llama", **_GATED, "num_key_value_heads": 8, "tie_word_embeddings": True},
    "llama-biased": {"model_type": "llama", **_GATED, "attention_bias": True, "mlp_bias": True},
    "mistral": {"model_type": "mistral", **_GATED, "sliding_window": None},
    "qwen2": {"model_type": "qwen2", **_GATED},
    "qwen3": {"model_type": "qwen3", **_GATED, "head_dim": 96},
    "gemma": {"model_type": "gemma", **_GATED, "num_key_value_heads": 1, "head_dim": 128},
    "gemma2": {"model_type": "gemma2", **_GATED, "head_dim": 96, "query_pre_attn_scalar": 96},
    "phi": {"model_type": "phi", **_WIDE, "intermediate_size": 2048},
    "phi3": {"model_type": "phi3", **_GATED, **_TOKENS},
    "olmo2": {"model_type": "olmo2", **_GATED, "num_key_value_heads": 8},
    "bert": {"model_type": "bert", **_WIDE, "intermediate_size": 2048, "num_labels": 3},
    "roberta": {"model_type": "roberta", **_WIDE, "intermediate_size": 2048, "num_labels": 3},
    "starcoder2": {"model_type": "starcoder2", **_GATED, **_TOKENS},
    "nemotron": {"model_type": "nemotron", **_GATED, **_TOKENS},
    "stablelm": {"model_type": "stablelm", **_GATED, "num_key_value_heads": 8, **_TOKENS},
    "granite": {"model_type": "granite", **_GATED, "embedding_multiplier": 12.0, "residual_multiplier": 0.22},
    "gemma3_text": {"model_type": "gemma3_text", **_GATED, "head_dim": 96, "num_hidden_layers": 6},
    "arcee": {"model_type": "arcee", **_GATED, **_TOKENS},
    "seed_oss": {"model_type": "seed_oss", **_GATED, "head_dim": 80},
    "ministral": {"model_type": "ministral", **_GATED, "head_dim": 80},
    "gpt_bigcode": {
        "model_type": "gpt_bigcode",
        "n_embd": 512,
        "n_layer": 4,
        "n_head": 8,
        "vocab_size": 8192,
        **_TOKENS,
    },
    "gptj": {"model_type": "gptj", "n_embd": 512, "n_layer": 4, "n_head": 8, "vocab_size": 8192, "rotary_dim": 32},
    "mixtral": {"model_type": "mixtral", **_GATED, "intermediate_size": 704, "num_local_experts": 8},
    "qwen2_moe": {"model_type": "qwen2_moe", **_GATED, **_EXPERTS, "shared_expert_intermediate_size": 640},
    "qwen3_moe": {"model_type": "qwen3_moe", **_GATED, **_EXPERTS, "head_dim": 96, "norm_topk_prob": True},
    "olmoe": {"model_type": "olmoe", **_GATED, "intermediate_size": 192, "num_experts": 16, "num_experts_per_tok": 4},
    "granitemoe": {"model_type": "granitemoe", **_GATED, "intermediate_size": 256, "num_local_experts": 12},
    "granitemoe-odd": {"model_type": "granitemoe", **_ODD, "intermediate_size": 104, "num_local_experts": 5},
    "nemotron-odd": {"model_type": "nemotron", **_ODD, "head_dim": 40, "mlp_bias": True, **_TOKENS},
    # Odd sizes: nothing divides anything.
    "llama-odd": {
        "model_type": "llama",
        "hidden_size": 360,
        "num_hidden_layers": 3,
        "num_attention_heads": 5,
        "num_key_value_heads": 1,
        "head_dim": 72,
        "intermediate_size": 1001,
        "vocab_size": 10007,
    },
    "gpt2-odd": {
        "model_type": "gpt2",
        "n_embd": 330,
        "n_layer": 3,
        "n_head": 5,
        "n_inner": 777,
        "vocab_size": 5003,
        **_TOKENS,
    },
    # Few words and many layers: the peak is not at the logits.
    "llama-deep": {"model_type": "llama", **_GATED, "num_hidden_layers": 10, "vocab_size": 512},
    "gpt2-deep": {"model_type": "gpt2", "n_embd": 512, "n_layer": 8, "n_head": 8, "vocab_size": 512, **_TOKENS},
    "bert-deep": {"model_type": "bert", **_WIDE, "intermediate_size": 2048, "num_hidden_layers": 8},
    # Large words: the optimizer or the head is everything.
    "llama-wordy": {"model_type": "llama", **_GATED, "num_hidden_layers": 2, "vocab_size": 32000},
}
WHOLE = ("gpt2", "opt", "gpt_neox", "llama", "qwen3", "gemma2", "phi", "bert", "llama-deep")
"""Configs that go through the whole matrix of memory cases."""
HEADS = {
    "bert": "sequence-classification",
    "roberta": "sequence-classification",
    "bert-deep": "sequence-classification",
}
ATTENTION_NAMES = {
    **{name: ["q_proj", "v_proj"] for name in CONFIGS},
    **{name: ["c_attn"] for name in CONFIGS if name.startswith(("gpt2", "gpt_bigcode"))},
    **{name: ["query", "value"] for name in CONFIGS if name.startswith(("bert", "roberta"))},
    "gpt_neox": ["query_key_value"],
    "phi3": ["qkv_proj"],
}


def lora(name: str, rank: int = 8) -> dict[str, Any]:
    """LoRA on the attention projections of config `name`."""
    return {"name": "lora", "rank": rank, "targets": ATTENTION_NAMES[name]}


def lora_all(rank: int = 8) -> dict[str, Any]:
    """LoRA on every Linear but the head."""
    return {"name": "lora", "rank": rank, "targets": "all-linear"}


HEAD_ONLY: dict[str, Any] = {"name": "freeze", "trainable": [r"^score\.", r"^classifier\.", r"^lm_head\."]}
FIRST_TWO: dict[str, Any] = {"name": "freeze", "first": 2}
LAST_ONE: dict[str, Any] = {"name": "freeze", "last": 1}
BITFIT: dict[str, Any] = {"name": "bitfit"}


def _case(name: str, **arguments: Any) -> dict[str, Any]:
    head = arguments.pop("head", HEADS.get(name))
    return {"config": name, "head": head, **arguments}


def parameter_cases() -> Iterator[dict[str, Any]]:
    """Every config with every method."""
    for name in CONFIGS:
        for method in (None, lora(name), lora(name, 64), lora_all(), FIRST_TWO, LAST_ONE):
            yield _case(name, method=method)
    for name in ("bert", "roberta"):
        yield _case(name, head="masked-lm", method=None)
        yield _case(name, method=HEAD_ONLY)
        yield _case(name, method={**lora(name), "task_type": None})
    for name in ("llama", "gpt2", "qwen3", "mistral", "phi3"):
        for method in (None, lora(name), lora_all()):
            yield _case(name, head="sequence-classification", method=method)
    for name in ("gpt2", "opt", "gpt_neox", "phi", "bert", "qwen2", "llama-biased"):
        yield _case(name, method=BITFIT)
    yield _case("llama", method=HEAD_ONLY)
    yield _case("llama", method={**lora("llama"), "dora": True})
    yield _case("llama", method={**lora_all(16), "modules_to_save": ["embed_tokens"]})
    yield from layer_cases()


def flop_cases() -> Iterator[dict[str, Any]]:
    """Every config, full and with LoRA; attention kernels, checkpointing and frozen layers for some."""
    size = {"batch": 2, "seq": 128}
    for name in CONFIGS:
        for method in (None, lora(name), lora_all()):
            yield _case(name, method=method, attention="eager", **size)
        yield _case(name, method=None, attention="eager", checkpointing=True, **size)
        if name != "gemma2":
            yield _case(name, method=None, precision="bf16", attention="sdpa", **size)
            yield _case(name, method=lora(name), precision="bf16", attention="sdpa", checkpointing=True, **size)
    for name in ("llama", "gpt2", "bert", "qwen3"):
        head = "sequence-classification" if name == "gpt2" else HEADS.get(name)  # its language head is the embedding
        for method in (FIRST_TWO, LAST_ONE, HEAD_ONLY):
            yield _case(name, head=head, method=method, attention="eager", **size)
            yield _case(name, head=head, method=method, attention="eager", checkpointing=True, **size)
    for name in ("llama", "gpt2"):
        yield _case(name, head="sequence-classification", method=None, attention="eager", **size)
    yield _case("bert", head="masked-lm", method=None, attention="eager", **size)
    yield _case("gpt2", method=BITFIT, attention="eager", **size)
    for case in layer_cases(attention="eager", batch=2, seq=128):
        if case["config"] in ("llama", "gpt2", "gpt_neox"):
            yield case


def memory_cases() -> Iterator[dict[str, Any]]:
    """Families × methods × precisions × attention × checkpointing, and each optimizer on a few."""
    size = {"batch": 4, "seq": 256}
    for name in CONFIGS:
        odd = {"batch": 3, "seq": 250} if name.endswith("odd") else size
        fused = "eager" if name == "gemma2" else "sdpa"
        if name not in WHOLE:
            yield _case(name, method=None, precision="fp32", attention="eager", **odd)
            yield _case(name, method=None, precision="bf16", attention=fused, optimizer="adamw-fused", **odd)
            yield _case(name, method=None, precision="bf16-mixed", attention=fused, checkpointing=True, **odd)
            yield _case(name, method=lora(name), precision="bf16-autocast", attention=fused, **odd)
            yield _case(name, method=lora_all(), precision="bf16", attention=fused, **odd)
            continue
        for precision in ("fp32", "bf16", "bf16-mixed"):
            yield _case(name, method=None, precision=precision, attention="eager", **odd)
        for precision in ("bf16", "bf16-mixed"):
            yield _case(name, method=None, precision=precision, attention=fused, optimizer="adamw-fused", **odd)
            yield _case(name, method=None, precision=precision, attention=fused, checkpointing=True, **odd)
            yield _case(name, method=lora_all(), precision=precision, attention=fused, **odd)
        for precision in ("bf16", "bf16-autocast"):
            yield _case(name, method=lora(name), precision=precision, attention=fused, **odd)
        yield _case(name, method=lora_all(), precision="bf16-autocast", attention=fused, checkpointing=True, **odd)
    for name in ("llama", "llama-deep", "gpt2", "gpt2-deep", "bert", "qwen3", "gpt_neox"):
        head = "sequence-classification" if name.startswith("gpt2") else HEADS.get(name)
        for method in (FIRST_TWO, LAST_ONE, HEAD_ONLY):
            yield _case(name, head=head, method=method, precision="fp32", attention="eager", **size)
            yield _case(name, head=head, method=method, precision="bf16-mixed", attention="sdpa", **size)
    for name in ("llama", "llama-deep", "gpt2-deep", "llama-wordy"):
        for optimizer in ("sgd", "sgd-momentum", "adafactor", "adamw-fused"):
            yield _case(name, method=None, precision="fp32", attention="eager", optimizer=optimizer, **size)
        yield _case(name, method=None, precision="bf16", attention="sdpa", optimizer="adafactor", **size)
        yield _case(name, method=None, precision="bf16", attention="sdpa", gradient_accumulation=2, **size)
        yield _case(name, method=None, precision="bf16", attention="sdpa", batch=1, seq=16)
        yield _case(name, method=None, precision="fp16-mixed", attention="sdpa", **size)
        yield _case(name, method=None, precision="fp32", attention="sdpa", **size)
    for name in ("llama", "llama-tied", "gpt2", "bert"):
        for attention in ("eager", "sdpa"):
            yield _case(name, method=None, precision="bf16", attention=attention, padding=True, **size)
    for name in ("llama", "gpt2", "qwen3"):
        yield _case(name, head="sequence-classification", method=None, precision="bf16", attention="sdpa", **size)
    for name in ("bert", "roberta"):
        for precision in ("fp32", "bf16", "bf16-mixed"):
            yield _case(name, head="masked-lm", method=None, precision=precision, attention="sdpa", **size)
    yield _case("llama-deep", method=lora("llama-deep"), precision="bf16", attention="eager", batch=2, seq=1024)
    yield _case("gpt2-deep", method=None, precision="bf16-mixed", attention="eager", batch=2, seq=1024)
    yield _case("llama", method={**lora("llama"), "dropout": 0.1}, precision="bf16", attention="sdpa", **size)
    yield _case("llama", method={**lora_all(), "dropout": 0.1}, precision="bf16-autocast", attention="sdpa", **size)
    yield _case("gpt2", method=BITFIT, precision="bf16-mixed", attention="sdpa", **size)
    for case in layer_cases(precision="bf16", attention="sdpa", **size):
        if case["config"] in ("llama", "gpt2", "gpt_neox"):
            yield case


def identity(case: Mapping[str, Any]) -> str:
    """A readable name of a case, unique within its kind."""
    method = case.get("method")
    words = [
        case["config"],
        case.get("head") or "",
        "full"
        if method is None
        else "-".join(str(v) if not isinstance(v, list) else "+".join(map(str, v)) for v in method.values()),
    ]
    words += [f"{k}={v}" for k, v in case.items() if k not in ("config", "head", "method")]
    return " ".join(word for word in words if word)


LAYER_METHODS: tuple[dict[str, Any], ...] = (
    {"name": "ia3"},
    {"name": "dora", "rank": 8},
    {"name": "rslora", "rank": 8},
    {"name": "vera", "rank": 256},
    {"name": "loha", "rank": 8},
    {"name": "miss", "rank": 64},
)
"""peft methods at linear layers, on peft's default targets."""
LAYER_CONFIGS = ("gpt2", "llama", "gpt_neox", "qwen2", "gemma2", "bert")


def layer_cases(**arguments: Any) -> Iterator[dict[str, Any]]:
    """Every such method on every family that peft offers it for (GPT-2's Conv1D has neither LoHa nor MiSS)."""
    for method in LAYER_METHODS:
        for name in LAYER_CONFIGS:
            if name != "gpt2" or method["name"] not in ("loha", "miss"):
                yield _case(name, method=method, **arguments)
