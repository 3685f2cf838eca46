"""Decoders of 2021 to 2023 with layouts of their own: GPT-Neo, BLOOM, MPT, CodeGen, Falcon, Persimmon, XGLM, BioGPT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Names
from planner.workload.families.fields import Fields, family


def _decoder(f: Fields, hidden: int, layers: int, heads: int, ffn: int, **changes: Any) -> Architecture:
    """LayerNorm before each branch and a plain MLP, unless `changes` say otherwise."""
    traits: dict[str, Any] = {
        "kv_heads": heads,
        "head_dim": f.divided(hidden, heads, "num_attention_heads"),
        "norm": "layer",
        "norm_bias": True,
        "gated": False,
    }
    return Architecture(
        model_type=f.config["model_type"],
        hidden=hidden,
        layers=layers,
        heads=heads,
        ffn=ffn,
        vocab=f.size("vocab_size"),
        **{**traits, **changes},
    )


def _without(f: Fields, *names: str) -> None:
    for name in names:
        if f.config.get(name):
            raise PlanError(f"model.{name}", f.config[name], "is not covered", "Leave it out, as published models do.")


def _local_windows(f: Fields, layers: int) -> tuple[int | None, ...]:
    """`attention_types`: [[["global", "local"], 12]] repeats the pattern."""
    size = f.size("window_size", default=256)
    types = f.config.get("attention_types") or [[["global", "local"], 12]]
    try:
        names = [name for pattern, times in types for _ in range(times) for name in pattern]
    except (TypeError, ValueError):
        names = []
    if len(names) != layers or any(name not in ("global", "local") for name in names):
        raise PlanError(
            "model.attention_types",
            types,
            f"does not name the {layers} layers",
            'Give patterns and repeats, for example [[["global", "local"], 12]].',
        )
    windows = tuple(size if name == "local" else None for name in names)
    return () if not any(windows) else windows[:2] if windows == (windows[:2] * layers)[:layers] else windows


@family("gpt_neo")
def _(f: Fields) -> Architecture:
    hidden, layers = f.size("hidden_size"), f.layers("num_layers", "num_hidden_layers")
    positions = f.size("max_position_embeddings", default=2048)
    return _decoder(
        f,
        hidden,
        layers,
        f.size("num_heads", "num_attention_heads"),
        f.size("intermediate_size", default=4 * hidden),
        max_positions=positions,
        learned_positions=positions,
        causal_tables=positions,
        windows=_local_windows(f, layers),
        activation=f.text("activation_function", default="gelu_new"),
        out_bias=True,
        mlp_bias=True,
        softmax="wide",
        sdpa=False,
        tied=f.flag("tie_word_embeddings", True),
        embedding_dropout=f.fraction("embed_dropout"),
        hidden_dropout=f.fraction("resid_dropout"),
        attention_dropout=f.fraction("attention_dropout"),
        names=Names(
            layer="transformer.h.{i}",
            query="attn.attention.q_proj",
            key="attn.attention.k_proj",
            value="attn.attention.v_proj",
            out="attn.attention.out_proj",
            up="mlp.c_fc",
            down="mlp.c_proj",
            norms=("ln_1", "ln_2"),
            embedding="transformer.wte",
            positions="transformer.wpe",
            final_norm="transformer.ln_f",
        ),
    )


@family("bloom")
def _(f: Fields) -> Architecture:
    hidden = f.size("n_embed", "hidden_size")
    if f.flag("apply_residual_connection_post_layernorm", False):
        raise PlanError(
            "model.apply_residual_connection_post_layernorm",
            True,
            "is not covered",
            "Use false, as every published BLOOM does.",
        )
    if f.size("pretraining_tp", default=1) > 1 and f.flag("slow_but_exact", False):
        raise PlanError("model.slow_but_exact", True, "is not covered", "Use false, transformers' default.")
    return _decoder(
        f,
        hidden,
        f.layers("n_layer", "num_hidden_layers"),
        f.size("n_head", "num_attention_heads"),
        4 * hidden,
        max_positions=None,
        fused_qkv=True,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        activation="bloom_gelu",
        score_scaling="fused",
        sdpa=False,
        tied=f.flag("tie_word_embeddings", True),
        hidden_dropout=f.fraction("hidden_dropout"),
        attention_dropout=f.fraction("attention_dropout"),
        names=Names(
            layer="transformer.h.{i}",
            fused="self_attention.query_key_value",
            out="self_attention.dense",
            up="mlp.dense_h_to_4h",
            down="mlp.dense_4h_to_h",
            embedding="transformer.word_embeddings",
            embedding_norm="transformer.word_embeddings_layernorm",
            final_norm="transformer.ln_f",
        ),
    )


@family("mpt")
def _(f: Fields) -> Architecture:
    hidden = f.size("d_model", "hidden_size")
    inner = f.config.get("attn_config") or {}
    attention = Fields(inner if isinstance(inner, Mapping) else {})
    dropout = attention.fraction("attn_pdrop")
    return _decoder(
        f,
        hidden,
        f.layers("n_layers", "num_hidden_layers"),
        f.size("n_heads", "num_attention_heads"),
        4 * hidden,
        max_positions=f.size("max_seq_len", default=2048),
        fused_qkv=True,
        norm_bias=False,
        activation="gelu",
        score_bias="fp32",
        clipped=bool(attention.config.get("clip_qkv")),
        sdpa=False,
        tied=f.flag("tie_word_embeddings", True),
        hidden_dropout=dropout,
        attention_dropout=dropout,
        names=Names(
            layer="transformer.blocks.{i}",
            fused="attn.Wqkv",
            out="attn.out_proj",
            up="ffn.up_proj",
            down="ffn.down_proj",
            norms=("norm_1", "norm_2"),
            embedding="transformer.wte",
            final_norm="transformer.norm_f",
        ),
    )


@family("codegen")
def _(f: Fields) -> Architecture:
    hidden = f.size("n_embd", "hidden_size")
    return _decoder(
        f,
        hidden,
        f.layers("n_layer", "num_hidden_layers"),
        f.size("n_head", "num_attention_heads"),
        f.size("n_inner", default=4 * hidden),
        max_positions=f.size("n_positions", "max_position_embeddings", default=2048),
        placement="parallel",
        fused_qkv=True,
        qkv_regrouped=True,
        mlp_bias=True,
        head_bias=True,
        rotary_dim=f.size("rotary_dim", default=64),
        rotary_repeated=True,
        activation=f.text("activation_function", default="gelu_new"),
        tied=f.flag("tie_word_embeddings", False),
        embedding_dropout=f.fraction("embd_pdrop"),
        hidden_dropout=f.fraction("resid_pdrop"),
        attention_dropout=f.fraction("attn_pdrop"),
        names=Names(
            layer="transformer.h.{i}",
            fused="attn.qkv_proj",
            out="attn.out_proj",
            up="mlp.fc_in",
            down="mlp.fc_out",
            norms=("ln_1",),
            embedding="transformer.wte",
            final_norm="transformer.ln_f",
        ),
    )


@family("persimmon")
def _(f: Fields) -> Architecture:
    hidden, heads = f.size("hidden_size"), f.size("num_attention_heads")
    head_dim = f.divided(hidden, heads, "num_attention_heads")
    return _decoder(
        f,
        hidden,
        f.layers("num_hidden_layers"),
        heads,
        f.size("intermediate_size"),
        max_positions=f.size("max_position_embeddings", default=16384),
        fused_qkv=True,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        qk_norm="head" if f.flag("qk_layernorm", True) else "none",
        rotary_dim=int(head_dim * f.rope("partial_rotary_factor", 0.5)),
        fresh_rotary=True,
        activation=f.text("hidden_act", default="relu2"),
        tied=f.flag("tie_word_embeddings", False),
        hidden_dropout=f.fraction("hidden_dropout"),
        attention_dropout=f.fraction("attention_dropout"),
        names=Names(
            fused="self_attn.query_key_value",
            out="self_attn.dense",
            up="mlp.dense_h_to_4h",
            down="mlp.dense_4h_to_h",
            qk_norms=("self_attn.q_layernorm", "self_attn.k_layernorm"),
            final_norm="model.final_layernorm",
        ),
    )


def _falcon_norms(f: Fields, new: bool, parallel: bool) -> tuple[str, ...]:
    if not parallel:
        return ("input_layernorm", "post_attention_layernorm")
    count = f.size("num_ln_in_parallel_attn", default=2 if new else 1)
    return ("ln_attn", "ln_mlp") if count == 2 else ("input_layernorm",)


@family("falcon")
def _(f: Fields) -> Architecture:
    hidden, heads = f.size("n_embed", "hidden_size"), f.size("num_attention_heads", "n_head")
    new, parallel, alibi = (
        f.flag("new_decoder_architecture", False),
        f.flag("parallel_attn", True),
        f.flag("alibi", False),
    )
    if new and not parallel:
        raise PlanError("model.parallel_attn", False, "does not go with new_decoder_architecture", "Use true.")
    norms = _falcon_norms(f, new, parallel)
    if len(norms) == 2 and parallel and not new:
        raise PlanError("model.num_ln_in_parallel_attn", 2, "needs new_decoder_architecture", "Use 1, or leave it out.")
    grouped = 1 if f.flag("multi_query", True) else heads
    head_dim, bias = f.divided(hidden, heads, "num_attention_heads"), f.flag("bias", False)
    return _decoder(
        f,
        hidden,
        f.layers("num_hidden_layers", "n_layer"),
        heads,
        f.size("ffn_hidden_size", default=4 * hidden),
        kv_heads=f.size("num_kv_heads", default=heads) if new else grouped,
        max_positions=f.size("max_position_embeddings", default=2048),
        placement="parallel" if parallel else "pre",
        parallel_norms=len(norms),
        fused_qkv=True,
        kv_repeated_early=new,
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=bias,
        bias_added=True,
        rotary_dim=0 if alibi else head_dim,
        activation=f.text("activation", default="gelu"),
        softmax="plain",
        score_scaling="fused",
        masks_built=True,
        mask_heads=heads if alibi else 1,
        sdpa=new or grouped == heads,
        tied=f.flag("tie_word_embeddings", True),
        hidden_dropout=f.fraction("hidden_dropout"),
        attention_dropout=f.fraction("attention_dropout") if alibi else 0.0,
        names=Names(
            layer="transformer.h.{i}",
            fused="self_attention.query_key_value",
            out="self_attention.dense",
            up="mlp.dense_h_to_4h",
            down="mlp.dense_4h_to_h",
            norms=norms,
            embedding="transformer.word_embeddings",
            final_norm="transformer.ln_f",
        ),
    )


@family("xglm")
def _(f: Fields) -> Architecture:
    _without(f, "layerdrop", "add_cross_attention")
    return _decoder(
        f,
        f.size("d_model", "hidden_size"),
        f.layers("num_layers", "num_hidden_layers"),
        f.size("attention_heads", "num_attention_heads"),
        f.size("ffn_dim"),
        max_positions=f.size("max_position_embeddings", default=2048),
        sinusoid_rows=f.size("max_position_embeddings", default=2048) + 2,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        query_scaled=True,
        score_scaling="fused",
        scores_floored=True,
        softmax="plain",
        sdpa=False,
        embedding_scaled=True,
        tied=f.flag("tie_word_embeddings", True),
        activation=f.text("activation_function", default="gelu"),
        embedding_dropout=f.fraction("dropout", default=0.1),
        hidden_dropout=f.fraction("dropout", default=0.1),
        attention_dropout=f.fraction("attention_dropout", default=0.1),
        activation_dropout=f.fraction("activation_dropout"),
        names=Names(
            out="self_attn.out_proj",
            up="fc1",
            down="fc2",
            norms=("self_attn_layer_norm", "final_layer_norm"),
            final_norm="model.layer_norm",
        ),
    )


@family("biogpt")
def _(f: Fields) -> Architecture:
    _without(f, "layerdrop")
    positions = f.size("max_position_embeddings", default=1024)
    return _decoder(
        f,
        f.size("hidden_size"),
        f.layers("num_hidden_layers"),
        f.size("num_attention_heads"),
        f.size("intermediate_size"),
        max_positions=positions,
        learned_positions=positions + 2,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        softmax="plain",
        embedding_scaled=True,
        tied=f.flag("tie_word_embeddings", True),
        activation=f.text("hidden_act", default="gelu"),
        embedding_dropout=f.fraction("hidden_dropout_prob", default=0.1),
        hidden_dropout=f.fraction("hidden_dropout_prob", default=0.1),
        attention_dropout=f.fraction("attention_probs_dropout_prob", default=0.1),
        activation_dropout=f.fraction("activation_dropout"),
        names=Names(
            layer="biogpt.layers.{i}",
            out="self_attn.out_proj",
            up="fc1",
            down="fc2",
            norms=("self_attn_layer_norm", "final_layer_norm"),
            embedding="biogpt.embed_tokens",
            positions="biogpt.embed_positions",
            final_norm="biogpt.layer_norm",
            head="output_projection",
        ),
    )
