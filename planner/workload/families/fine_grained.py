"""Decoders with many small experts, most of them with shared ones: DeepSeek V2 and V3 and their relatives, gpt-oss, MiniMax M2.

The first layers of most have a plain MLP. Source: transformers 5.24 `configuration_*.py` and `modeling_*.py`.
"""

from __future__ import annotations

from typing import Any, Literal

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Experts, Names
from planner.workload.families.fields import Fields, family
from planner.workload.families.gated import layer_windows, llama
from planner.workload.families.sparse import UNSTACKED, dense_layers, without_router_loss
from planner.workload.latent_attention import LatentAttention

SHARED = Names(shared_expert="mlp.shared_experts")


def sigmoid_experts(f: Fields, count: int, active: int | None, ffn: int, shared: int | None, **changes: Any) -> Experts:
    """Experts chosen by a corrected sigmoid among those of the best groups, beside shared ones (DeepSeek V3).

    shared_width: of all shared ones together, where the config says it by itself.
    """
    renormalized = f.flag("norm_topk_prob", changes.pop("renormalized", True))
    total = f.size("n_routed_experts", "num_local_experts", "num_experts", default=count)
    groups = f.size("n_group", default=changes.pop("groups", 1))
    if total % groups or total // groups < 2:
        raise PlanError(
            "model.n_group", groups, f"does not divide {total} experts into groups of 2 or more", "Use a divisor."
        )
    width, own = f.size("moe_intermediate_size", default=ffn), changes.pop("shared_width", None)
    made: dict[str, Any] = {
        "count": total,
        "active": f.size("num_experts_per_tok", default=active),
        "ffn": width,
        "routing": "sigmoid-renormalized" if renormalized else "sigmoid",
        "wide": True,
        "shared": own or width * f.size("n_shared_experts", "num_shared_experts", default=shared),
        "precise": True,
        "limited": True,
        "correction": "buffer",
        "scaled": True,
        "unstacked": UNSTACKED,
    }
    return Experts(**{**made, **changes})


def first_dense(f: Fields, default: int) -> tuple[dict[str, Any], ...]:
    """The first layers have a plain MLP."""
    count = f.size("first_k_dense_replace", default=default, zero=True)
    return dense_layers(f, lambda i: i < count)


def listed_dense(f: Fields, default: int) -> tuple[dict[str, Any], ...]:
    """`mlp_layer_types` names the layers with a plain MLP; without it they are the first."""
    types, layers = f.config.get("mlp_layer_types"), f.layers("num_hidden_layers")
    if types is None:
        return first_dense(f, default)
    if not isinstance(types, list) or len(types) != layers or any(t not in ("dense", "sparse") for t in types):
        raise PlanError(
            "model.mlp_layer_types", types, f"does not name the {layers} layers", "List dense or sparse for each layer."
        )
    return dense_layers(f, lambda i: types[i] == "dense")


def latent(f: Fields, turned: Literal["halves", "pairs", "complex"], **defaults: int) -> dict[str, Any]:
    """Traits of a stack with latent attention. turned: which values of a head turn together."""
    heads = f.size("num_attention_heads", default=defaults.get("heads"))
    kv_heads = f.size("num_key_value_heads", default=heads)
    if kv_heads != heads:
        raise PlanError(
            "model.num_key_value_heads", kv_heads, f"is not the {heads} heads of latent attention", "Leave it out."
        )
    rotary = f.size("qk_rope_head_dim", default=64)
    # null means no latent of the queries, absent transformers' default
    ranked = "q_lora_rank" not in f.config or f.config["q_lora_rank"] is not None
    mixer = LatentAttention(
        query_rank=f.size("q_lora_rank", default=defaults["query_rank"]) if ranked else 0,
        rank=f.size("kv_lora_rank", default=512),
        plain=f.size("qk_nope_head_dim", default=defaults.get("plain", 128)),
        rotary=rotary,
        value=f.size("v_head_dim", default=defaults.get("value", 128)),
        rotation=turned,
        bias=f.flag("attention_bias", False),
    )
    return {"mixer": mixer, "kv_heads": heads, "head_dim": mixer.plain + rotary, "rotary_dim": rotary, "names": SHARED}


def without_head_dim(f: Fields) -> Fields:
    """The fields of a config whose head_dim says something else than the width of a head."""
    return Fields({k: v for k, v in f.config.items() if k != "head_dim"})


