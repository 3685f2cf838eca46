"""Hybrids of attention with linear attention or short convolutions: Qwen3-Next, LFM2.

Fields that a config leaves out have the defaults of transformers 5.24 `configuration_*.py`.
"""

from __future__ import annotations

from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Experts, Names
from planner.workload.delta_net import GatedDeltaNet
from planner.workload.families.fields import Fields, family
from planner.workload.families.gated import llama
from planner.workload.families.hybrids import layer_kinds, of_all, periodic
from planner.workload.families.sparse import UNSTACKED
from planner.workload.gated_attention import GatedAttention
from planner.workload.gated_convolution import GatedConvolution
from planner.workload.sigmoid_mixture import SigmoidMixture

KINDS = ("linear_attention", "full_attention")


def delta_net(f: Fields, grouped: bool) -> GatedDeltaNet:
    """The linear layers of Qwen3-Next and Qwen 3.5."""
    made = GatedDeltaNet(
        key_heads=f.size("linear_num_key_heads", default=16),
        value_heads=f.size("linear_num_value_heads", default=32),
        key=f.size("linear_key_head_dim", default=128),
        value=f.size("linear_value_head_dim", default=128),
        kernel=f.size("linear_conv_kernel_dim", default=4),
        activation=f.text("hidden_act", default="silu"),
        grouped=grouped,
    )
    if made.value_heads % made.key_heads:
        raise PlanError(
            "model.linear_num_key_heads",
            made.key_heads,
            f"does not divide the {made.value_heads} value heads",
            "Use a divisor of linear_num_value_heads.",
        )
    return made


def interleaved(f: Fields) -> list[str]:
    """Kinds of layers: as listed, or full attention every fourth."""
    every = f.size("full_attention_interval", default=4)
    default = [KINDS[not (i + 1) % every] for i in range(f.layers("num_hidden_layers"))]
    return of_all(f, layer_kinds(f, ("layer_types",), KINDS, default))


@family("qwen3_next")
def _(f: Fields) -> Architecture:
    if f.flag("output_router_logits", False):
        raise PlanError(
            "model.output_router_logits",
            True,
            "adds a balancing loss, which is not covered",
            "Use false, transformers' default.",
        )
    kinds, step, dense = interleaved(f), f.size("decoder_sparse_step", default=1), f.config.get("mlp_only_layers") or []
    mixer = delta_net(f, grouped=True)
    count = f.size("num_experts", default=512, zero=True)
    experts = Experts(
        count=count,
        active=f.size("num_experts_per_tok", default=10),
        ffn=f.size("moe_intermediate_size", default=512),
        routing="renormalized" if f.flag("norm_topk_prob", True) else "softmax",
        shared=f.size("shared_expert_intermediate_size", default=512),
        shared_gate=True,
        shared_first=True,
        unstacked=UNSTACKED,
    )
    variants: list[dict[str, Any]] = [
        {
            "mixer": GatedAttention() if kind == "full_attention" else mixer,
            "experts": experts if count and i not in dense and not (i + 1) % step else None,
        }
        for i, kind in enumerate(kinds)
    ]
    bias = f.flag("attention_bias", False)
    return llama(
        Fields({"intermediate_size": 5632, **f.config}),
        kv_heads=2,
        head_dim=256,
        rotary=0.25,
        norm="rms-offset",
        qk_norm="head",
        qkv_bias=bias,
        out_bias=bias,
        experts=experts if count else None,
        variants=periodic(variants),
    )


_LFM2 = Names(
    out="self_attn.out_proj",
    qk_norms=("self_attn.q_layernorm", "self_attn.k_layernorm"),
    gate="feed_forward.w1",
    up="feed_forward.w3",
    down="feed_forward.w2",
    norms=("operator_norm", "ffn_norm"),
    final_norm="model.embedding_norm",
    router="feed_forward.gate",
    experts="feed_forward.experts",
)


def _tied(f: Fields) -> bool:
    return f.flag("tie_embedding" if "tie_embedding" in f.config else "tie_word_embeddings", True)


