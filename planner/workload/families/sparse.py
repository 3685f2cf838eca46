"""Decoders with a mixture of experts: Mixtral, Qwen2-MoE, Qwen3-MoE, OLMoE, Granite MoE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Experts, Names
from planner.workload.families.fields import Fields, family
from planner.workload.families.gated import layer_windows, llama

UNSTACKED = ("gate_proj", "up_proj", "down_proj")
"""Names of an expert's projections before transformers 5 stacked them."""


DENSE: dict[str, Any] = {"experts": None}
"""What a layer with a plain MLP changes."""


def dense_layers(f: Fields, dense: Callable[[int], bool]) -> tuple[dict[str, Any], ...]:
    """Variants of a stack where some layers have a plain MLP; none when no layer has."""
    layers = f.layers("num_hidden_layers")
    chosen = [dense(i) for i in range(layers)]
    if not any(chosen):
        return ()
    return tuple(DENSE if plain else {} for plain in chosen)


def layer_numbers(f: Fields, name: str) -> list[int] | None:
    """A list of layer numbers, None when it is not there."""
    value = f.config.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or any(isinstance(v, bool) or not isinstance(v, int) for v in value):
        raise PlanError(
            f"model.{name}", value, "is not a list of layer numbers", "List whole numbers, or leave it out."
        )
    return value


def _qwen_dense(f: Fields) -> tuple[dict[str, Any], ...]:
    step, only = f.size("decoder_sparse_step", default=1), layer_numbers(f, "mlp_only_layers") or []
    return dense_layers(f, lambda i: i in only or (i + 1) % step != 0)


def _qwen(f: Fields, count: int, active: int, ffn: int, shared: int) -> Experts:
    return Experts(
        count=f.size("num_experts", default=count),
        active=f.size("num_experts_per_tok", default=active),
        ffn=f.size("moe_intermediate_size", default=ffn),
        routing="renormalized" if f.flag("norm_topk_prob", False) else "softmax",
        shared=f.size("shared_expert_intermediate_size", default=shared) if shared else 0,
        shared_gate=bool(shared),
        shared_first=True,
        unstacked=() if shared else UNSTACKED,
    )


def _window(f: Fields) -> int | None:
    return (f.size("sliding_window", default=4096, zero=True) if f.flag("use_sliding_window", False) else 0) or None


def without_router_loss(f: Fields) -> None:
    """Raise `PlanError` when the config asks for the router's balancing loss."""
    if f.flag("output_router_logits", False):
        raise PlanError(
            "model.output_router_logits",
            True,
            "adds a balancing loss over the router's logits, which is not covered",
            "Use false, transformers' default.",
        )


@family("mixtral")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
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
    without_router_loss(f)
    layers, first = f.layers("num_hidden_layers"), f.size("max_window_layers", default=28, zero=True)
    return llama(
        f,
        kv_heads=16,
        qkv_bias=f.flag("qkv_bias", True),
        windows=layer_windows(f, layers, lambda i: i >= first, _window(f)),
        experts=_qwen(f, 60, 4, 1408, 5632),
        variants=_qwen_dense(f),
    )


@family("qwen3_moe")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    bias, window = f.flag("attention_bias", False), _window(f)
    return llama(
        f,
        kv_heads=4,
        qkv_bias=bias,
        out_bias=bias,
        qk_norm="head",
        windows=(window,) if window else (),
        experts=_qwen(f, 128, 8, 768, 0),
        variants=_qwen_dense(f),
    )


@family("olmoe")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    bias = f.flag("attention_bias", False)
    experts = Experts(
        count=f.size("num_experts", default=64),
        active=f.size("num_experts_per_tok", default=8),
        ffn=f.size("intermediate_size"),
        routing="renormalized" if f.flag("norm_topk_prob", False) else "softmax",
        unstacked=UNSTACKED,
    )
    return llama(
        f,
        qkv_bias=bias,
        out_bias=bias,
        qk_norm="full",
        clipped=f.config.get("clip_qkv") is not None,
        experts=experts,
    )


@family("granitemoe", "granitemoeshared")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    bias, own = f.flag("attention_bias", False), f.config["model_type"] == "granitemoeshared"
    experts = Experts(
        count=f.size("num_local_experts", default=8),
        active=f.size("num_experts_per_tok", default=2),
        ffn=f.size("intermediate_size"),
        routing="chosen",
        shared=f.size("shared_intermediate_size", default=0, zero=True) if own else 0,
        shared_fused=own,
    )
    return llama(
        f,
        qkv_bias=bias,
        out_bias=bias,
        embedding_scaled=True,
        residual_scaled=True,
        logits_scaled=True,
        experts=experts,
        names=Names(router="block_sparse_moe.router", experts="block_sparse_moe.experts", shared_expert="shared_mlp"),
    )
