"""Encoders whose scores know how far tokens stand apart: MPNet, DeBERTa 2 and 3."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture
from planner.workload.disentangled import DisentangledAttention, DisentangledFront
from planner.workload.families.encoders import bert_like
from planner.workload.families.fields import Fields, family


@family("mpnet")
def _(f: Fields) -> Architecture:
    positions = f.size("max_position_embeddings", default=512)
    base = bert_like(
        f,
        "mpnet",
        classifier_hidden=True,
        max_positions=max(1, positions - 2),
        token_types=0,
        position_buckets=f.size("relative_attention_num_buckets", default=32),
        sdpa=False,
    )
    names = replace(
        base.names,
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        out="attention.attn.o",
        norms=("attention.LayerNorm", "output.LayerNorm"),
        relative="mpnet.encoder.relative_attention_bias",
    )
    return replace(base, names=names)


def _position_types(f: Fields) -> set[str]:
    value: Any = f.config.get("pos_att_type") or []
    types = {part.strip() for part in value.split("|")} if isinstance(value, str) else set(value)
    if not types <= {"c2p", "p2c", ""}:
        raise PlanError("model.pos_att_type", value, "names unknown position scores", "Use c2p, p2c or both.")
    return types - {""}


@family("deberta-v2")
def _(f: Fields) -> Architecture:
    hidden, heads = f.size("hidden_size"), f.size("num_attention_heads")
    if f.size("conv_kernel_size", default=0, zero=True):
        raise PlanError(
            "model.conv_kernel_size", f.config["conv_kernel_size"], "is not covered", "Use 0, as DeBERTa 3 does."
        )
    relative, types = f.flag("relative_attention", False), _position_types(f)
    if relative and "layer_norm" not in f.text("norm_rel_ebd", default="none").lower():
        raise PlanError(
            "model.norm_rel_ebd",
            f.config.get("norm_rel_ebd"),
            "is not covered",
            "Use layer_norm, as every published one does.",
        )
    if f.size("embedding_size", default=hidden) != hidden:
        raise PlanError("model.embedding_size", f.config["embedding_size"], "is not covered", "Use the hidden size.")
    if f.config.get("legacy") is False:
        raise PlanError("model.legacy", False, "is not covered", "Use true, transformers' default.")
    if relative and not types:
        raise PlanError("model.pos_att_type", None, "is missing beside relative_attention", "Use c2p|p2c.")
    longest = f.config.get("max_relative_positions", -1)
    longest = longest if isinstance(longest, int) and longest > 0 else f.size("max_position_embeddings", default=512)
    buckets = f.config.get("position_buckets", -1)
    span = (buckets if isinstance(buckets, int) and buckets > 0 else longest) if relative else 0
    biased = f.flag("position_biased_input", True)
    base = bert_like(
        f,
        "deberta",
        pooler=True,
        sdpa=False,
        learned_positions=f.size("max_position_embeddings", default=512) if biased else 0,
        token_types=f.size("type_vocab_size", default=0, zero=True),
        head_dim=f.size("attention_head_size", default=f.divided(hidden, heads, "num_attention_heads")),
        classifier_activation="gelu",
        classifier_dropout=f.fraction("cls_dropout", default=f.fraction("hidden_dropout_prob", default=0.1)),
        embedding_masked=True,
        front=DisentangledFront(2 * span),
        mixer=DisentangledAttention(span, f.flag("share_att_key", False), "c2p" in types, "p2c" in types),
    )
    return replace(base, names=replace(base.names, pooler="pooler.dense"))
