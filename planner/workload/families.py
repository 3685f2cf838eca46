"""From a Hugging Face `config.json` to an `Architecture`: one registered reader per `model_type`.

A reader states the conventions that the config leaves to the model's code.

Source of every convention: the `modeling_*.py` of transformers 5.24; tests compare parameter counts with those
classes to the last digit. A field that the config leaves out has transformers' default; sizes without which nothing
can be said (width, depth, heads, vocabulary) must be there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Names

Config = Mapping[str, Any]
Reader = Callable[["Fields"], Architecture]
FAMILIES: dict[str, Reader] = {}

_LARGEST = {"layers": 10_000, "size": 10_000_000}


class Fields:
    """Typed access to a config; every problem names the field, the value and the fix."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def size(self, *names: str, default: int | None = None, most: int = _LARGEST["size"], zero: bool = False) -> int:
        """A positive integer under the first of `names` that is there."""
        for name in names:
            value = self.config.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not (0 if zero else 1) <= value <= most:
                raise PlanError(
                    f"model.{name}",
                    value,
                    "is not a usable size",
                    f"Give a whole number from {0 if zero else 1} to {most}.",
                )
            return value
        if default is None:
            raise PlanError(f"model.{names[0]}", None, "is missing from the config", f"Add {names[0]}, a whole number.")
        return default

    def layers(self, *names: str) -> int:
        return self.size(*names, most=_LARGEST["layers"])

    def flag(self, name: str, default: bool) -> bool:
        value = self.config.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise PlanError(f"model.{name}", value, "is not true or false", "Write true or false.")
        return value

    def fraction(self, *names: str, default: float = 0.0) -> float:
        for name in names:
            value = self.config.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise PlanError(f"model.{name}", value, "is not a fraction", "Give a number from 0 to 1.")
            return float(value)
        return default

    def text(self, *names: str, default: str) -> str:
        for name in names:
            value = self.config.get(name)
            if value is None:
                continue
            if not isinstance(value, str):
                raise PlanError(f"model.{name}", value, "is not a name", "Give it as text.")
            return value
        return default

    def divided(self, total: int, heads: int, what: str) -> int:
        if total % heads:
            raise PlanError(
                f"model.{what}",
                heads,
                f"does not divide the width {total}",
                "Use a head count that divides it, or give head_dim.",
            )
        return total // heads

    def rope(self, name: str, default: float) -> float:
        """A field of `rope_parameters` (transformers 5) or of the config itself (before)."""
        nested = self.config.get("rope_parameters")
        if isinstance(nested, Mapping) and isinstance(nested.get(name), int | float):
            return Fields(nested).fraction(name, default=default)
        return self.fraction(name, default=default)

    def labels(self) -> int:
        """transformers counts labels by `num_labels` or by the length of `id2label`; two when neither is there."""
        if (
            isinstance(self.config.get("id2label"), Mapping)
            and self.config["id2label"]
            and self.config.get("num_labels") is None
        ):
            return len(self.config["id2label"])
        return self.size("num_labels", default=2)


def family(*model_types: str) -> Callable[[Reader], Reader]:
    """Register a reader for `model_type`s; a second one for the same type is a mistake."""

    def register(reader: Reader) -> Reader:
        for name in model_types:
            if name in FAMILIES:
                raise RuntimeError(f"model_type {name} is read twice")
            FAMILIES[name] = reader
        return reader

    return register


