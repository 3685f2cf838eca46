"""Encoder-decoders of text: T5 and its relatives, BART and its relatives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Names
from planner.workload.families.fields import Fields, family
from planner.workload.seq2seq import Cross, RelativeBias, TargetTokens


def _t5_names(stack: str, mlp: int) -> Names:
    dense = f"layer.{mlp}.DenseReluDense"
    return Names(
        layer=f"{stack}.block.{{i}}",
        query="layer.0.SelfAttention.q",
        key="layer.0.SelfAttention.k",
        value="layer.0.SelfAttention.v",
        out="layer.0.SelfAttention.o",
        gate=f"{dense}.wi_0",
        up=f"{dense}.wi_1",
        down=f"{dense}.wo",
        norms=("layer.0.layer_norm", f"layer.{mlp}.layer_norm"),
        embedding="shared",
        final_norm=f"{stack}.final_layer_norm",
        classifier="classification_head",
    )


@family("t5", "mt5", "umt5")
def _(f: Fields) -> Architecture:
    kind = f.config["model_type"]
    feed_forward = f.text("feed_forward_proj", default="relu" if kind == "t5" else "gated-gelu")
    gated, activation = feed_forward.startswith("gated-"), feed_forward.removeprefix("gated-")
    activation = "gelu_new" if feed_forward == "gated-gelu" else activation
    layers, heads, dropout = f.layers("num_layers"), f.size("num_heads"), f.fraction("dropout_rate", default=0.1)
    own = kind == "umt5"
    names = _t5_names("encoder", 1)
    encoder = Architecture(
        model_type=kind,
        hidden=f.size("d_model"),
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_dim=f.size("d_kv", default=64),
        ffn=f.size("d_ff"),
        vocab=f.size("vocab_size"),
        max_positions=None,
        causal=False,
        norm="rms-own",
        activation=activation,
        gated=gated,
        softmax="plain",
        tied=True,
        num_labels=f.labels(),
        embedding_dropout=dropout,
        hidden_dropout=dropout,
        attention_dropout=dropout,
        activation_dropout=dropout,
        final_dropout=dropout,
        wide_down=True,
        plain_loss=True,
        position_bias=RelativeBias(f.size("relative_attention_num_buckets", default=32), shared=not own),
        names=names if gated else replace(names, up="layer.1.DenseReluDense.wi"),
        tower="encoder",
    )
    names = _t5_names("decoder", 2)
    return replace(
        encoder,
        layers=f.layers("num_decoder_layers") if f.config.get("num_decoder_layers") is not None else layers,
        causal=True,
        # the first T5 scaled the decoder's output; later configs say so by not tying, though transformers always ties
        output_scaled=kind != "mt5" and f.flag("tie_word_embeddings", True),
        front=TargetTokens(),
        cross=Cross(
            "layer.1.EncDecAttention.q",
            "layer.1.EncDecAttention.k",
            "layer.1.EncDecAttention.v",
            "layer.1.EncDecAttention.o",
            "layer.1.layer_norm",
            zeros="own" if own else "shared",
        ),
        names=names if gated else replace(names, up="layer.2.DenseReluDense.wi"),
        towers=(encoder,),
        tower="",
    )


def bart_names(stack: str, shared: str = "model.shared") -> Names:
    """Module paths of BART and everything that was copied from it."""
    return Names(
        layer=f"{stack}.layers.{{i}}",
        out="self_attn.out_proj",
        up="fc1",
        down="fc2",
        norms=("self_attn_layer_norm", "final_layer_norm"),
        embedding=shared,
        positions=f"{stack}.embed_positions",
        embedding_norm=f"{stack}.layernorm_embedding",
        final_norm=f"{stack}.layer_norm",
        classifier="classification_head",
    )


def bart_stack(f: Fields, side: str, **changes: Any) -> Architecture:
    """One side, `encoder` or `decoder`: LayerNorm, biases everywhere, a plain MLP."""
    hidden, heads = f.size("d_model"), f.size(f"{side}_attention_heads")
    positions = f.size("max_position_embeddings", default=changes.pop("positions", 1024))
    dropout = f.fraction("dropout", default=changes.pop("dropout", 0.1))
    stack = Architecture(
        model_type=f.config["model_type"],
        hidden=hidden,
        layers=f.layers(f"{side}_layers"),
        heads=heads,
        kv_heads=heads,
        head_dim=f.divided(hidden, heads, f"{side}_attention_heads"),
        ffn=f.size(f"{side}_ffn_dim"),
        vocab=f.size("vocab_size"),
        max_positions=positions,
        learned_positions=positions + changes.pop("offset", 0),
        causal=side == "decoder",
        norm="layer",
        norm_bias=True,
        activation=f.text("activation_function", default=changes.pop("activation", "gelu")),
        gated=False,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        softmax="plain",
        tied=True,
        classifier_bias=True,
        classifier_hidden=True,
        num_labels=f.labels(),
        embedding_scaled=True,
        embedding_dropout=dropout,
        hidden_dropout=dropout,
        attention_dropout=f.fraction("attention_dropout", default=changes.pop("attention_dropout", 0.0)),
        activation_dropout=f.fraction("activation_dropout", default=0.0),
        classifier_dropout=f.fraction("classifier_dropout", default=0.0),
        plain_loss=True,
        names=bart_names(f"model.{side}"),
        tower="encoder" if side == "encoder" else "",
    )
    return replace(stack, **changes)


def bart(f: Fields, **changes: Any) -> Architecture:
    """Encoder and decoder with what both have in common."""
    if not f.flag("tie_word_embeddings", True):
        raise PlanError(
            "model.tie_word_embeddings",
            False,
            f"is not covered for {f.config['model_type']}",
            "Published models share one table between encoder, decoder and head: use true.",
        )
    decoder = bart_stack(f, "decoder", logit_offset=True, cross=Cross(), **changes)
    encoder = bart_stack(f, "encoder", **changes)
    return replace(decoder, towers=(encoder,), front=TargetTokens(decoder.max_positions))


@family("bart", "plbart")
def _(f: Fields) -> Architecture:
    code = f.config["model_type"] == "plbart"
    return bart(f, offset=2, placement="post", final_norm=False, attention_dropout=0.1 if code else 0.0)


@family("mbart")
def _(f: Fields) -> Architecture:
    return bart(f, offset=2)


@family("blenderbot")
def _(f: Fields) -> Architecture:
    return without_embedding_norm(bart(f, positions=128))


@family("blenderbot-small")
def _(f: Fields) -> Architecture:
    made = bart(f, positions=512, placement="post", final_norm=False)
    norm = made.names.embedding_norm  # the decoder's stands before the positions are added
    return replace(made, embedding_scaled=True, names=replace(made.names, embedding_norm="", early_norm=norm))


@family("pegasus")
def _(f: Fields) -> Architecture:
    return without_embedding_norm(bart(f, fixed_positions="parameter"))


@family("marian")
def _(f: Fields) -> Architecture:
    if not f.flag("share_encoder_decoder_embeddings", True) or f.size(
        "decoder_vocab_size", default=f.size("vocab_size")
    ) != f.size("vocab_size"):
        raise PlanError(
            "model.share_encoder_decoder_embeddings",
            f.config.get("share_encoder_decoder_embeddings"),
            "is planned only with one vocabulary for both sides",
            "Use a model with a shared vocabulary.",
        )
    changes: dict[str, Any] = {"placement": "post", "final_norm": False, "fixed_positions": "parameter"}
    return without_embedding_norm(bart(f, **changes))


@family("m2m_100")
def _(f: Fields) -> Architecture:
    changes: dict[str, Any] = {"activation": "relu", "attention_dropout": 0.1, "fixed_positions": "buffer", "offset": 2}
    return replace(without_embedding_norm(bart(f, **changes)), logit_offset=False)


def without_embedding_norm(made: Architecture) -> Architecture:
    """The same without a norm behind the embeddings."""

    def bare(stack: Architecture) -> Architecture:
        return replace(stack, names=replace(stack.names, embedding_norm=""))

    return replace(bare(made), towers=tuple(bare(tower) for tower in made.towers))
