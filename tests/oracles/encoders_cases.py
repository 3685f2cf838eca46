"""The recorded cases of encoders with rotary positions or norms that differ from BERT's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_SMALL: dict[str, Any] = {
    "hidden_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 512, "vocab_size": 2048,
    "max_position_embeddings": 512, "pad_token_id": 0, "problem_type": "single_label_classification",
}  # fmt: skip
_ODD: dict[str, Any] = {
    **_SMALL, "hidden_size": 210, "num_attention_heads": 5, "intermediate_size": 333, "vocab_size": 1003, "num_labels": 5,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "jina_embeddings_v3": {"model_type": "jina_embeddings_v3", **_SMALL},
    "jina_embeddings_v3-odd": {"model_type": "jina_embeddings_v3", **_ODD, "type_vocab_size": 3},
    "gte": {"model_type": "gte", **_SMALL},
    "gte-odd": {"model_type": "gte", **_ODD, "type_vocab_size": 0, "attention_probs_dropout_prob": 0.1},
    "esm": {"model_type": "esm", **_SMALL, "position_embedding_type": "rotary", "token_dropout": True, "mask_token_id": 5},
    "esm-odd": {"model_type": "esm", **_ODD, "emb_layer_norm_before": True, "mask_token_id": 5},
}
HEADS = ("sequence-classification", "masked-lm", "none")
ALL: dict[str, Any] = {"name": "lora", "rank": 8, "targets": "all-linear"}
FIRST: dict[str, Any] = {"name": "freeze", "first": 1}
BITFIT: dict[str, Any] = {"name": "bitfit"}


def _case(name: str, head: str = HEADS[0], **arguments: Any) -> dict[str, Any]:
    return {"config": name, "head": head, **arguments}


def parameter_cases() -> Iterator[dict[str, Any]]:
    """Every config with every head in full and with adapters; frozen layers where names say which table is tied."""
    for name in CONFIGS:
        for head in HEADS:
            yield _case(name, head, method=None)
            yield _case(name, head, method=ALL)
        for method in (FIRST, BITFIT):
            yield _case(name, method=method)


def flop_cases() -> Iterator[dict[str, Any]]:
    """Every config in full, with checkpointed adapters, and with frozen parts."""
    for name in CONFIGS:
        for method in (None, ALL, FIRST):
            yield _case(name, method=method, batch=2, seq=96, attention="eager", checkpointing=method is ALL)


def memory_cases() -> Iterator[dict[str, Any]]:
    """Every config in full and with adapters, in every precision."""
    size = {"batch": 4, "seq": 96}
    for name in CONFIGS:
        yield _case(name, method=None, precision="fp32", attention="eager", **size)
        yield _case(name, method=None, precision="bf16", attention="sdpa", **size)
        yield _case(name, "masked-lm", method=None, precision="bf16-mixed", attention="sdpa", checkpointing=True, **size)
        yield _case(name, method=ALL, precision="bf16-autocast", attention="sdpa", **size)