def latent_llama(f: Fields, traits: dict[str, Any], **changes: Any) -> Architecture:
    """A Llama with latent attention."""
    return llama(without_head_dim(f), **{**traits, **changes})


def rotation(f: Fields) -> Literal["pairs", "halves"]:
    """Which values of a head turn together, where the config says so."""
    return "pairs" if f.flag("rope_interleave", True) else "halves"


@family("deepseek_v2")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    method = f.text("topk_method", default="greedy")
    if method not in ("greedy", "group_limited_greedy"):
        raise PlanError("model.topk_method", method, "is not covered", "Use greedy or group_limited_greedy.")
    experts = sigmoid_experts(f, 64, None, 1407, 2, routing="softmax", limited=method != "greedy", correction="none")
    return latent_llama(
        f,
        latent(f, "complex", query_rank=1536),
        experts=experts,
        variants=first_dense(f, 0),
        mlp_bias=f.flag("mlp_bias", False),
    )


@family("deepseek_v3", "kimi_k2")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    return latent_llama(
        f,
        latent(f, rotation(f), query_rank=1536),
        experts=sigmoid_experts(f, 256, 8, 2048, 1, groups=8),
        variants=first_dense(f, 3),
    )


@family("glm4_moe_lite")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    return latent_llama(
        f,
        latent(f, rotation(f), query_rank=768, plain=192, value=256),
        experts=sigmoid_experts(f, 64, 4, 1536, 1),
        variants=listed_dense(f, 1),
    )


@family("glm4_moe")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    return llama(
        f,
        kv_heads=8,
        rotary=0.5,
        qkv_bias=f.flag("attention_bias", False),
        qk_norm="head" if f.flag("use_qk_norm", False) else "none",
        fresh_rotary=True,
        experts=sigmoid_experts(f, 128, 8, 1408, 1),
        variants=first_dense(f, 1),
        names=SHARED,
    )


@family("solar_open")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    width = f.size("moe_intermediate_size", default=1280)
    return llama(
        Fields({"intermediate_size": width, **f.config}),
        kv_heads=8,
        head_dim=128,
        qkv_bias=f.flag("attention_bias", False),
        experts=sigmoid_experts(f, 128, 8, 1280, 1),
        names=SHARED,
    )


@family("dots1")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    layers, bias = f.layers("num_hidden_layers"), f.flag("attention_bias", False)
    size = (
        f.size("sliding_window", default=4096, zero=True) if f.config.get("sliding_window", 0) is not None else 0
    ) or None
    first = f.size("max_window_layers", default=62, zero=True)
    return llama(
        f,
        kv_heads=32,
        qkv_bias=bias,
        out_bias=bias,
        qk_norm="head",
        windows=layer_windows(f, layers, lambda i: i >= first, size),
        experts=sigmoid_experts(f, 0, None, 1408, None, renormalized=False),
        variants=first_dense(f, 0),
        names=SHARED,
    )


@family("exaone_moe")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    layers = f.layers("num_hidden_layers")
    given = f.config.get("sliding_window", 4096)
    size = None if given is None else f.size("sliding_window", default=4096)
    period = f.size("sliding_window_pattern", default=4)
    windows = layer_windows(f, layers, lambda i: (i + 1) % period != 0, size)
    dense = listed_dense(f, 1) or ({},) * layers
    # where there are windows, layers that see everything have no positions
    still = [size is not None and (not windows or windows[i % len(windows)] is None) for i in range(layers)]
    return llama(
        f,
        kv_heads=32,
        qk_norm="head",
        windows=windows,
        experts=sigmoid_experts(f, 64, 8, 1024, 1),
        variants=tuple({**plain, **({"rotary_dim": 0} if s else {})} for plain, s in zip(dense, still, strict=True)),
        names=SHARED,
    )


@family("ernie4_5_moe")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    layers, bias = f.layers("num_hidden_layers"), f.flag("use_bias", False)
    start, step = f.size("moe_layer_start_index", default=1, zero=True), f.size("moe_layer_interval", default=1)
    end = f.config.get("moe_layer_end_index", -1)
    end = layers - 1 if end in (-1, None) else f.size("moe_layer_end_index", zero=True)
    width = f.size("moe_intermediate_size", default=1536)
    experts = Experts(
        count=f.size("moe_num_experts", "num_experts", default=64),
        active=f.size("moe_k", "num_experts_per_tok", default=6),
        ffn=width,
        routing="renormalized",
        shared=width * f.size("moe_num_shared_experts", default=2, zero=True),
        shared_first=True,
        precise=True,
        unmixed=True,
        correction="parameter",
        unstacked=UNSTACKED,
    )
    return llama(
        f,
        kv_heads=4,
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=bias,
        head_bias=bias,
        rotary_wide=True,
        attention_dropout=0.0,
        tied=f.flag("tie_word_embeddings", True),
        experts=experts,
        variants=dense_layers(f, lambda i: not ((i + 1) % step == 0 and start <= i <= end)),
        names=SHARED,
    )


