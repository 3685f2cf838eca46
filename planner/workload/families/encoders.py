"""Encoders: BERT, RoBERTa and their relatives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planner.workload.architecture import Architecture, Names
from planner.workload.families.fields import Fields, family


def bert_like(f: Fields, prefix: str, **changes: Any) -> Architecture:
    """BERT's layout under the module name `prefix`; `changes` are a family's own conventions."""
    hidden, heads = f.size("hidden_size"), f.size("num_attention_heads")
    names = Names(
        layer=prefix + ".encoder.layer.{i}",
        query="attention.self.query",
        key="attention.self.key",
        value="attention.self.value",
        out="attention.output.dense",
        up="intermediate.dense",
        down="output.dense",
        norms=("attention.output.LayerNorm", "output.LayerNorm"),
        embedding=f"{prefix}.embeddings.word_embeddings",
        positions=f"{prefix}.embeddings.position_embeddings",
        token_types=f"{prefix}.embeddings.token_type_embeddings",
        extra_table=f"{prefix}.embeddings.task_type_embeddings",
        embedding_norm=f"{prefix}.embeddings.LayerNorm",
        head="lm_head" if changes.get("classifier_hidden") else "cls.predictions",
        pooler=f"{prefix}.pooler.dense",
        classifier="classifier",
    )
    positions = f.size("max_position_embeddings", default=512)
    dropout = f.fraction("hidden_dropout_prob", default=0.1)
    base = Architecture(
        model_type=f.config["model_type"],
        hidden=hidden,
        layers=f.layers("num_hidden_layers"),
        heads=heads,
        kv_heads=heads,
        head_dim=f.divided(hidden, heads, "num_attention_heads"),
        ffn=f.size("intermediate_size"),
        vocab=f.size("vocab_size"),
        max_positions=positions,
        learned_positions=positions,
        token_types=f.size("type_vocab_size", default=2, zero=True),
        causal=f.flag("is_decoder", False),
        norm="layer",
        norm_bias=True,
        placement="post",
        final_norm=False,
        activation=f.text("hidden_act", default="gelu"),
        gated=False,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        softmax="plain",
        tied=f.flag("tie_word_embeddings", True),
        head_bias=True,
        head_transform=True,
        pools=True,
        num_labels=f.labels(),
        embedding_dropout=dropout,
        hidden_dropout=dropout,
        attention_dropout=f.fraction("attention_probs_dropout_prob", default=0.1),
        classifier_dropout=f.fraction("classifier_dropout", default=dropout),
        classifier_bias=True,
        default_head="sequence-classification",
        names=names,
    )
    return replace(base, **changes)


@family("bert")
def _(f: Fields) -> Architecture:
    return bert_like(f, "bert", pooler=True)


@family("roberta", "xlm-roberta", "camembert")
def _(f: Fields) -> Architecture:
    # positions start behind the padding index (1), so two rows of the table are never used
    positions = f.size("max_position_embeddings", default=512)
    return bert_like(f, "roberta", classifier_hidden=True, max_positions=max(1, positions - 2))
