"""Real sizes for a GPU: families, methods, precisions, kernels, batches. About five seconds each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from planner.probe.cases import Case, Fields, case

LLAMA_1B = {
    "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256, "tie_word_embeddings": True, "max_position_embeddings": 131072,
}  # fmt: skip
LLAMA_3B = {**LLAMA_1B, "hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 24, "head_dim": 128}
LLAMA_8B = {
    **LLAMA_1B, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "head_dim": 128, "tie_word_embeddings": False,
}  # fmt: skip
QWEN = {
    "model_type": "qwen2", "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
    "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True, "max_position_embeddings": 32768,
}  # fmt: skip
GEMMA = {
    "model_type": "gemma", "hidden_size": 2048, "intermediate_size": 16384, "num_hidden_layers": 18, "num_attention_heads": 8,
    "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 256000, "hidden_act": "gelu_pytorch_tanh", "max_position_embeddings": 8192,
}  # fmt: skip
GPT2_M = {"model_type": "gpt2", "n_embd": 1024, "n_layer": 24, "n_head": 16, "vocab_size": 50257, "n_positions": 1024}
GPT2_XL = {**GPT2_M, "n_embd": 1600, "n_layer": 48, "n_head": 25}
BERT_B = {
    "model_type": "bert", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "vocab_size": 30522,
}  # fmt: skip
BERT_L = {**BERT_B, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
T5_L = {"model_type": "t5", "d_model": 1024, "d_ff": 4096, "num_layers": 24, "num_heads": 16, "d_kv": 64, "vocab_size": 32128}
VIT_L = {
    "model_type": "vit", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "image_size": 224, "patch_size": 16,
}  # fmt: skip
MIXTRAL = {
    "model_type": "mixtral", "hidden_size": 1024, "intermediate_size": 3584, "num_hidden_layers": 12, "num_attention_heads": 16,
    "num_key_value_heads": 4, "vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2, "max_position_embeddings": 32768,
}  # fmt: skip

FULL = {"name": "full"}
BITFIT = {"name": "bitfit"}
QV = ("q_proj", "v_proj")
CHECKPOINTS: dict[str, Any] = {"activation_checkpointing": "full"}


def _lora(rank: int = 16, targets: Any = "all-linear", name: str = "lora") -> Fields:
    return {"name": name, "rank": rank, "targets": targets}


def _llama() -> Iterator[Case]:
    for precision, quick in (("bf16", True), ("bf16-mixed", True), ("fp16-mixed", False)):
        yield case("llama-1b", LLAMA_1B, FULL, precision, 4, 1024, quick)
    for precision in ("fp32", "tf32"):
        yield case("llama-1b", LLAMA_1B, FULL, precision, 2, 1024, precision == "tf32")
    yield case("llama-1b", LLAMA_1B, FULL, "bf16", 4, 1024, True, **CHECKPOINTS)
    yield case("llama-1b", LLAMA_1B, FULL, "bf16", 4, 1024, attention="eager")
    yield case("llama-1b", LLAMA_1B, FULL, "bf16", 4, 1024, optimizer="adamw-fused")
    yield case("llama-1b", LLAMA_1B, FULL, "bf16", 4, 1024, optimizer="sgd")
    yield case("llama-1b", LLAMA_1B, FULL, "bf16", 4, 1024, optimizer="adafactor")
    for micro, seq in ((1, 8192), (16, 512), (1, 128), (32, 1024)):
        yield case("llama-1b", LLAMA_1B, FULL, "bf16", micro, seq, micro == 16)
    yield case("llama-1b", LLAMA_1B, FULL, "bf16", 2, 1024, batch={"accumulation": 4})
    yield case("llama-1b", LLAMA_1B, _lora(8), "bf16", 1, 128, True)
    yield case("llama-1b", LLAMA_1B, _lora(64), "bf16", 8, 1024)
    yield case("llama-1b", LLAMA_1B, {"name": "freeze", "last": 4}, "bf16", 8, 1024)
    yield case("llama-1b", LLAMA_1B, {"name": "adapter", "bottleneck": 64, "placement": "houlsby"}, "bf16", 4, 1024)
    yield case("llama-3b", LLAMA_3B, FULL, "bf16", 1, 2048)
    yield case("llama-3b", LLAMA_3B, FULL, "bf16", 4, 2048, **CHECKPOINTS)
    for method in (_lora(32, QV), _lora(32, QV, "dora"), {"name": "prompt", "virtual_tokens": 32}, {"name": "prefix", "virtual_tokens": 32}):
        yield case("llama-3b", LLAMA_3B, method, "bf16", 4, 768, method["name"] in ("lora", "dora", "prompt"))
    for method in ({"name": "ia3"}, {"name": "vera", "rank": 256, "targets": QV}, {"name": "ln_tuning"}):
        yield case("llama-3b", LLAMA_3B, method, "bf16", 4, 768)
    yield case("llama-8b", LLAMA_8B, _lora(), "bf16", 1, 2048, True)
    yield case("llama-8b", LLAMA_8B, _lora(8, QV), "bf16", 1, 512)
    yield case("llama-8b", LLAMA_8B, _lora(64), "bf16", 2, 4096, **CHECKPOINTS)
    yield case("llama-8b", LLAMA_8B, {"name": "prompt", "virtual_tokens": 20}, "bf16", 2, 1024)
    yield case("llama-8b", LLAMA_8B, FULL, "bf16", 1, 2048, optimizer="sgd", **CHECKPOINTS)
    yield case("llama-8b", LLAMA_8B, FULL, "bf16", 1, 2048)
    for weights in ("nf4-dq", "int8"):
        kind = {"weights": weights, "compute": "bf16"}
        yield case("llama-8b", LLAMA_8B, _lora(name="qlora"), kind, 2, 1024, weights == "nf4-dq")
    yield case("llama-1b", LLAMA_1B, _lora(name="qlora"), {"weights": "nf4", "compute": "bf16"}, 4, 1024)


def _others() -> Iterator[Case]:
    yield case("qwen-1.5b", QWEN, _lora(), "bf16", 4, 1024, True)
    yield case("qwen-1.5b", QWEN, FULL, "bf16", 4, 1024)
    yield case("qwen-1.5b", QWEN, FULL, "bf16", 8, 1024, **CHECKPOINTS)
    yield case("gemma-2b", GEMMA, _lora(), "bf16", 2, 1024)
    yield case("gemma-2b", GEMMA, FULL, "bf16", 1, 1024)
    yield case("gpt2-medium", GPT2_M, FULL, "fp32", 8, 512, attention="eager")
    yield case("gpt2-medium", GPT2_M, FULL, "bf16-mixed", 16, 1024, True)
    yield case("gpt2-medium", GPT2_M, FULL, "fp16-mixed", 8, 512)
    yield case("gpt2-medium", GPT2_M, BITFIT, "bf16", 8, 1024)
    yield case("gpt2-xl", GPT2_XL, FULL, "bf16-mixed", 4, 1024)
    yield case("gpt2-xl", GPT2_XL, _lora(16, ("c_attn",)), "bf16", 4, 1024)
    yield case("bert-base", BERT_B, FULL, "fp32", 32, 128, True)
    yield case("bert-base", BERT_B, FULL, "tf32", 32, 128)
    yield case("bert-base", BERT_B, FULL, "fp32", 1, 32)
    yield case("bert-base", BERT_B, FULL, "bf16-mixed", 128, 128)
    yield case("bert-base", BERT_B, BITFIT, "fp32", 32, 128)
    yield case("bert-base", BERT_B, {"name": "freeze", "last": 0}, "fp32", 32, 128)
    yield case("bert-base", BERT_B, _lora(8, ("query", "value")), "fp32", 32, 128)
    yield case("bert-large", BERT_L, FULL, "bf16-mixed", 32, 512, True)
    yield case("bert-large", BERT_L, FULL, "fp32", 8, 512)
    yield case("bert-large", BERT_L, FULL, "fp16-mixed", 16, 256)
    yield case("t5-large", T5_L, FULL, "bf16", 8, 512, True)
    yield case("t5-large", T5_L, _lora(16, ("q", "v")), "bf16", 8, 512)
    yield case("vit-large", VIT_L, FULL, "bf16-mixed", 64, None, True)
    yield case("vit-large", VIT_L, FULL, "fp32", 32, None)
    yield case("vit-large", VIT_L, _lora(16), "bf16-mixed", 64, None)
    yield case("mixtral-small", MIXTRAL, FULL, "bf16", 4, 1024, True)
    yield case("mixtral-small", MIXTRAL, _lora(16, QV), "bf16", 4, 1024)


def gpu_cases() -> Iterator[Case]:
    """All of them; what a machine cannot build (4-bit weights without bitsandbytes) says so in the table."""
    yield from _llama()
    yield from _others()