def read_config(config: Config) -> Architecture:
    """`Architecture` of a config mapping. Raises `PlanError` for an unknown type and for any field that cannot be."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise PlanError(
            "model.model_type",
            model_type,
            "is missing or not text",
            "Give the model_type of the Hugging Face config, for example llama.",
        )
    if model_type not in FAMILIES:
        raise PlanError(
            "model.model_type",
            model_type,
            "is not covered",
            f"Covered: {', '.join(sorted(FAMILIES))}. Give a config of one of these types.",
        )
    return FAMILIES[model_type](Fields(config)).check()


# -- decoders with rotary positions, RMS norm and a gated MLP ------------------------------------------------------------------------------------------


def _llama(f: Fields, **changes: Any) -> Architecture:
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


def _windows(f: Fields, layers: int, pattern: Callable[[int], bool], size: int | None) -> tuple[int | None, ...]:
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
    return _llama(f, qkv_bias=bias, out_bias=bias, mlp_bias=f.flag("mlp_bias", False))


@family("mistral")
def _(f: Fields) -> Architecture:
    window = f.size("sliding_window", default=0, zero=True) if "sliding_window" in f.config else 4096
    return _llama(f, kv_heads=8, windows=(window,) if window else ())


@family("qwen2")
def _(f: Fields) -> Architecture:
    layers = f.layers("num_hidden_layers")
    size = (f.size("sliding_window", default=4096) if f.flag("use_sliding_window", False) else 0) or None
    first = f.size("max_window_layers", default=28, zero=True)
    return _llama(f, kv_heads=32, qkv_bias=True, windows=_windows(f, layers, lambda i: i >= first, size))


@family("qwen3")
def _(f: Fields) -> Architecture:
    layers, bias = f.layers("num_hidden_layers"), f.flag("attention_bias", False)
    size = (f.size("sliding_window", default=4096) if f.flag("use_sliding_window", False) else 0) or None
    first = f.size("max_window_layers", default=28, zero=True)
    return _llama(
        f,
        kv_heads=32,
        head_dim=128,
        qkv_bias=bias,
        out_bias=bias,
        qk_norm="head",
        windows=_windows(f, layers, lambda i: i >= first, size),
    )


@family("gemma")
def _(f: Fields) -> Architecture:
    bias = f.flag("attention_bias", False)
    activation = (
        f.text("hidden_activation", default="gelu_pytorch_tanh")
        if f.config.get("hidden_activation")
        else "gelu_pytorch_tanh"
    )
    return _llama(
        f,
        head_dim=256,
        qkv_bias=bias,
        out_bias=bias,
        norm="rms-offset",
        embedding_scaled=True,
        activation=activation,
        tied=f.flag("tie_word_embeddings", True),
    )


@family("gemma2")
def _(f: Fields) -> Architecture:
    layers, bias = f.layers("num_hidden_layers"), f.flag("attention_bias", False)
    names = Names(
        norms=("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
    )
    size = f.size("sliding_window", default=4096, zero=True) or None
    return _llama(
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
        attention_softcap="attn_logit_softcapping" not in f.config or f.config["attn_logit_softcapping"] is not None,
        logit_softcap="final_logit_softcapping" not in f.config or f.config["final_logit_softcapping"] is not None,
        windows=_windows(f, layers, lambda i: not i % 2, size),
        sdpa=False,
    )


@family("olmo2")
def _(f: Fields) -> Architecture:
    bias = f.flag("attention_bias", False)
    names = Names(norms=("post_attention_layernorm", "post_feedforward_layernorm"))
    return _llama(
        f, qkv_bias=bias, out_bias=bias, norm="rms-fp32", placement="post-branch", qk_norm="full", names=names
    )


@family("phi3")
def _(f: Fields) -> Architecture:
    names = Names(fused="self_attn.qkv_proj", up="mlp.gate_up_proj")
    window = f.size("sliding_window", default=0, zero=True)
    return _llama(
        f,
        fused_qkv=True,
        fused_gate_up=True,
        fresh_rotary=True,
        names=names,
        windows=(window,) if window else (),
        embedding_dropout=0.0,
        hidden_dropout=f.fraction("resid_pdrop"),
    )


# -- decoders with LayerNorm and a plain MLP -----------------------------------------------------------------------------------------------------------


@family("phi")
def _(f: Fields) -> Architecture:
    names = Names(
        out="self_attn.dense",
        up="mlp.fc1",
        down="mlp.fc2",
        norms=("input_layernorm",),
        final_norm="model.final_layernorm",
        qk_norms=("self_attn.q_layernorm", "self_attn.k_layernorm"),
    )
    if f.flag("qk_layernorm", False):
        raise PlanError(
            "model.qk_layernorm", True, "is not covered for phi", "No published Phi model sets it; use false."
        )
    return _llama(
        f,
        rotary=0.5,
        activation=f.text("hidden_act", default="gelu_new"),
        gated=False,
        norm="layer",
        norm_bias=True,
        placement="parallel",
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        head_bias=True,
        fresh_rotary=True,
        hidden_dropout=f.fraction("resid_pdrop"),
        embedding_dropout=f.fraction("embd_pdrop"),
        names=names,
    )


@family("gpt2")
def _(f: Fields) -> Architecture:
    hidden, heads = f.size("n_embd", "hidden_size"), f.size("n_head", "num_attention_heads")
    names = Names(
        layer="transformer.h.{i}",
        fused="attn.c_attn",
        out="attn.c_proj",
        up="mlp.c_fc",
        down="mlp.c_proj",
        norms=("ln_1", "ln_2"),
        embedding="transformer.wte",
        positions="transformer.wpe",
        final_norm="transformer.ln_f",
    )
    positions = f.size("n_positions", "max_position_embeddings", default=1024)
    return Architecture(
        model_type="gpt2",
        hidden=hidden,
        layers=f.layers("n_layer", "num_hidden_layers"),
        heads=heads,
        kv_heads=heads,
        head_dim=f.divided(hidden, heads, "n_head"),
        ffn=f.size("n_inner", "intermediate_size", default=4 * hidden),
        vocab=f.size("vocab_size"),
        max_positions=positions,
        learned_positions=positions,
        norm="layer",
        norm_bias=True,
        activation=f.text("activation_function", default="gelu_new"),
        gated=False,
        fused_qkv=True,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        tied=f.flag("tie_word_embeddings", True),
        softmax_upcast=False,
        embedding_dropout=f.fraction("embd_pdrop", default=0.1),
        hidden_dropout=f.fraction("resid_pdrop", default=0.1),
        attention_dropout=f.fraction("attn_pdrop", default=0.1),
        names=names,
    )


@family("opt")
def _(f: Fields) -> Architecture:
    hidden, heads, bias = f.size("hidden_size"), f.size("num_attention_heads"), f.flag("enable_bias", True)
    pre = f.flag("do_layer_norm_before", True)
    names = Names(
        layer="model.decoder.layers.{i}",
        out="self_attn.out_proj",
        up="fc1",
        down="fc2",
        norms=("self_attn_layer_norm", "final_layer_norm"),
        embedding="model.decoder.embed_tokens",
        positions="model.decoder.embed_positions",
        final_norm="model.decoder.final_layer_norm",
    )
    positions = f.size("max_position_embeddings", default=2048)
    width = f.size("word_embed_proj_dim", default=hidden)
    return Architecture(
        model_type="opt",
        hidden=hidden,
        layers=f.layers("num_hidden_layers"),
        heads=heads,
        kv_heads=heads,
        head_dim=f.divided(hidden, heads, "num_attention_heads"),
        ffn=f.size("ffn_dim", "intermediate_size"),
        vocab=f.size("vocab_size"),
        max_positions=positions,
        learned_positions=positions + 2,
        norm="layer",
        norm_bias=True,
        norm_affine=f.flag("layer_norm_elementwise_affine", True),
        placement="pre" if pre else "post",
        final_norm=pre and not f.flag("_remove_final_layer_norm", False),
        activation=f.text("activation_function", default="relu"),
        gated=False,
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=bias,
        embedding_width=0 if width == hidden else width,
        tied=f.flag("tie_word_embeddings", True),
        query_scaled=True,
        hidden_dropout=f.fraction("dropout", default=0.1),
        attention_dropout=f.fraction("attention_dropout"),
        names=names,
    )


@family("gpt_neox")
def _(f: Fields) -> Architecture:
    hidden, heads = f.size("hidden_size"), f.size("num_attention_heads")
    head_dim, bias = f.divided(hidden, heads, "num_attention_heads"), f.flag("attention_bias", True)
    names = Names(
        layer="gpt_neox.layers.{i}",
        fused="attention.query_key_value",
        out="attention.dense",
        up="mlp.dense_h_to_4h",
        down="mlp.dense_4h_to_h",
        embedding="gpt_neox.embed_in",
        final_norm="gpt_neox.final_layer_norm",
    )
    parallel = f.flag("use_parallel_residual", True)
    rotary = f.rope("partial_rotary_factor", f.fraction("rotary_pct", default=0.25))
    return Architecture(
        model_type="gpt_neox",
        hidden=hidden,
        layers=f.layers("num_hidden_layers"),
        heads=heads,
        kv_heads=heads,
        head_dim=head_dim,
        ffn=f.size("intermediate_size"),
        vocab=f.size("vocab_size"),
        max_positions=f.size("max_position_embeddings", default=2048),
        norm="layer",
        norm_bias=True,
        placement="parallel" if parallel else "pre",
        parallel_norms=2,
        activation=f.text("hidden_act", default="gelu"),
        gated=False,
        fused_qkv=True,
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=True,
        rotary_dim=int(head_dim * rotary),
        fresh_rotary=True,
        tied=f.flag("tie_word_embeddings", False),
        hidden_dropout=f.fraction("hidden_dropout"),
        attention_dropout=f.fraction("attention_dropout"),
        names=names,
    )


# -- encoders ------------------------------------------------------------------------------------------------------------------------------------------


def _bert(f: Fields, prefix: str, **changes: Any) -> Architecture:
    hidden, heads = f.size("hidden_size"), f.size("num_attention_heads")
    names = Names(
        layer=prefix + ".encoder.layer.{i}",
        query="attention.self.query",
        key="attention.self.key",
        value="attention.self.value",
        out="attention.output.dense",
        up="intermediate.dense",
        down="output.dense",
        norms=("attention.output.LayerNorm", "output.LayerNorm"),
        embedding=f"{prefix}.embeddings.word_embeddings",
        positions=f"{prefix}.embeddings.position_embeddings",
        token_types=f"{prefix}.embeddings.token_type_embeddings",
        embedding_norm=f"{prefix}.embeddings.LayerNorm",
        head="cls.predictions" if prefix == "bert" else "lm_head",
        classifier="classifier",
    )
    positions = f.size("max_position_embeddings", default=512)
    dropout = f.fraction("hidden_dropout_prob", default=0.1)
    base = Architecture(
        model_type=f.config["model_type"],
        hidden=hidden,
        layers=f.layers("num_hidden_layers"),
        heads=heads,
        kv_heads=heads,
        head_dim=f.divided(hidden, heads, "num_attention_heads"),
        ffn=f.size("intermediate_size"),
        vocab=f.size("vocab_size"),
        max_positions=positions,
        learned_positions=positions,
        token_types=f.size("type_vocab_size", default=2),
        causal=f.flag("is_decoder", False),
        norm="layer",
        norm_bias=True,
        placement="post",
        final_norm=False,
        activation=f.text("hidden_act", default="gelu"),
        gated=False,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        softmax_upcast=False,
        tied=f.flag("tie_word_embeddings", True),
        head_bias=True,
        head_transform=True,
        num_labels=f.labels(),
        embedding_dropout=dropout,
        hidden_dropout=dropout,
        attention_dropout=f.fraction("attention_probs_dropout_prob", default=0.1),
        classifier_dropout=f.fraction("classifier_dropout", default=dropout),
        classifier_bias=True,
        default_head="sequence-classification",
        names=names,
    )
    return replace(base, **changes)


@family("bert")
def _(f: Fields) -> Architecture:
    return _bert(f, "bert", pooler=True)


@family("roberta", "xlm-roberta", "camembert")
def _(f: Fields) -> Architecture:
    # positions start behind the padding index (1), so two rows of the table are never used
    positions = f.size("max_position_embeddings", default=512)
    return _bert(f, "roberta", classifier_hidden=True, max_positions=max(1, positions - 2))
