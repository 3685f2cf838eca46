"""Decoders that differ from Llama in a few traits: Starcoder2, Nemotron, StableLM, Granite, Gemma 3, Arcee, Seed-OSS, Ministral."""

from __future__ import annotations

from planner.workload.architecture import Architecture, Names
from planner.workload.families.fields import Fields, family
from planner.workload.families.gated import layer_windows, llama, sandwiched_gemma


@family("starcoder2")
def _(f: Fields) -> Architecture:
    bias, window = f.flag("use_bias", True), f.size("sliding_window", default=0, zero=True)
    return llama(
        f,
        kv_heads=2,
        norm="layer",
        norm_bias=True,
        gated=False,
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=bias,
        activation=f.text("hidden_act", default="gelu_pytorch_tanh"),
        windows=(window,) if window else (),
        tied=f.flag("tie_word_embeddings", True),
        embedding_dropout=f.fraction("embedding_dropout"),
        hidden_dropout=f.fraction("residual_dropout"),
        names=Names(up="mlp.c_fc", down="mlp.c_proj"),
    )


@family("nemotron")
def _(f: Fields) -> Architecture:
    bias = f.flag("attention_bias", False)
    return llama(
        f,
        rotary=0.5,
        fresh_rotary=True,
        norm="layer-offset",
        norm_bias=True,
        gated=False,
        activation=f.text("hidden_act", default="relu2"),
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=f.flag("mlp_bias", False),
    )


@family("arcee")
def _(f: Fields) -> Architecture:
    bias = f.flag("attention_bias", False)
    return llama(
        f,
        gated=False,
        activation=f.text("hidden_act", default="relu2"),
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=f.flag("mlp_bias", False),
    )


@family("stablelm")
def _(f: Fields) -> Architecture:
    parallel = f.flag("use_parallel_residual", False)
    return llama(
        f,
        kv_heads=32,
        rotary=0.25,
        fresh_rotary=True,
        norm="layer",
        norm_bias=True,
        qkv_bias=f.flag("use_qkv_bias", False),
        hidden_dropout=f.fraction("hidden_dropout"),
        placement="parallel" if parallel else "pre",
        qk_norm="heads" if f.flag("qk_layernorm", False) else "none",
        names=Names(
            qk_norms=("self_attn.q_layernorm", "self_attn.k_layernorm"),
            norms=("input_layernorm", "post_attention_layernorm"),
        ),
    )


@family("granite")
def _(f: Fields) -> Architecture:
    bias = f.flag("attention_bias", False)
    return llama(
        f,
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=f.flag("mlp_bias", False),
        embedding_scaled=True,
        residual_scaled=True,
        logits_scaled=True,
    )


@family("gemma3_text")
def _(f: Fields) -> Architecture:
    period = f.size("sliding_window_pattern", default=6)
    size = f.size("sliding_window", default=4096, zero=True) or None
    return sandwiched_gemma(
        f,
        qk_norm="head",
        rotary_bases=2,
        logit_softcap=f.config.get("final_logit_softcapping") is not None,
        windows=layer_windows(f, f.layers("num_hidden_layers"), lambda i: (i + 1) % period != 0, size),
    )


@family("seed_oss")
def _(f: Fields) -> Architecture:
    return llama(
        f,
        kv_heads=8,
        head_dim=128,
        qkv_bias=f.flag("attention_bias", True),
        out_bias=f.flag("attention_out_bias", False),
        mlp_bias=f.flag("mlp_bias", False),
        attention_dropout=f.fraction("attention_dropout", default=0.1),
        hidden_dropout=f.fraction("residual_dropout", default=0.1),
    )


@family("ministral")
def _(f: Fields) -> Architecture:
    layers, size = f.layers("num_hidden_layers"), f.size("sliding_window", default=4096, zero=True) or None
    return llama(f, kv_heads=8, windows=layer_windows(f, layers, lambda i: True, size))
