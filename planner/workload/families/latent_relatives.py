"""Decoders with latent attention that differ from DeepSeek's in a few traits: Youtu, MiniCPM 3, A.X K1, Mistral 4, Sarvam."""

from __future__ import annotations

from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Names
from planner.workload.families.fields import Fields, family
from planner.workload.families.fine_grained import (
    SHARED,
    first_dense,
    latent,
    latent_llama,
    listed_dense,
    rotation,
    sigmoid_experts,
)
from planner.workload.families.gated import llama
from planner.workload.families.sparse import dense_layers, without_router_loss


@family("youtu")
def _(f: Fields) -> Architecture:
    traits: dict[str, Any] = {**latent(f, rotation(f), query_rank=1536), "names": Names()}
    return latent_llama(f, traits, tied=f.flag("tie_word_embeddings", True))


@family("minicpm3")
def _(f: Fields) -> Architecture:
    heads = f.size("num_attention_heads", default=40)
    value = f.size("v_head_dim", default=f.divided(f.size("hidden_size"), heads, "num_attention_heads"))
    given = {k: v for k, v in f.config.items() if v is not None or k == "q_lora_rank"}
    inner = Fields({"kv_lora_rank": 256, "qk_rope_head_dim": 32, **given})
    traits = {**latent(inner, "halves", query_rank=768, plain=64, value=value), "names": Names()}
    return latent_llama(
        f,
        traits,
        mlp_bias=f.flag("mlp_bias", False),
        tied=f.flag("tie_word_embeddings", True),
        embedding_scaled=True,
        residual_scaled=True,
        output_scaled=True,
    )


@family("axk1")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    if "q_lora_rank" in f.config and f.config["q_lora_rank"] is None:
        raise PlanError("model.q_lora_rank", None, "is not covered for axk1", "Its queries always pass a latent: give its width.")
    return latent_llama(
        f,
        latent(f, rotation(f), query_rank=1536),
        experts=sigmoid_experts(f, 192, 8, 2048, 1, groups=8, unstacked=(), norm_after="mlp.post_mlp_layernorm"),
        variants=_first(f, 1),
    )


def _first(f: Fields, default: int) -> tuple[dict[str, Any], ...]:
    """Layers with a plain MLP: those that `mlp_layer_types` names, else the first, and between experts those of `moe_layer_freq`."""
    if f.config.get("mlp_layer_types") is not None:
        return listed_dense(f, default)
    first, every = f.size("first_k_dense_replace", default=default, zero=True), f.size("moe_layer_freq", default=1)
    return dense_layers(f, lambda i: i < first or i % every != 0)


@family("mistral4")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    renormalized = f.flag("norm_topk_prob", True)
    experts = sigmoid_experts(
        f, 128, 4, 2048, 1, routing="renormalized" if renormalized else "softmax", correction="none", precise=False, unstacked=(),
    )
    return latent_llama(
        f,
        latent(Fields({"kv_lora_rank": 256, **f.config}), rotation(f), query_rank=1024, plain=64, value=128),
        experts=experts,
        variants=first_dense(f, 0),
        query_rescaled=True,
    )


@family("sarvam_mla")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    given = {"q_lora_rank": None, **f.config}  # null: transformers' default here is no latent of the queries
    return latent_llama(
        f,
        latent(Fields(given), rotation(f), query_rank=1536),
        experts=sigmoid_experts(f, 128, 8, 2048, 1),
        variants=first_dense(f, 1),
    )


@family("sarvam_moe")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    return llama(
        f,
        kv_heads=4,
        head_dim=64,
        qkv_bias=f.flag("attention_bias", False),
        qk_norm="head" if f.flag("use_qk_norm", True) else "none",
        fresh_rotary=True,
        experts=sigmoid_experts(f, 128, 6, 1024, 1, unstacked=()),
        variants=first_dense(f, 1),
        names=SHARED,
    )
