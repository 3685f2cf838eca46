"""Decoders with a mixture of experts: Mixtral, Qwen2-MoE, Qwen3-MoE, OLMoE, Granite MoE."""

from __future__ import annotations

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Experts, Names
from planner.workload.families.fields import Fields, family
from planner.workload.families.gated import layer_windows, llama

UNSTACKED = ("gate_proj", "up_proj", "down_proj")
"""Names of an expert's projections before transformers 5 stacked them."""


def _qwen(f: Fields, count: int, active: int, ffn: int, shared: int) -> Experts:
    if f.size("decoder_sparse_step", default=1) != 1 or f.config.get("mlp_only_layers"):
        raise PlanError(
            "model.mlp_only_layers",
            f.config.get("mlp_only_layers"),
            "mixes dense and sparse layers, which is not covered",
            "Use decoder_sparse_step 1 and no mlp_only_layers.",
        )
    return Experts(
        count=f.size("num_experts", default=count),
        active=f.size("num_experts_per_tok", default=active),
        ffn=f.size("moe_intermediate_size", default=ffn),
        routing="renormalized" if f.flag("norm_topk_prob", False) else "softmax",
        shared=f.size("shared_expert_intermediate_size", default=shared) if shared else 0,
        unstacked=() if shared else UNSTACKED,
    )


def _window(f: Fields) -> int | None:
    return (f.size("sliding_window", default=4096, zero=True) if f.flag("use_sliding_window", False) else 0) or None


def _without_router_loss(f: Fields) -> None:
    if f.flag("output_router_logits", False):
        raise PlanError(
            "model.output_router_logits",
            True,
            "adds a balancing loss over the router's logits, which is not covered",
            "Use false, transformers' default.",
        )


@family("mixtral")
def _(f: Fields) -> Architecture:
    _without_router_loss(f)
    window = f.size("sliding_window", default=0, zero=True)
    experts = Experts(
        count=f.size("num_local_experts", default=8),
        active=f.size("num_experts_per_tok", default=2),
        ffn=f.size("intermediate_size"),
        routing="renormalized",
        wide=True,
        unstacked=("w1", "w3", "w2"),
    )
    return llama(f, kv_heads=8, windows=(window,) if window else (), experts=experts)


@family("qwen2_moe")
def _(f: Fields) -> Architecture:
    _without_router_loss(f)
    layers, first = f.layers("num_hidden_layers"), f.size("max_window_layers", default=28, zero=True)
    return llama(
        f,
        kv_heads=16,
        qkv_bias=f.flag("qkv_bias", True),
        windows=layer_windows(f, layers, lambda i: i >= first, _window(f)),
        experts=_qwen(f, 60, 4, 1408, 5632),
    )


@family("qwen3_moe")
def _(f: Fields) -> Architecture:
    _without_router_loss(f)
    bias, window = f.flag("attention_bias", False), _window(f)
    return llama(
        f,
        kv_heads=4,
        qkv_bias=bias,
        out_bias=bias,
        qk_norm="head",
        windows=(window,) if window else (),
        experts=_qwen(f, 128, 8, 768, 0),
    )


@family("olmoe")
def _(f: Fields) -> Architecture:
    _without_router_loss(f)
    if f.config.get("clip_qkv") is not None:
        raise PlanError("model.clip_qkv", f.config["clip_qkv"], "is not covered", "Leave it out, as OLMoE 1B-7B does.")
    bias = f.flag("attention_bias", False)
    experts = Experts(
        count=f.size("num_experts", default=64),
        active=f.size("num_experts_per_tok", default=8),
        ffn=f.size("intermediate_size"),
        routing="renormalized" if f.flag("norm_topk_prob", False) else "softmax",
        unstacked=UNSTACKED,
    )
    return llama(f, qkv_bias=bias, out_bias=bias, qk_norm="full", experts=experts)


@family("granitemoe")
def _(f: Fields) -> Architecture:
    _without_router_loss(f)
    bias = f.flag("attention_bias", False)
    experts = Experts(
        count=f.size("num_local_experts", default=8),
        active=f.size("num_experts_per_tok", default=2),
        ffn=f.size("intermediate_size"),
        routing="chosen",
    )
    return llama(
        f,
        qkv_bias=bias,
        out_bias=bias,
        embedding_scaled=True,
        residual_scaled=True,
        logits_scaled=True,
        experts=experts,
        names=Names(router="block_sparse_moe.router", experts="block_sparse_moe.experts"),
    )
