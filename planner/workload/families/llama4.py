"""Llama 4's text model: layers with experts among dense ones, and layers without positions.

Attention in chunks is timed as a window of the chunk's length, and sequences longer than a chunk are not given the mask that
sdpa then gets. Source: transformers 5.24 `configuration_llama4.py`, `modeling_llama4.py`.
"""

from __future__ import annotations

from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Experts, Names
from planner.workload.families.fields import Fields, family
from planner.workload.families.gated import llama
from planner.workload.families.sparse import DENSE, layer_numbers, without_router_loss


def llama4_layers(f: Fields) -> tuple[list[bool], list[bool]]:
    """Whether each layer rotates positions, and whether it has experts."""
    layers = f.layers("num_hidden_layers")
    every, step = f.size("no_rope_layer_interval", default=4), f.size("interleave_moe_layer_step", default=1)
    turned = layer_numbers(f, "no_rope_layers") or [int((i + 1) % every != 0) for i in range(layers)]
    if len(turned) < layers:
        raise PlanError(
            "model.no_rope_layers", turned, f"does not cover the {layers} layers", "List one number per layer."
        )
    sparse = layer_numbers(f, "moe_layers")
    chosen = list(range(step - 1, layers, step)) if sparse is None else sparse
    return [bool(t) for t in turned[:layers]], [i in chosen for i in range(layers)]


@family("llama4_text")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    bias, ffn = f.flag("attention_bias", False), f.size("intermediate_size")
    chunk = f.size("attention_chunk_size", default=0 if "attention_chunk_size" in f.config else 8192, zero=True)
    dense = f.size("intermediate_size_mlp", default=16384)
    normed = f.flag("use_qk_norm", True)
    tempered = f.flag("attn_temperature_tuning", True)
    turned, sparse = llama4_layers(f)
    experts = Experts(
        count=f.size("num_local_experts", default=16),
        active=f.size("num_experts_per_tok", default=1),
        ffn=ffn,
        routing="sigmoid",
        shared=ffn,
        every=True,
        all_linear=False,
        router_linear=True,
    )
    still: dict[str, Any] = {"rotary_dim": 0, "qk_norm": "none", "qk_norm_last": False, "query_tempered": tempered}
    variants = tuple(
        {**({} if moves else still), **({} if mixed else {**DENSE, "ffn": dense})}
        for moves, mixed in zip(turned, sparse, strict=True)
    )
    return llama(
        f,
        kv_heads=8,
        head_dim=128,
        qkv_bias=bias,
        out_bias=bias,
        rotary_complex=True,
        qk_norm="unit" if normed else "none",
        qk_norm_last=normed,
        softmax="plain",
        windows=tuple(chunk if chunk and moves else None for moves in turned),
        experts=experts,
        variants=variants,
        names=Names(
            gate="feed_forward.gate_proj",
            up="feed_forward.up_proj",
            down="feed_forward.down_proj",
            router="feed_forward.router",
            experts="feed_forward.experts",
            shared_expert="feed_forward.shared_expert",
        ),
    )
