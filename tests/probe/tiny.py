"""Models small enough to train in a test."""

from __future__ import annotations

from typing import Any

from planner.run import Run, parse_run

LLAMA = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 128, "max_position_embeddings": 128,
}  # fmt: skip
GPT2 = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 128, "n_positions": 128}
BERT = {
    "model_type": "bert", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 128,
}  # fmt: skip
T5 = {"model_type": "t5", "d_model": 64, "d_ff": 128, "num_layers": 2, "num_heads": 4, "d_kv": 16, "vocab_size": 128}
VIT = {
    "model_type": "vit", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
MIXTRAL = {
    "model_type": "mixtral", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 128, "num_local_experts": 4, "num_experts_per_tok": 2,
}  # fmt: skip
LORA = {"name": "lora", "rank": 4, "targets": "all-linear"}


def run(model: Any = LLAMA, method: Any = "full", precision: Any = "fp32", seq: int | None = 32, **more: Any) -> Run:
    batch = {"micro": 2, **({} if seq is None else {"seq_len": seq}), **more.pop("batch", {})}
    return parse_run({"model": model, "method": method, "precision": precision, "batch": batch, **more})
