"""Encoders built of decoder parts: rotary positions, gated MLPs, local attention (ModernBERT, EuroBERT, Nomic BERT)."""

from __future__ import annotations

from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Names
from planner.workload.families.fields import Fields, family
from planner.workload.families.gated import layer_windows, llama

_ENCODER: dict[str, Any] = {
    "causal": False,
    "classifier_bias": True,
    "pooler": True,
    "default_head": "sequence-classification",
}


def _pooling(f: Fields, default: str, known: dict[str, str]) -> str:
    name = f.text("classifier_pooling", default=default)
    if name not in known:
        raise PlanError("model.classifier_pooling", name, "is not a known pooling", f"Use one of {', '.join(known)}.")
    return known[name]


@family("modernbert")
def _(f: Fields) -> Architecture:
    layers, period = f.layers("num_hidden_layers"), f.size("global_attn_every_n_layers", default=3)
    window = f.size("local_attention", default=128) // 2
    windows = layer_windows(f, layers, lambda i: i % period != 0, window)
    bias, mlp_bias = f.flag("attention_bias", False), f.flag("mlp_bias", False)
    return llama(
        f,
        **_ENCODER,
        norm="layer",
        norm_bias=f.flag("norm_bias", False),
        fused_qkv=True,
        fused_gate_up=True,
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=mlp_bias,
        activation=f.text("hidden_activation", default="gelu"),
        windows=windows,
        rotary_bases=len({*windows}) or 1,
        variants=({"first_norm": False}, *({} for _ in range(layers - 1))),
        embedding_dropout=f.fraction("embedding_dropout"),
        hidden_dropout=f.fraction("attention_dropout"),
        branch_dropout="attention",
        activation_dropout=f.fraction("mlp_dropout"),
        tied=f.flag("tie_word_embeddings", True),
        head_bias=f.flag("decoder_bias", True),
        head_transform=True,
        masked_loss_upcast=True,
        pooler_bias=f.flag("classifier_bias", False),
        pooler_norm=True,
        pooling=_pooling(f, "cls", {"cls": "first", "mean": "mean"}),
        classifier_activation="gelu",
        classifier_dropout=f.fraction("classifier_dropout"),
        num_labels=f.labels(),
        names=Names(
            fused="attn.Wqkv",
            out="attn.Wo",
            up="mlp.Wi",
            down="mlp.Wo",
            norms=("attn_norm", "mlp_norm"),
            embedding="model.embeddings.tok_embeddings",
            embedding_norm="model.embeddings.norm",
            final_norm="model.final_norm",
            classifier="classifier",
            pooler="head.dense",
            transform=("head.dense", "head.norm"),
            decoder="decoder",
        ),
    )


@family("eurobert")
def _(f: Fields) -> Architecture:
    bias, mlp_bias = f.flag("attention_bias", False), f.flag("mlp_bias", False)
    return llama(
        f,
        **_ENCODER,
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=mlp_bias,
        masked_head=True,
        masked_loss_upcast=True,
        head_bias=mlp_bias,
        classifier_activation="gelu",
        pooling=_pooling(f, "late", {"late": "late", "bos": "first", "mean": "mean"}),
        num_labels=f.labels(),
        names=Names(classifier="classifier", pooler="dense"),
    )


@family("nomic_bert")
def _(f: Fields) -> Architecture:
    dropout = f.fraction("hidden_dropout_prob")
    return llama(
        f,
        **_ENCODER,
        placement="post",
        norm="layer",
        norm_bias=True,
        softmax="plain",
        final_norm=False,
        token_types=f.size("type_vocab_size", default=2),
        embedding_dropout=dropout,
        hidden_dropout=dropout,
        attention_dropout=f.fraction("attention_probs_dropout_prob"),
        tied=f.flag("tie_word_embeddings", True),
        head_bias=True,
        head_transform=True,
        classifier_dropout=f.fraction("classifier_dropout", default=dropout),
        num_labels=f.labels(),
        names=Names(
            layer="nomic_bert.layers.{i}",
            norms=("post_attention_layernorm", "post_mlp_layernorm"),
            embedding="nomic_bert.embeddings.word_embeddings",
            token_types="nomic_bert.embeddings.token_type_embeddings",
            embedding_norm="nomic_bert.embeddings.LayerNorm",
            classifier="classifier",
            pooler="nomic_bert.pooler.dense",
            transform=("cls.predictions.transform.dense", "cls.predictions.transform.layer_norm"),
            decoder="cls.predictions.decoder",
        ),
    )
