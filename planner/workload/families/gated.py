"""Decoders with rotary positions, RMS norm and a gated MLP: Llama and its relatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Names
from planner.workload.families.fields import Fields, family


def llama(f: Fields, **changes: Any) -> Architecture:
    """What Llama and its relatives share; `changes` are a family's own conventions."""
    hidden, heads = f.size("hidden_size"), f.size("num_attention_heads")
    head_dim = (
        f.size("head_dim", default=0, zero=True)
        or changes.pop("head_dim", 0)
        or f.divided(hidden, heads, "num_attention_heads")
    )
    changes.pop("head_dim", None)
    rotary = int(head_dim * f.rope("partial_rotary_factor", changes.pop("rotary", 1.0)))
    base = Architecture(
        model_type=f.config["model_type"],
        hidden=hidden,
        layers=f.layers("num_hidden_layers"),
        heads=heads,
        kv_heads=f.size("num_key_value_heads", default=changes.pop("kv_heads", heads)),
        head_dim=head_dim,
        ffn=f.size("intermediate_size"),
        vocab=f.size("vocab_size"),
        max_positions=f.size("max_position_embeddings", default=0, zero=True) or None,
        rotary_dim=rotary,
        activation=f.text("hidden_act", default="silu"),
        attention_dropout=f.fraction("attention_dropout"),
        tied=f.flag("tie_word_embeddings", False),
    )
    return replace(base, **changes)


def layer_windows(f: Fields, layers: int, pattern: Callable[[int], bool], size: int | None) -> tuple[int | None, ...]:
    """Window per layer from `layer_types` when the config lists them, else by the family's rule."""
    if size is None:
        return ()
    types = f.config.get("layer_types")
    if types is not None:
        if not isinstance(types, list) or len(types) != layers or not all(isinstance(t, str) for t in types):
            raise PlanError(
                "model.layer_types",
                types,
                f"does not name the {layers} layers",
                "List one type per layer, or leave it out.",
            )
        windows = tuple(size if t == "sliding_attention" else None for t in types)
    else:
        windows = tuple(size if pattern(i) else None for i in range(layers))
    if len(set(windows)) == 1:
        return windows[:1] if windows[0] is not None else ()
    return windows[:2] if windows == (windows[:2] * layers)[:layers] else windows


@family("llama")
def _(f: Fields) -> Architecture:
    bias = f.flag("attention_bias", False)
    return llama(f, qkv_bias=bias, out_bias=bias, mlp_bias=f.flag("mlp_bias", False))


@family("mistral")
def _(f: Fields) -> Architecture:
    window = f.size("sliding_window", default=0, zero=True) if "sliding_window" in f.config else 4096
    return llama(f, kv_heads=8, windows=(window,) if window else ())


@family("qwen2")
def _(f: Fields) -> Architecture:
    layers = f.layers("num_hidden_layers")
    size = (f.size("sliding_window", default=4096) if f.flag("use_sliding_window", False) else 0) or None
    first = f.size("max_window_layers", default=28, zero=True)
    return llama(f, kv_heads=32, qkv_bias=True, windows=layer_windows(f, layers, lambda i: i >= first, size))


@family("qwen3")
def _(f: Fields) -> Architecture:
    layers, bias = f.layers("num_hidden_layers"), f.flag("attention_bias", False)
    size = (f.size("sliding_window", default=4096) if f.flag("use_sliding_window", False) else 0) or None
    first = f.size("max_window_layers", default=28, zero=True)
    return llama(
        f,
        kv_heads=32,
        head_dim=128,
        qkv_bias=bias,
        out_bias=bias,
        qk_norm="head",
        windows=layer_windows(f, layers, lambda i: i >= first, size),
    )


@family("gemma")
def _(f: Fields) -> Architecture:
    bias = f.flag("attention_bias", False)
    activation = (
        f.text("hidden_activation", default="gelu_pytorch_tanh")
        if f.config.get("hidden_activation")
        else "gelu_pytorch_tanh"
    )
    return llama(
        f,
        head_dim=256,
        qkv_bias=bias,
        out_bias=bias,
        norm="rms-offset",
        embedding_scaled=True,
        activation=activation,
        tied=f.flag("tie_word_embeddings", True),
    )


def sandwiched_gemma(f: Fields, **changes: Any) -> Architecture:
    """What Gemma 2 and 3 share: norms around each branch, scaled embeddings, a gated GELU."""
    bias = f.flag("attention_bias", False)
    names = Names(
        norms=("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
    )
    return llama(
        f,
        kv_heads=4,
        head_dim=256,
        qkv_bias=bias,
        out_bias=bias,
        norm="rms-offset",
        placement="sandwich",
        embedding_scaled=True,
        activation=f.text("hidden_activation", default="gelu_pytorch_tanh"),
        tied=f.flag("tie_word_embeddings", True),
        names=names,
        **changes,
    )


@family("gemma2")
def _(f: Fields) -> Architecture:
    size = f.size("sliding_window", default=4096, zero=True) or None
    return sandwiched_gemma(
        f,
        attention_softcap="attn_logit_softcapping" not in f.config or f.config["attn_logit_softcapping"] is not None,
        logit_softcap="final_logit_softcapping" not in f.config or f.config["final_logit_softcapping"] is not None,
        windows=layer_windows(f, f.layers("num_hidden_layers"), lambda i: not i % 2, size),
        sdpa=False,
    )


@family("olmo2")
def _(f: Fields) -> Architecture:
    bias = f.flag("attention_bias", False)
    names = Names(norms=("post_attention_layernorm", "post_feedforward_layernorm"))
    return llama(f, qkv_bias=bias, out_bias=bias, norm="rms-fp32", placement="post-branch", qk_norm="full", names=names)


@family("phi3")
def _(f: Fields) -> Architecture:
    names = Names(fused="self_attn.qkv_proj", up="mlp.gate_up_proj")
    window = f.size("sliding_window", default=0, zero=True)
    return llama(
        f,
        fused_qkv=True,
        fused_gate_up=True,
        fresh_rotary=True,
        names=names,
        windows=(window,) if window else (),
        embedding_dropout=0.0,
        hidden_dropout=f.fraction("resid_pdrop"),
    )