def _adjusted(f: Fields, width: int) -> int:
    """Width of LFM2's MLP: two thirds of the field, times a factor, up to a multiple."""
    if not f.flag("block_auto_adjust_ff_dim", True):
        return width
    width = int(2 * width / 3)
    if "block_ffn_dim_multiplier" not in f.config or f.config["block_ffn_dim_multiplier"] is not None:
        multiple = f.size("block_multiple_of", default=256)
        width = int(f.number("block_ffn_dim_multiplier", default=1.0) * width)
        width = multiple * (-(-width // multiple))
    return width


@family("lfm2")
def _(f: Fields) -> Architecture:
    layers = f.layers("num_hidden_layers")
    full = f.config.get("full_attn_idxs")
    if full is not None and not (isinstance(full, list) and all(isinstance(i, int) for i in full)):
        raise PlanError("model.full_attn_idxs", full, "is not a list of layers", "Give the numbers of the layers with attention, such as [2, 5].")
    default = ["full_attention" if full is None or i in full else "linear_attention" for i in range(layers)]
    kinds = of_all(f, layer_kinds(f, ("layer_types",), KINDS, default))
    mixer = GatedConvolution(f.size("conv_L_cache", default=3), f.flag("conv_bias", False))
    width = f.size("block_ff_dim", "intermediate_size", default=12288)
    return llama(
        Fields({**f.config, "intermediate_size": _adjusted(f, width)}),
        kv_heads=8,
        qk_norm="head",
        tied=_tied(f),
        activation="silu",
        names=_LFM2,
        variants=periodic([{"mixer": None if kind == "full_attention" else mixer} for kind in kinds]),
    )


@family("lfm2_moe")
def _(f: Fields) -> Architecture:
    layers = f.layers("num_hidden_layers")
    kinds = of_all(f, layer_kinds(f, ("layer_types",), KINDS, []))
    mixer = GatedConvolution(f.size("conv_L_cache", default=3), f.flag("conv_bias", False))
    dense = f.size("num_dense_layers", default=2, zero=True)
    experts = SigmoidMixture(
        Experts(
            count=f.size("num_experts", default=32),
            active=f.size("num_experts_per_tok", default=4),
            ffn=f.size("moe_intermediate_size", default=1792),
        ),
        biased=f.flag("use_expert_bias", True),
        normed=f.flag("norm_topk_prob", True),
    )
    variants: list[dict[str, Any]] = [
        {
            "mixer": None if kinds[i] == "full_attention" else mixer,
            "feed_forward": experts if i >= dense else None,
            "experts": experts.experts if i >= dense else None,
        }
        for i in range(layers)
    ]
    return llama(
        Fields({"intermediate_size": 7168, **f.config}),
        kv_heads=8,
        qk_norm="head",
        tied=_tied(f),
        activation="silu",
        names=_LFM2,
        variants=periodic(variants),
    )


def _qwen35(f: Fields, **changes: Any) -> Architecture:
    """The text models of Qwen 3.5."""
    kinds, mixer, bias = interleaved(f), delta_net(f, grouped=False), f.flag("attention_bias", False)
    variants = [{"mixer": GatedAttention() if kind == "full_attention" else mixer} for kind in kinds]
    return llama(
        f,
        head_dim=256,
        rotary=0.25,
        norm="rms-offset",
        qk_norm="head",
        qkv_bias=bias,
        out_bias=bias,
        variants=periodic(variants),
        **changes,
    )


@family("qwen3_5_text")
def _(f: Fields) -> Architecture:
    return _qwen35(f, kv_heads=4)


@family("qwen3_5_moe_text")
def _(f: Fields) -> Architecture:
    if f.flag("output_router_logits", False):
        raise PlanError(
            "model.output_router_logits",
            True,
            "adds a balancing loss, which is not covered",
            "Use false, transformers' default.",
        )
    experts = Experts(
        count=f.size("num_experts", default=256),
        active=f.size("num_experts_per_tok", default=8),
        ffn=f.size("moe_intermediate_size", default=512),
        routing="renormalized",
        shared=f.size("shared_expert_intermediate_size", default=512),
        shared_gate=True,
        shared_first=True,
    )
    return _qwen35(Fields({**f.config, "intermediate_size": 1}), kv_heads=2, experts=experts)
