"""Decoders whose code is Llama's with another norm, rotation or order of norms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Names
from planner.workload.families.fields import Fields, family
from planner.workload.families.gated import layer_windows, llama


def unrotated(rotated: Sequence[bool]) -> tuple[dict[str, Any], ...]:
    """Variants of a stack in which some layers have no positions (NoPE, Kazemnejad et al. 2023, arXiv:2305.19466)."""
    return () if all(rotated) else tuple({} if on else {"rotary_dim": 0} for on in rotated)


def listed(f: Fields, name: str, layers: int, rule: Callable[[int], Any]) -> list[Any]:
    """One value per layer, from the config's list or by the family's rule."""
    values = f.config.get(name)
    if values is None:
        return [rule(i) for i in range(layers)]
    if not isinstance(values, list) or len(values) != layers:
        raise PlanError(f"model.{name}", values, f"does not name the {layers} layers", "List one value per layer.")
    return values


def sliding(f: Fields, full_every: int, default: int, offset: int = 1) -> tuple[tuple[int | None, ...], list[bool]]:
    """Windows, and whether each layer slides: all but every `full_every`-th."""
    layers = f.layers("num_hidden_layers")
    size = f.size("sliding_window", default=default, zero=True) or None
    if "sliding_window" in f.config and f.config["sliding_window"] is None:
        size = None

    def slides(i: int) -> bool:
        return size is not None and bool(full_every) and (i + offset) % full_every != 0

    types = listed(f, "layer_types", layers, lambda i: "sliding_attention" if slides(i) else "full_attention")
    return layer_windows(f, layers, slides, size), [t == "sliding_attention" for t in types]


def cohere(f: Fields, **changes: Any) -> Architecture:
    """Command R: attention and MLP beside each other behind one norm."""
    bias = f.flag("attention_bias", False)
    traits: dict[str, Any] = {"norm": "layer-fp32", "names": Names(norms=("input_layernorm",)), **changes}
    return llama(
        f,
        placement="parallel",
        rotary_upcast=True,
        logits_scaled=True,
        qkv_bias=bias,
        out_bias=bias,
        tied=f.flag("tie_word_embeddings", True),
        **traits,
    )


@family("cohere")
def _(f: Fields) -> Architecture:
    return cohere(f, qk_norm="head" if f.flag("use_qk_norm", False) else "none")


@family("cohere2")
def _(f: Fields) -> Architecture:
    windows, slides = sliding(f, f.size("sliding_window_pattern", default=4), 4096)
    return cohere(f, windows=windows, variants=unrotated(slides) if windows else ({"rotary_dim": 0},))


@family("olmo")
def _(f: Fields) -> Architecture:
    bias = f.flag("attention_bias", False)
    clipped = f.config.get("clip_qkv") is not None
    return llama(f, norm="layer-cast", rotary_fp32=True, qk_clipped=clipped, qkv_bias=bias, out_bias=bias)


@family("olmo3")
def _(f: Fields) -> Architecture:
    bias = f.flag("attention_bias", False)
    return llama(
        f,
        norm="rms-fp32",
        placement="post-branch",
        qk_norm="full",
        rotary_fp32=True,
        rotary_bases=2,
        qkv_bias=bias,
        out_bias=bias,
        windows=sliding(f, 4, 4096)[0],
        names=Names(norms=("post_attention_layernorm", "post_feedforward_layernorm")),
    )


def _glm(f: Fields, **changes: Any) -> Architecture:
    return llama(
        f,
        kv_heads=2,
        head_dim=128,
        rotary=0.5,
        rotary_halved=True,
        fresh_rotary=True,
        fused_gate_up=True,
        qkv_bias=f.flag("attention_bias", True),
        **changes,
    )


@family("glm")
def _(f: Fields) -> Architecture:
    return _glm(f, names=Names(up="mlp.gate_up_proj"))


@family("glm4")
def _(f: Fields) -> Architecture:
    norms = ("input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm")
    return _glm(f, placement="sandwich", names=Names(up="mlp.gate_up_proj", norms=norms))


@family("smollm3")
def _(f: Fields) -> Architecture:
    layers, bias = f.layers("num_hidden_layers"), f.flag("attention_bias", False)
    interval = f.size("no_rope_layer_interval", default=4)
    rotated = [bool(v) for v in listed(f, "no_rope_layers", layers, lambda i: (i + 1) % interval != 0)]
    window = f.size("sliding_window", default=0, zero=True) if f.flag("use_sliding_window", False) else 0
    return llama(
        f,
        kv_heads=4,
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=f.flag("mlp_bias", False),
        windows=layer_windows(f, layers, lambda i: not rotated[i], window or None),
        variants=unrotated(rotated),
        tied=f.flag("tie_word_embeddings", True),
    )


@family("helium")
def _(f: Fields) -> Architecture:
    hidden, heads = f.size("hidden_size"), f.size("num_attention_heads", default=20)
    if heads * f.size("head_dim", default=128) != hidden:  # its output projection is square
        raise PlanError(
            "model.head_dim", f.config.get("head_dim", 128), f"times {heads} heads is not the width {hidden}", "Use sizes that fit."
        )
    return llama(
        f,
        kv_heads=20,
        head_dim=128,
        norm="rms-fp32",
        rotary_halved=True,
        qkv_bias=f.flag("attention_bias", False),
        mlp_bias=f.flag("mlp_bias", False),
    )


@family("ernie4_5")
def _(f: Fields) -> Architecture:
    bias = f.flag("use_bias", False)
    return llama(
        f,
        kv_heads=2,
        head_dim=128,
        rotary_fp32=True,
        rotary_upcast=True,
        rotary_halved=True,
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=bias,
        attention_dropout=0.0,
        tied=f.flag("tie_word_embeddings", True),
    )


@family("exaone")
def _(f: Fields) -> Architecture:
    bias = f.flag("attention_bias", False)
    return llama(f, kv_heads=8, qkv_bias=bias, out_bias=bias, mlp_bias=f.flag("mlp_bias", False))


@family("exaone4")
def _(f: Fields) -> Architecture:
    windows, slides = sliding(f, f.size("sliding_window_pattern", default=4, zero=True), 4096)
    return llama(
        f,
        kv_heads=32,
        placement="post-branch",
        qk_norm="head",
        windows=windows,
        variants=unrotated(slides) if windows else (),
        names=Names(norms=("post_attention_layernorm", "post_feedforward_layernorm")),
    )


@family("hunyuan_v1_dense")
def _(f: Fields) -> Architecture:
    bias = f.flag("attention_bias", False)
    names = Names(qk_norms=("self_attn.query_layernorm", "self_attn.key_layernorm"))
    return llama(f, qk_norm="head", qk_norm_last=True, qkv_bias=bias, out_bias=bias, names=names)


@family("apertus")
def _(f: Fields) -> Architecture:
    bias = f.flag("attention_bias", False)
    return llama(
        f,
        gated=False,
        activation=f.text("hidden_act", default="xielu"),
        qk_norm="head",
        qkv_bias=bias,
        out_bias=bias,
        names=Names(norms=("attention_layernorm", "feedforward_layernorm")),
    )


@family("ministral3")
def _(f: Fields) -> Architecture:
    window = f.size("sliding_window", default=0, zero=True)
    return llama(f, kv_heads=8, head_dim=128, query_rescaled=True, windows=(window,) if window else ())


@family("nanochat")
def _(f: Fields) -> Architecture:
    bias = f.flag("attention_bias", False)
    return llama(
        f,
        gated=False,
        activation=f.text("hidden_act", default="relu2"),
        norm="rms-bare",
        qk_norm="head",
        qk_norm_last=True,
        qkv_bias=bias,
        out_bias=bias,
        logit_softcap="final_logit_softcapping" not in f.config or f.config["final_logit_softcapping"] is not None,
        names=Names(up="mlp.fc1", down="mlp.fc2", embedding_norm="model.norm"),
    )


@family("vaultgemma")
def _(f: Fields) -> Architecture:
    bias = f.flag("attention_bias", False)
    return llama(
        f,
        kv_heads=4,
        head_dim=256,
        norm="rms-offset",
        embedding_scaled=True,
        activation=f.text("hidden_activation", default="gelu_pytorch_tanh"),
        qkv_bias=bias,
        out_bias=bias,
        attention_softcap="attn_logit_softcapping" not in f.config or f.config["attn_logit_softcapping"] is not None,
        logit_softcap="final_logit_softcapping" not in f.config or f.config["final_logit_softcapping"] is not None,
        windows=sliding(f, 2, 4096)[0],
        tied=f.flag("tie_word_embeddings", True),
        sdpa=False,
        names=Names(norms=("input_layernorm", "pre_feedforward_layernorm")),
    )


@family("jais2")
def _(f: Fields) -> Architecture:
    bias = f.flag("attention_bias", True)
    return llama(
        f,
        norm="layer",
        norm_bias=True,
        gated=False,
        activation=f.text("hidden_act", default="relu2"),
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=f.flag("mlp_bias", True),
    )


@family("cwm")
def _(f: Fields) -> Architecture:
    return llama(f, kv_heads=8, head_dim=128, mlp_bias=f.flag("mlp_bias", False), windows=sliding(f, 4, 8192, offset=0)[0])


@family("internlm3")
def _(f: Fields) -> Architecture:
    given = {name: f.config[name] for name in ("attention_bias", "qkv_bias", "mlp_bias", "bias") if f.config.get(name) is not None}
    bias = all(f.flag(name, False) for name in given) if given else False
    if len(set(given.values())) > 1:
        raise PlanError("model.bias", given, "is not one value for all projections", "Give qkv_bias and bias the same value.")
    return llama(f, kv_heads=2, head_dim=128, qkv_bias=bias, out_bias=bias, mlp_bias=bias)


@family("iquestcoder")
def _(f: Fields) -> Architecture:
    bias = f.flag("attention_bias", False)
    return llama(f, kv_heads=8, head_dim=128, qkv_bias=bias, out_bias=bias, mlp_bias=f.flag("mlp_bias", False))


@family("hyperclovax")
def _(f: Fields) -> Architecture:
    bias, around = f.flag("attention_bias", False), f.flag("use_post_norm", True)
    norms = ("input_layernorm", "post_norm1", "post_attention_layernorm", "post_norm2")
    return llama(
        f,
        placement="sandwich" if around else "pre",
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=f.flag("mlp_bias", False),
        embedding_scaled=True,
        residual_scaled=True,
        logits_scaled=True,
        names=Names(norms=norms) if around else Names(),
    )
