"""Hybrids of attention and state spaces: Jamba, Bamba, Granite 4, Falcon-H1, Nemotron-H.

Fields that a config leaves out have the defaults of transformers 5.24 `configuration_*.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Experts, Names
from planner.workload.families.fields import Fields, family
from planner.workload.families.fine_grained import sigmoid_experts
from planner.workload.families.gated import llama
from planner.workload.families.sparse import without_router_loss
from planner.workload.families.statespace import rank
from planner.workload.mixture_beside import MixtureBeside
from planner.workload.parallel_mixers import ParallelMixers
from planner.workload.selective_scan import SelectiveScan
from planner.workload.shared_transformer import MambaBlock, SharedTransformer
from planner.workload.single_branch import SingleBranch
from planner.workload.state_space_dual import StateSpaceDual

_LEGACY = {
    "mamba": "linear_attention",
    "mamba2": "linear_attention",
    "conv": "linear_attention",
    "attention": "full_attention",
}
_FEED_FORWARD: dict[str, Any] = {
    "gate": "feed_forward.gate_proj",
    "up": "feed_forward.up_proj",
    "down": "feed_forward.down_proj",
    "norms": ("input_layernorm", "pre_ff_layernorm"),
    "final_norm": "model.final_layernorm",
}


def layer_kinds(f: Fields, names: tuple[str, ...], allowed: tuple[str, ...], default: list[str]) -> list[str]:
    """Kind of each layer, from the first of `names` that is there; names of older configs are read too."""
    for name in names:
        kinds = f.config.get(name)
        if kinds is None:
            continue
        if not isinstance(kinds, list) or not all(isinstance(k, str) for k in kinds):
            raise PlanError(f"model.{name}", kinds, "is not a list of layer types", "List one type per layer.")
        kinds = [_LEGACY.get(k, k) for k in kinds]
        unknown = [k for k in kinds if k not in allowed]
        if unknown:
            raise PlanError(f"model.{name}", unknown[0], "is not a layer type", f"Use {', '.join(allowed)}.")
        return kinds
    return default


def of_all(f: Fields, kinds: list[str]) -> list[str]:
    """The kinds, if there is one a layer."""
    layers = f.layers("num_hidden_layers")
    if len(kinds) != layers:
        raise PlanError(
            "model.layer_types", len(kinds), f"types are listed for {layers} layers", "List one type per layer."
        )
    return kinds


def periodic(variants: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """The shortest period of the layers' traits."""
    count = len(variants)
    for period in range(1, count):
        if count % period == 0 and all(variants[i] == variants[i % period] for i in range(period, count)):
            return tuple(variants[:period])
    return tuple(variants)


def second_mamba(f: Fields, inner: int, **changes: Any) -> StateSpaceDual:
    """Mamba-2 as the fields `mamba_*` describe it. inner: channels."""
    heads = f.size("mamba_n_heads", default=128)
    head = inner // heads if f.config.get("mamba_d_head", "auto") == "auto" else f.size("mamba_d_head")
    if heads * head != inner:
        raise PlanError(
            "model.mamba_n_heads",
            heads,
            f"times the head size {head} is not the mixer's width {inner}",
            "Make mamba_n_heads · mamba_d_head equal mamba_expand · hidden_size.",
        )
    base = StateSpaceDual(
        heads=heads,
        head=head,
        state=f.size("mamba_d_state", default=256),
        groups=f.size("mamba_n_groups", default=1),
        kernel=f.size("mamba_d_conv", default=4),
        chunk=f.size("mamba_chunk_size", default=256),
        bias=f.flag("mamba_proj_bias", False),
        convolution_bias=f.flag("mamba_conv_bias", True),
        activation=f.text("hidden_act", default="silu"),
        path="mamba",
    )
    return replace(base, **changes)


def expanded(f: Fields) -> int:
    """Channels of the mixer: the width times `mamba_expand`."""
    return int(f.number("mamba_expand", default=2) * f.size("hidden_size"))


@family("jamba")
def _(f: Fields) -> Architecture:
    hidden, layers = f.size("hidden_size"), f.layers("num_hidden_layers")
    mixer = SelectiveScan(
        inner=expanded(f),
        state=f.size("mamba_d_state", default=16),
        kernel=f.size("mamba_d_conv", default=4),
        rank=rank(f, "mamba_dt_rank", hidden),
        bias=f.flag("mamba_proj_bias", False),
        convolution_bias=f.flag("mamba_conv_bias", True),
        activation=f.text("hidden_act", default="silu"),
        norms="affine",
        whole=False,
        path="mamba",
    )
    experts = Experts(
        count=f.size("num_experts", default=16),
        active=f.size("num_experts_per_tok", default=2),
        ffn=f.size("intermediate_size"),
    )
    every, first = f.size("attn_layer_period", default=8), f.size("attn_layer_offset", default=4, zero=True)
    sparse, offset = f.size("expert_layer_period", default=2), f.size("expert_layer_offset", default=1, zero=True)
    variants = [
        {
            "mixer": None if i % every == first else mixer,
            "experts": experts if i % sparse == offset and experts.count > 1 else None,
        }
        for i in range(layers)
    ]
    names = Names(router="feed_forward.router", experts="feed_forward.experts", **_FEED_FORWARD)
    return llama(f, kv_heads=8, rotary=0.0, names=names, variants=periodic(variants))