@family("hunyuan_v1_moe")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    bias = f.flag("attention_bias", False)
    ffn = f.size("intermediate_size")
    experts = Experts(
        count=f.size("num_experts", "num_local_experts", default=1),
        active=f.size("moe_topk", "num_experts_per_tok", default=1),
        ffn=ffn,
        routing="renormalized",
        shared=ffn,
        shared_first=True,
        precise=True,
        router_linear=True,
        unstacked=UNSTACKED,
    )
    return llama(
        f,
        qkv_bias=bias,
        out_bias=bias,
        qk_norm="head",
        qk_norm_last=True,
        experts=experts,
        names=Names(
            router="mlp.gate.wg",
            shared_expert="mlp.shared_mlp",
            qk_norms=("self_attn.query_layernorm", "self_attn.key_layernorm"),
        ),
    )


@family("minimax_m2")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    head_dim = f.size("head_dim", default=128)
    experts = Experts(
        count=f.size("num_local_experts", "num_experts", default=256),
        active=f.size("num_experts_per_tok", default=8),
        ffn=f.size("intermediate_size"),
        routing="sigmoid-renormalized",
        wide=True,
        correction="buffer",
        unstacked=UNSTACKED,
    )
    part = f.size("rotary_dim", default=0, zero=True) / head_dim
    return llama(
        f,
        kv_heads=8,
        head_dim=head_dim,
        rotary=part or 1.0,
        fresh_rotary=True,
        qk_norm="full",
        experts=experts,
    )


@family("flex_olmo")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    bias = f.flag("attention_bias", False)
    experts = Experts(
        count=f.size("num_experts", "num_local_experts", default=7),
        active=f.size("num_experts_per_tok", default=5),
        ffn=f.size("intermediate_size"),
        routing="renormalized" if f.flag("norm_topk_prob", False) else "softmax",
        unstacked=UNSTACKED,
    )
    return llama(
        f,
        qkv_bias=bias,
        out_bias=bias,
        norm="rms-fp32",
        placement="post-branch",
        qk_norm="full",
        experts=experts,
        names=Names(norms=("post_attention_layernorm", "post_feedforward_layernorm")),
    )


@family("phimoe")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    bias, window = f.flag("attention_bias", False), f.size("sliding_window", default=0, zero=True)
    active = f.size("num_experts_per_tok", default=2)
    if active != 2:
        raise PlanError("model.num_experts_per_tok", active, "is not the 2 that Phi's routing draws", "Use 2.")
    experts = Experts(
        count=f.size("num_local_experts", default=16),
        active=2,
        ffn=f.size("intermediate_size"),
        routing="sampled",
        wide=True,
        all_linear=False,
        router_linear=True,
    )
    return llama(
        f,
        kv_heads=8,
        qkv_bias=bias,
        out_bias=bias,
        norm="layer",
        norm_bias=True,
        head_bias=f.flag("lm_head_bias", False),
        windows=(window,) if window else (),
        experts=experts,
        names=Names(router="mlp.router"),
    )


@family("gpt_oss")
def _(f: Fields) -> Architecture:
    without_router_loss(f)
    bias, layers = f.flag("attention_bias", True), f.layers("num_hidden_layers")
    size = f.size("sliding_window", default=0 if "sliding_window" in f.config else 128, zero=True) or None
    experts = Experts(
        count=f.size("num_local_experts", "num_experts", default=128),
        active=f.size("num_experts_per_tok", default=4),
        ffn=f.size("intermediate_size"),
        routing="chosen-own",
        biased=True,
    )
    return llama(
        f,
        kv_heads=8,
        head_dim=64,
        qkv_bias=bias,
        out_bias=bias,
        norm="rms-fp32",
        sinks=True,
        sdpa=False,
        windows=layer_windows(f, layers, lambda i: not i % 2, size),
        experts=experts,
        names=Names(router="mlp.router"),
    )
