"""Encoders with rotary positions or norms that differ from BERT's: Jina embeddings, GTE, ESM; and BitNet's decoder."""

from __future__ import annotations

from dataclasses import replace

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Names
from planner.workload.families.encoders import bert_like
from planner.workload.families.fields import Fields, family
from planner.workload.families.gated import llama
from planner.workload.families.plain import gpt2


def _rotated(f: Fields, prefix: str, **changes: object) -> Architecture:
    """What Jina's and GTE's encoders share: rotary positions, and Llama's names of the branches."""
    base = bert_like(f, prefix, learned_positions=0, classifier_hidden=False, pooler=True, **changes)
    names = replace(
        base.names, layer=prefix + ".layers.{i}", query="self_attn.q_proj", key="self_attn.k_proj", value="self_attn.v_proj",
        out="self_attn.o_proj", up="mlp.fc1", down="mlp.fc2", norms=("post_attention_layernorm", "post_mlp_layernorm"), positions="",
        head="lm_head",
    )  # fmt: skip
    return replace(base, rotary_dim=base.head_dim, softmax="upcast", names=names)


@family("jina_embeddings_v3")
def _(f: Fields) -> Architecture:
    inner = Fields({"type_vocab_size": 1, "max_position_embeddings": 8194, **f.config})
    made = _rotated(inner, "roberta")
    return replace(made, classifier_hidden=True, pooler=False)


@family("gte")
def _(f: Fields) -> Architecture:
    inner = Fields({"type_vocab_size": 1, "max_position_embeddings": 8192, "attention_probs_dropout_prob": 0.0, **f.config})
    made = _rotated(inner, "gte")
    names = replace(made.names, gate="mlp.gate_proj", up="mlp.up_proj", down="mlp.down_proj")
    return replace(made, pools=False, gated=True, mlp_bias=False, down_bias=True, activation_dropout=made.hidden_dropout, names=names)


@family("esm")
def _(f: Fields) -> Architecture:
    kind = f.text("position_embedding_type", default="absolute")
    if kind not in ("absolute", "rotary"):
        raise PlanError("model.position_embedding_type", kind, "is not covered for esm", "Use rotary or absolute.")
    if f.flag("is_folding_model", False):
        raise PlanError("model.is_folding_model", True, "is not covered for esm", "Use false: the language model alone.")
    inner = Fields({"max_position_embeddings": 1026, **f.config})
    rotary = kind == "rotary"
    base = bert_like(
        inner, "esm", token_types=0, placement="pre", final_norm=True, classifier_hidden=True, query_scaled=True, embedding_dropout=0.0,
        classifier_dropout=inner.fraction("hidden_dropout_prob", default=0.1),
    )  # fmt: skip
    names = replace(
        base.names, norms=("attention.LayerNorm", "LayerNorm"), final_norm="esm.encoder.emb_layer_norm_after", token_types="",
        positions="" if rotary else "esm.embeddings.position_embeddings",
        embedding_norm="esm.embeddings.layer_norm" if f.flag("emb_layer_norm_before", False) else "",
    )  # fmt: skip
    return replace(
        base, rotary_dim=base.head_dim if rotary else 0, learned_positions=0 if rotary else base.learned_positions, names=names,
        token_dropout=f.flag("token_dropout", False), activation="gelu_erf", biased_apart=True,
        spare=("esm.contact_head.regression", base.layers * base.heads, 1),
    )  # fmt: skip


@family("bitnet")
def _(f: Fields) -> Architecture:
    bias = f.flag("attention_bias", False)
    return llama(
        f,
        kv_heads=5,
        activation=f.text("hidden_act", default="relu2"),
        qkv_bias=bias,
        out_bias=bias,
        names=Names(context_norm="self_attn.attn_sub_norm", inner_norm="mlp.ffn_sub_norm"),
    )


@family("gpt-sw3")
def _(f: Fields) -> Architecture:
    return replace(gpt2(f), model_type="gpt-sw3")
