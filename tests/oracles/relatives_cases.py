"""The recorded cases of DeBERTa, whose scores add positions, and of RoBERTa's relatives that differ from it in weights alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_SMALL: dict[str, Any] = {
    "hidden_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 1024, "vocab_size": 4096,
    "max_position_embeddings": 512, "pad_token_id": 0,
}  # fmt: skip
_DEBERTA: dict[str, Any] = {
    **_SMALL, "model_type": "deberta-v2", "relative_attention": True, "position_buckets": 64, "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True, "norm_rel_ebd": "layer_norm", "position_biased_input": False, "type_vocab_size": 0,
    "problem_type": "single_label_classification",
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "deberta-v2": _DEBERTA,
    "deberta-v2-odd": {
        **_DEBERTA, "hidden_size": 210, "num_attention_heads": 5, "intermediate_size": 333, "vocab_size": 3001, "share_att_key": False,
        "norm_rel_ebd": "none", "position_biased_input": True, "type_vocab_size": 2, "position_buckets": -1,
        "max_relative_positions": -1, "max_position_embeddings": 128, "conv_kernel_size": 3,
    },
    "deberta-v2-one-way": {**_DEBERTA, "share_att_key": False, "pos_att_type": "c2p", "conv_kernel_size": 3, "conv_groups": 2},
    "deberta-v2-plain": {**_DEBERTA, "relative_attention": False, "pos_att_type": None, "norm_rel_ebd": "none"},
    "deberta": {
        **_SMALL, "model_type": "deberta", "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False,
        "problem_type": "single_label_classification",
    },
    "deberta-odd": {
        **_SMALL, "model_type": "deberta", "hidden_size": 210, "num_attention_heads": 5, "intermediate_size": 333, "vocab_size": 3001,
        "relative_attention": True, "pos_att_type": "p2c", "type_vocab_size": 2, "max_relative_positions": 40, "num_labels": 4,
        "problem_type": "single_label_classification",
    },
    "deberta-plain": {**_SMALL, "model_type": "deberta", "type_vocab_size": 1, "problem_type": "single_label_classification"},
    "camembert": {**_SMALL, "model_type": "camembert", "pad_token_id": 1},
    "xlm-roberta": {
        **_SMALL, "model_type": "xlm-roberta", "hidden_size": 210, "num_attention_heads": 5, "intermediate_size": 333, "vocab_size": 3001,
        "type_vocab_size": 1, "pad_token_id": 1,
    },
}  # fmt: skip
ALL: dict[str, Any] = {"name": "lora", "rank": 8, "targets": "all-linear"}
BITFIT: dict[str, Any] = {"name": "bitfit"}
FIRST: dict[str, Any] = {"name": "freeze", "first": 2}
ROBERTAS = ("camembert", "xlm-roberta")
FIRST_DEBERTAS = ("deberta", "deberta-odd", "deberta-plain")
"""Two of their biases are made in fp32 whatever the model's type, so that what transformers builds anew does not run in bf16 alone."""
HEADS = ("sequence-classification", "masked-lm", "none")


def lora(name: str) -> dict[str, Any]:
    """LoRA on queries and values."""
    targets = ["query_proj", "value_proj"] if name.startswith("deberta-v2") else ["query", "value"]
    if name in FIRST_DEBERTAS:
        targets = ["in_proj"]
    return {"name": "lora", "rank": 8, "targets": targets}


def _case(name: str, method: dict[str, Any] | None, head: str = HEADS[0], **arguments: Any) -> dict[str, Any]:
    return {"config": name, "head": head, "method": method, **arguments}


def parameter_cases() -> Iterator[dict[str, Any]]:
    """Every config with every head and method."""
    for name in CONFIGS:
        for head in HEADS:
            for method in (None, lora(name), ALL, BITFIT, FIRST):
                if method is FIRST and head == "masked-lm" and name in ROBERTAS:
                    continue  # transformers names the tied table by the head there, so that by name it is no embedding
                yield _case(name, method, head)


def flop_cases() -> Iterator[dict[str, Any]]:
    """Every config in full, with checkpointed adapters, and with frozen parts."""
    for name in CONFIGS:
        for method in (None, ALL, FIRST, BITFIT):
            yield _case(name, method, batch=2, seq=96, attention="eager", checkpointing=method is ALL)
        yield _case(name, None, "masked-lm", batch=2, seq=90, attention="eager")


def memory_cases() -> Iterator[dict[str, Any]]:
    """Every config in full and with adapters, in every precision."""
    for name in CONFIGS:
        narrow = "bf16-autocast" if name in FIRST_DEBERTAS else "bf16"
        for precision in ("fp32", narrow, "bf16-mixed"):
            for method in (None, lora(name)):
                yield _case(name, method, batch=4, seq=128, attention="eager", precision=precision)
        for method in (None, lora(name)):
            yield _case(name, method, batch=4, seq=128, attention="eager", precision=narrow, checkpointing=True)
        yield _case(name, None, "masked-lm", batch=4, seq=120, attention="eager", precision="bf16-mixed")