@family("bamba")
def _(f: Fields) -> Architecture:
    layers, chosen = f.layers("num_hidden_layers"), f.config.get("attn_layer_indices") or []
    if not isinstance(chosen, list) or not all(isinstance(i, int) for i in chosen):
        raise PlanError("model.attn_layer_indices", chosen, "is not a list of layers", "List layer numbers.")
    mixer = second_mamba(f, expanded(f))
    variants = [{"mixer": None if i in chosen else mixer} for i in range(layers)]
    bias = f.flag("attention_bias", False)
    made = llama(
        f,
        kv_heads=8,
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=f.flag("mlp_bias", False),
        names=Names(**_FEED_FORWARD),
        variants=periodic(variants),
    )
    return replace(made, rotary_dim=made.head_dim // 2)  # transformers sets the factor itself


@family("granitemoehybrid")
def _(f: Fields) -> Architecture:
    layers, bias = f.layers("num_hidden_layers"), f.flag("attention_bias", False)
    names = ("layer_types", "layers_block_type")
    kinds = of_all(f, layer_kinds(f, names, ("linear_attention", "full_attention"), ["linear_attention"] * layers))
    count = f.size("num_local_experts", default=8, zero=True)
    experts = None
    if count:
        experts = Experts(
            count=count,
            active=f.size("num_experts_per_tok", default=2),
            ffn=f.size("intermediate_size"),
            routing="chosen",
        )
    mixer = second_mamba(f, expanded(f))
    return llama(
        f,
        rotary=1.0 if f.config.get("position_embedding_type") == "rope" else 0.0,
        qkv_bias=bias,
        out_bias=bias,
        embedding_scaled=True,
        residual_scaled=True,
        logits_scaled=True,
        feed_forward=MixtureBeside(f.size("shared_intermediate_size", default=1024), experts),
        names=Names(router="block_sparse_moe.router", experts="block_sparse_moe.experts"),
        variants=periodic([{"mixer": None if kind == "full_attention" else mixer} for kind in kinds]),
    )


@family("falcon_h1")
def _(f: Fields) -> Architecture:
    inner = (
        expanded(f)
        if "mamba_d_ssm" in f.config and f.config["mamba_d_ssm"] is None
        else f.size("mamba_d_ssm", default=1024)
    )
    gate = "plain"
    if f.flag("mamba_rms_norm", False):
        gate = "norm-first" if f.flag("mamba_norm_before_gate", True) else "normed"
    mixer = second_mamba(f, inner, gate=gate, scaled=True, out_bias=f.flag("projectors_bias", False), wide_norm=True)
    bias, names = f.flag("attention_bias", False), Names(**_FEED_FORWARD)
    others = (names.query, names.key, names.value, names.out, names.gate, names.up, names.down)
    return llama(
        f,
        kv_heads=8,
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=f.flag("mlp_bias", False),
        embedding_scaled=True,
        logits_scaled=True,
        names=names,
        layout=ParallelMixers(mixer, others),
    )


_PATTERN = {"M": "linear_attention", "E": "moe", "*": "full_attention", "-": "mlp"}


def _pattern(f: Fields) -> list[str]:
    """Layers of Nemotron-H: a list, or a text of one sign a layer."""
    text = f.config.get("hybrid_override_pattern")
    names = ("layers_block_type", "layer_types")
    if text is not None and not any(f.config.get(name) for name in names):
        if not isinstance(text, str) or not text or any(sign not in _PATTERN for sign in text):
            raise PlanError(
                "model.hybrid_override_pattern", text, "is not a pattern of layers", "Use the signs M, E, * and -."
            )
        return [_PATTERN[sign] for sign in text]
    return layer_kinds(f, names, tuple(_PATTERN.values()), ["linear_attention", "moe", "full_attention", "mlp"])


def _ungated_experts(f: Fields) -> Experts:
    """DeepSeek's choice of experts that are two weights each, in a width of their own where the config says so (Nemotron 3)."""
    without_router_loss(f)
    latent = f.config.get("moe_latent_size")
    return sigmoid_experts(
        f, 8, 2, 7688, None,
        shared_width=f.size("moe_shared_expert_intermediate_size", default=7688),
        unstacked=(),
        gated=False,
        latent=0 if latent is None else f.size("moe_latent_size"),
    )  # fmt: skip


@family("nemotron_h")
def _(f: Fields) -> Architecture:
    kinds = _pattern(f)
    bias = f.flag("use_bias", False)
    mixer = StateSpaceDual(
        heads=f.size("mamba_num_heads", default=128),
        head=f.size("mamba_head_dim", default=64),
        state=f.size("ssm_state_size", default=128),
        groups=f.size("mamba_n_groups", "n_groups", default=8),
        kernel=f.size("mamba_d_conv", "conv_kernel", default=4),
        chunk=f.size("mamba_chunk_size", "chunk_size", default=128),
        bias=bias,
        convolution_bias=f.flag("mamba_conv_bias" if "mamba_conv_bias" in f.config else "use_conv_bias", True),
        activation=f.text("mamba_hidden_act", default="silu"),
    )
    names = Names(
        query="mixer.q_proj",
        key="mixer.k_proj",
        value="mixer.v_proj",
        out="mixer.o_proj",
        up="mixer.up_proj",
        down="mixer.down_proj",
        norms=("norm",),
        embedding="model.embeddings",
        final_norm="model.norm_f",
        router="mixer.gate",
        experts="mixer.experts",
        shared_expert="mixer.shared_experts",
    )
    parts: dict[str, dict[str, Any]] = {
        "linear_attention": {"mixer": mixer, "layout": SingleBranch(mixer.linears)},
        "full_attention": {"layout": SingleBranch((names.query, names.key, names.value, names.out))},
        "mlp": {"layout": SingleBranch((names.up, names.down), mixes=False)},
    }
    if "moe" in kinds:
        experts = _ungated_experts(f)
        inside = ("fc1_latent_proj", "fc2_latent_proj") if experts.latent else ()
        linears = tuple(f"mixer.{path}" for path in (*inside, "shared_experts.up_proj", "shared_experts.down_proj"))
        parts["moe"] = {"layout": SingleBranch(linears, mixes=False), "experts": experts}
    return llama(
        Fields({"num_attention_heads": 32, "intermediate_size": 21504, **f.config, "num_hidden_layers": len(kinds)}),
        kv_heads=8,
        head_dim=128,
        rotary=0.0,
        norm="rms-fp32",
        gated=False,
        mlp_bias=f.flag("mlp_bias", False),
        activation=f.text("mlp_hidden_act", default="relu2"),
        tied=False,  # transformers has no weights to tie here, whatever the config says
        names=names,
        variants=periodic([parts[kind] for kind in kinds]),
    )


@family("zamba2")
def _(f: Fields) -> Architecture:
    hidden, heads, count = (
        f.size("hidden_size"),
        f.size("n_mamba_heads", default=8),
        f.size("num_mem_blocks", default=1),
    )
    default = ["linear_attention"] * 6 + (["hybrid"] + ["linear_attention"] * 5) * 7
    default = [
        *default[:-1],
        "hybrid",
        "linear_attention",
        "linear_attention",
        "linear_attention",
        "hybrid",
        "linear_attention",
        "linear_attention",
    ]
    kinds = of_all(f, layer_kinds(f, ("layers_block_type", "layer_types"), ("linear_attention", "hybrid"), default))
    inner, bias = expanded(f), f.flag("add_bias_linear", False)
    if not f.flag("tie_word_embeddings", True):
        raise PlanError(
            "model.tie_word_embeddings",
            False,
            "also parts the blocks that layers of zamba2 share, which is not covered",
            "Use true, as the published models do.",
        )
    mixer = StateSpaceDual(
        heads=heads,
        head=f.divided(inner, heads, "n_mamba_heads"),
        state=f.size("mamba_d_state", default=64),
        groups=f.size("mamba_ngroups", default=1),
        kernel=f.size("mamba_d_conv", default=4),
        chunk=f.size("chunk_size", default=256),
        bias=bias,
        convolution_bias=True,
        activation="silu",
        path="mamba",
    )
    uses = [i for i, kind in enumerate(kinds) if kind == "hybrid"]
    rank_, attends = f.size("adapter_rank", default=128), f.flag("use_shared_attention_adapter", False)
    inside = MambaBlock(mixer, "mamba_decoder.")
    variants: list[dict[str, Any]] = [
        {
            "layout": SharedTransformer(
                inside,
                uses[uses.index(i) % count],
                uses.index(i),
                tuple(range(uses.index(i) % count, len(uses), count)),
                rank_,
                attends,
            )
        }
        if i in uses
        else {"layout": MambaBlock(mixer)}
        for i in range(len(kinds))
    ]
    attention_heads = f.size("num_attention_heads", default=32)
    head = 2 * hidden // attention_heads
    if attends and f.size("num_key_value_heads", default=attention_heads) != attention_heads:
        raise PlanError(
            "model.num_key_value_heads", f.config["num_key_value_heads"], "does not fit adapters as wide as all heads",
            f"Use {attention_heads}, or no use_shared_attention_adapter.",
        )  # fmt: skip
    return llama(
        Fields(
            {"intermediate_size": 4 * hidden, "hidden_act": "gelu", **f.config, "num_attention_heads": attention_heads}
        ),
        head_dim=head,
        rotary=1.0 if f.flag("use_mem_rope", False) else 0.0,
        mlp_bias=bias,
        tied=True,
        embeddings_reread=True,
        names=Names(**_FEED_FORWARD),
        variants=tuple(variants),
    )
