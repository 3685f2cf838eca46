"""Decoders with experts that differ from Qwen's, DeepSeek's or Cohere's in a few traits: Mellum, Kolibri, Hunyuan 3, Cohere 2 MoE."""

from __future__ import annotations

from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Experts, Names
from planner.workload.families.fields import Fields, family
from planner.workload.families.fine_grained import SHARED, listed_dense
from planner.workload.families.gated import layer_windows, llama
from planner.workload.families.relatives import cohere, listed, sliding, unrotated
from planner.workload.families.sparse import UNSTACKED, dense_layers, without_router_loss


def _listed_only(f: Fields, dense_first: int) -> tuple[dict[str, Any], ...]:
    """Layers with a plain MLP: those that `mlp_layer_types` names, without it the first few."""
    if f.config.get("mlp_layer_types") is not None:
        return listed_dense(f, 0)
    return dense_layers(f, lambda i: i < dense_first)


@family("mellum")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    bias, layers = f.flag("attention_bias", False), f.layers("num_hidden_layers")
    window = None if f.config.get("sliding_window", 1024) is None else f.size("sliding_window", default=1024)
    kinds = {*listed(f, "layer_types", layers, lambda i: "full_attention")}
    experts = Experts(
        count=f.size("num_experts", "num_local_experts", default=64),
        active=f.size("num_experts_per_tok", default=8),
        ffn=f.size("moe_intermediate_size", default=896),
        routing="renormalized" if f.flag("norm_topk_prob", True) else "softmax",
        unstacked=UNSTACKED,
    )
    return llama(
        f,
        kv_heads=4,
        head_dim=128,
        qkv_bias=bias,
        out_bias=bias,
        qk_norm="head",
        windows=layer_windows(f, layers, lambda i: False, window),
        rotary_bases=len(kinds),
        experts=experts,
        variants=_listed_only(f, 0),
    )


@family("kolibri1")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    windows, slides = sliding(f, 5, 513)
    width = f.size("moe_intermediate_size", default=512)
    experts = Experts(
        count=f.size("num_experts", default=384),
        active=f.size("num_experts_per_tok", default=6),
        ffn=width,
        routing="sigmoid-renormalized" if f.flag("norm_topk_prob", False) else "sigmoid",
        wide=True,
        shared=f.size("shared_expert_intermediate_size", default=512),
        upcast=True,
        correction="buffer",
    )
    norms = ("input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm")
    return llama(
        Fields({"intermediate_size": width, **f.config}),
        kv_heads=4,
        head_dim=128,
        placement="sandwich",
        qk_norm="head",
        windows=windows,
        variants=unrotated(slides) if windows else (),
        experts=experts,
        names=Names(norms=norms, shared_expert="mlp.shared_experts"),
    )


@family("hy_v3")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    bias, width = f.flag("attention_bias", False), f.size("moe_intermediate_size", default=1536)
    experts = Experts(
        count=f.size("num_experts", "num_local_experts", default=192),
        active=f.size("num_experts_per_tok", default=8),
        ffn=width,
        routing="sigmoid-renormalized",
        wide=True,
        shared=width * f.size("num_shared_experts", default=1),
        precise=True,
        correction="buffer",
        scaled=True,
    )
    return llama(
        f,
        kv_heads=8,
        head_dim=128,
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=f.flag("mlp_bias", False),
        qk_norm="head",
        experts=experts,
        variants=_listed_only(f, 1),
        names=SHARED,
    )


@family("cohere2_moe")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    layers, ffn = f.layers("num_hidden_layers"), f.size("intermediate_size", default=22528)
    choice = f.text("expert_selection_fn", default="softmax")
    if choice not in ("softmax", "sigmoid"):
        raise PlanError("model.expert_selection_fn", choice, "is not covered", "Use softmax or sigmoid.")
    windows, slides = sliding(f, f.size("sliding_window_pattern", default=4), 4096)
    dense = list(listed(f, "mlp_layer_types", layers, lambda i: "sparse"))
    forced = f.size("prefix_dense_sliding_window_pattern", default=1) == 1
    wide = f.size("prefix_dense_intermediate_size", default=ffn)
    experts = Experts(
        count=f.size("num_experts", default=8),
        active=f.size("num_experts_per_tok", default=2),
        ffn=ffn,
        routing="chosen",
        shared=ffn * f.size("num_shared_experts", default=0, zero=True),
        unstacked=UNSTACKED,
    )
    changes: list[dict[str, Any]] = []
    for slide, kind in zip(slides, dense, strict=True):
        turned = (slide and bool(windows)) or (kind == "dense" and forced)
        changes.append({**({"experts": None, "ffn": wide} if kind == "dense" else {}), **({} if turned else {"rotary_dim": 0})})
    return cohere(
        f,
        head_dim=128,
        norm="layer-fp32" if f.config.get("rms_norm_eps") is None else "rms",
        windows=windows,
        variants=tuple(changes) if any(changes) else (),
        experts=experts,
        names=Names(norms=("input_layernorm",), shared_expert="mlp.shared_experts"),
    )
