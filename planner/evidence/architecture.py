"""From the architecture columns of a measured row to a model configuration.

A model that the catalogue has is taken from there, with the vocabulary and the tying of the row (software pads one and unties
the other). Any other becomes a configuration of the plainest family with the same matrices: gated MLP and RMS norm as Llama,
two-matrix MLP and layer norm as GPT-2, an encoder as BERT. Families are chosen by the columns, never by a model's name;
the name only tells a vocabulary that a source leaves out (`ASSUMED_VOCABULARY`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, Final

from planner.catalog.models import find_model
from planner.errors import PlanError
from planner.evidence.rows import Row
from planner.workload.families import FAMILIES, read_config


class Skip(Exception):
    """A row that no run file can express, or that the engine does not cover; `str` is the reason."""


_SIZE_KEYS: Final = (
    ("layers", ("num_hidden_layers", "n_layer", "n_layers", "num_layers")),
    ("hidden", ("hidden_size", "n_embd", "d_model")),
)
_ACTIVATIONS: Final = {
    "gelu": "gelu_new",
    "relu": "relu",
    "squared-relu": "relu2",
    "geglu": "gelu_pytorch_tanh",
    "swiglu": "silu",
}


def model_of(row: Row) -> str | dict[str, Any]:
    """Value of a run's `model`: a catalogue id, or a configuration mapping.

    Errors
    ------
    Skip: the model is not in the catalogue and the columns do not determine it.
    """
    config = catalog_config(row.hf_id) if row.hf_id else None
    if config is None or not _same_sizes(config, row):
        return _generic(row)
    if config.get("model_type") not in FAMILIES and row.layers:
        generic = _generic(row)
        if generic["model_type"] in FAMILIES:
            return generic
    changed = dict(config)
    if row.vocab and "vocab_size" in config:
        changed["vocab_size"] = row.vocab
    if (
        row.tied is not None
        and row.arch != "encoder"
        and bool(changed.get("tie_word_embeddings", row.tied)) != row.tied
    ):
        changed["tie_word_embeddings"] = row.tied
    elif row.tied is False and row.arch != "encoder":
        changed["tie_word_embeddings"] = False
    return changed if changed != config else str(row.hf_id)


@cache
def catalog_config(hf_id: str) -> dict[str, Any] | None:
    """The catalogue's configuration of a Hugging Face id, or None. Callers copy before they change it."""
    try:
        return find_model(hf_id).config
    except PlanError:
        return None


def module_names(model: str | dict[str, Any]) -> dict[str, str]:
    """What this model calls the linear layers that measured rows name as Llama does (q_proj, …, lm_head); empty for an unknown or impossible one."""
    config = catalog_config(model) if isinstance(model, str) else model
    if config is None or config["model_type"] not in FAMILIES:
        return {}
    try:
        arch = read_config(config)
    except PlanError:
        return {}  # sizes that contradict each other: the engine says which
    n = arch.names
    query, key, value = (n.fused,) * 3 if arch.fused_qkv else (n.query, n.key, n.value)
    gate = n.gate if arch.gated and not arch.fused_gate_up else n.up
    llama = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head")
    return dict(zip(llama, (query, key, value, n.out, gate, n.up, n.down, n.head), strict=True))


def _same_sizes(config: dict[str, Any], row: Row) -> bool:
    """Whether the configuration has the row's layers and width: some rows measured a model cut to fewer layers."""
    for column, keys in _SIZE_KEYS:
        told = getattr(row, column)
        found = next((config[key] for key in keys if key in config), None)
        if told is not None and found is not None and told != found:
            return False
    return True


ASSUMED_VOCABULARY: Final = (("GPT-3", 51200), ("openbuddy", 32000))
"""Vocabularies that sources leave out, by the beginning of the model's name: GPT-2's tokens padded for tensor parallelism (Megatron), and the base
model's (Mistral 7B; the tokens that OpenBuddy added are 1 % of the parameters)."""


