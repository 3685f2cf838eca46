"""The runs that prove a device: small ones for a processor, real sizes for a GPU."""

from __future__ import annotations

from collections.abc import Iterator

from planner.probe.cases import Case, case
from planner.probe.gpu_matrix import gpu_cases

LLAMA = {
    "model_type": "llama", "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 6, "num_attention_heads": 8,
    "num_key_value_heads": 4, "vocab_size": 8192, "max_position_embeddings": 1024,
}  # fmt: skip
GPT2 = {"model_type": "gpt2", "n_embd": 512, "n_layer": 6, "n_head": 8, "vocab_size": 8192, "n_positions": 1024}
BERT = {"model_type": "bert", "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6, "num_attention_heads": 8, "vocab_size": 30522}  # fmt: skip
T5 = {"model_type": "t5", "d_model": 512, "d_ff": 2048, "num_layers": 4, "num_heads": 8, "d_kv": 64, "vocab_size": 8192}
VIT = {
    "model_type": "vit", "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 6,
    "image_size": 224, "patch_size": 16,
}  # fmt: skip

LORA = {"name": "lora", "rank": 16, "targets": "all-linear"}
PROMPT = {"name": "prompt", "virtual_tokens": 20}
LAST = {"name": "freeze", "last": 2}
FULL = {"name": "full"}


def processor_cases() -> Iterator[Case]:
    """Steps of 20 ms to 2 s on a few cores."""
    yield case("llama", LLAMA, FULL, "fp32", 1, 128, True)
    yield case("llama", LLAMA, FULL, "fp32", 4, 128)
    yield case("llama", LLAMA, FULL, "fp32", 1, 512)
    yield case("llama", LLAMA, FULL, "bf16", 2, 128, True)
    yield case("llama", LLAMA, FULL, "bf16", 2, 512)
    yield case("llama", LLAMA, LORA, "fp32", 2, 128)
    yield case("llama", LLAMA, LORA, "bf16", 2, 256, True)
    yield case("llama", LLAMA, PROMPT, "fp32", 2, 128)
    yield case("llama", LLAMA, LAST, "bf16", 2, 256)
    yield case("gpt2", GPT2, FULL, "fp32", 2, 128, True)
    yield case("gpt2", GPT2, FULL, "fp32", 1, 384)
    yield case("gpt2", GPT2, FULL, "bf16", 2, 256)
    yield case("gpt2", GPT2, PROMPT, "fp32", 2, 128, True)
    yield case("gpt2", GPT2, {"name": "bitfit"}, "fp32", 2, 128)
    yield case("gpt2", GPT2, LAST, "fp32", 4, 128)
    yield case("bert", BERT, FULL, "fp32", 4, 64, True)
    yield case("bert", BERT, FULL, "fp32", 8, 128)
    yield case("bert", BERT, FULL, "bf16", 8, 128)
    yield case("bert", BERT, {"name": "bitfit"}, "fp32", 4, 128, True)
    yield case("bert", BERT, {"name": "bitfit"}, "bf16", 4, 128)
    yield case("bert", BERT, {"name": "lora", "rank": 8, "targets": ["query", "value"]}, "fp32", 4, 128)
    yield case("bert", BERT, LAST, "fp32", 8, 64, True)
    yield case("t5", T5, FULL, "fp32", 2, 128, True)
    yield case("t5", T5, FULL, "bf16", 4, 128)
    yield case("t5", T5, {"name": "lora", "rank": 8, "targets": ["q", "v"]}, "fp32", 2, 256)
    yield case("t5", T5, {"name": "lora", "rank": 8, "targets": ["q", "v"]}, "bf16", 4, 64)
    yield case("vit", VIT, FULL, "fp32", 2, None, True)
    yield case("vit", VIT, FULL, "bf16", 4, None)
    yield case("vit", VIT, LORA, "fp32", 4, None)
    yield case("vit", VIT, {"name": "bitfit"}, "fp32", 2, None)
    yield case("vit", VIT, LAST, "fp32", 8, None, True)


def matrix(device: str) -> list[Case]:
    """All cases for a device: real sizes for a GPU, small ones for anything else."""
    return list(gpu_cases() if device.startswith(("cuda", "xpu")) else processor_cases())