def _generic(row: Row) -> dict[str, Any]:
    if not row.vocab:
        known = (size for name, size in ASSUMED_VOCABULARY if (row.model or "").startswith(name))
        row = replace(row, vocab=next(known, None))
    missing = [name for name in ("layers", "hidden", "heads", "vocab") if not getattr(row, name)]
    if missing:
        what = (
            f"model {row.hf_id or row.model or ''!r} is not in the catalogue and"
            if row.hf_id or row.model
            else "the row names no model and"
        )
        raise Skip(f"{what} {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} blank")
    if row.arch in ("encoder-decoder", "vit", "other"):
        raise Skip(f"architecture {row.arch} cannot be written from the columns")
    gated = row.mlp in ("swiglu", "geglu") or (row.mlp is None and row.arch != "encoder")
    if row.arch == "encoder":
        return _bert(row)
    if row.experts:
        return _mixture(row)
    if gated:
        return _llama(row)
    return _gpt(row)


def _common(row: Row) -> dict[str, Any]:
    assert row.hidden and row.heads
    gated = row.mlp in ("swiglu", "geglu", None)
    return {
        "num_hidden_layers": row.layers,
        "hidden_size": row.hidden,
        "num_attention_heads": row.heads,
        "num_key_value_heads": row.kv_heads or row.heads,
        "head_dim": row.head_dim or row.hidden // row.heads,
        "intermediate_size": row.ffn or (round(8 * row.hidden / 3 / 256) * 256 if gated else 4 * row.hidden),
        "vocab_size": row.vocab,
        "tie_word_embeddings": bool(row.tied),
        "max_position_embeddings": _positions(row),
        "hidden_act": _ACTIVATIONS[row.mlp or "swiglu"],
    }


def _llama(row: Row) -> dict[str, Any]:
    named = (row.model or "").lower()
    family = "gemma" if row.mlp == "geglu" else "mistral" if named.startswith("mistral-") else "llama"
    if family == "mistral":  # same shapes as Llama; its code treats the logits in another way
        return _common(row) | {"model_type": family, "attention_dropout": 0.0, "sliding_window": None}
    return _common(row) | {"model_type": family, "attention_dropout": 0.0}


def _mixture(row: Row) -> dict[str, Any]:
    shared = row.shared_experts or 0
    mixture: dict[str, Any] = {
        "model_type": "mixtral",
        "num_local_experts": row.experts,
        "num_experts_per_tok": row.experts_per_token or 2,
        "intermediate_size": row.expert_ffn or row.ffn,
        "attention_dropout": 0.0,
    }
    if shared or row.dense_layers:
        width = row.expert_ffn or row.ffn or 0
        mixture |= {
            "model_type": "qwen2_moe",
            "num_experts": row.experts,
            "moe_intermediate_size": width,
            "intermediate_size": row.ffn or width,
            "shared_expert_intermediate_size": shared * width,
            "mlp_only_layers": list(range(row.dense_layers or 0)),
        }
    return _common(row) | mixture


def _gpt(row: Row) -> dict[str, Any]:
    assert row.hidden and row.heads
    kv_heads = row.kv_heads or row.heads
    if kv_heads != row.heads or (row.head_dim or row.hidden // row.heads) * row.heads != row.hidden:
        return _common(row) | {"model_type": "nemotron", "attention_dropout": 0.0}
    return {
        "model_type": "gpt2",
        "n_layer": row.layers,
        "n_embd": row.hidden,
        "n_head": row.heads,
        "n_inner": row.ffn or 4 * row.hidden,
        "vocab_size": row.vocab,
        "n_positions": _positions(row),
        "tie_word_embeddings": row.tied is not False,
        "activation_function": _ACTIVATIONS[row.mlp or "gelu"],
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    }


def _bert(row: Row) -> dict[str, Any]:
    assert row.hidden
    return {
        "model_type": "bert",
        "num_hidden_layers": row.layers,
        "hidden_size": row.hidden,
        "num_attention_heads": row.heads,
        "intermediate_size": row.ffn or 4 * row.hidden,
        "vocab_size": row.vocab,
        "max_position_embeddings": _positions(row),
        "type_vocab_size": 2,
        "hidden_act": "gelu",
    }


def _positions(row: Row) -> int:
    """Length of a learned position table: as long as the sequences, and the usual 512 or more."""
    return max(512, round(row.seq_len or 0))
