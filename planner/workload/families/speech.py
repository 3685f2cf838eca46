"""Speech: Whisper, and wav2vec 2.0 with its relatives."""

from __future__ import annotations

from dataclasses import replace

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Names
from planner.workload.families.fields import Fields, family
from planner.workload.families.seq2seq import bart_stack
from planner.workload.seq2seq import Cross, TargetTokens
from planner.workload.speech import CharacterLoss, ClipClassifier, MelWindow, WaveEncoder


@family("whisper")
def _(f: Fields) -> Architecture:
    if not f.flag("tie_word_embeddings", True):
        raise PlanError("model.tie_word_embeddings", False, "is not covered for whisper", "Published models share one table: use true.")
    positions = f.size("max_source_positions", default=1500)
    targets = f.size("max_target_positions", default=448)
    shared = {
        "key_bias": False,
        "query_scaled": True,
        "fresh_rotary": True,
        "embedding_scaled": False,
        "dropout": 0.0,
    }
    encoder = bart_stack(f, "encoder", learned_positions=positions, max_positions=None, **shared)
    decoder = bart_stack(f, "decoder", learned_positions=targets, max_positions=targets, **shared)
    decoder_names = replace(decoder.names, embedding="model.decoder.embed_tokens", embedding_norm="", head="proj_out")
    return replace(
        decoder,
        cross=Cross(),
        batched_positions=True,
        front=TargetTokens(targets, usual=targets),
        names=decoder_names,
        towers=(replace(encoder, front=MelWindow(f.size("num_mel_bins", default=80), positions)),),
    )


_PATHS = {"wav2vec2": "wav2vec2", "hubert": "hubert", "unispeech": "unispeech", "unispeech-sat": "unispeech_sat"}


def _sizes(f: Fields, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    given = f.config.get(name)
    if given is None:
        return default
    if not isinstance(given, list | tuple) or not all(isinstance(v, int) and v > 0 for v in given) or not given:
        raise PlanError(f"model.{name}", given, "is not a list of sizes", "Give one whole number per convolution.")
    return tuple(given)


@family(*_PATHS)
def _(f: Fields) -> Architecture:
    kind = f.config["model_type"]
    for name in ("add_adapter", "use_weighted_layer_sum", "conv_pos_batch_norm"):
        if f.flag(name, False):
            raise PlanError(f"model.{name}", True, f"is not covered for {kind}", "Use false.")
    if f.config.get("adapter_attn_dim") is not None:
        raise PlanError("model.adapter_attn_dim", f.config["adapter_attn_dim"], "is not covered", "Leave it out.")
    hidden, heads = f.size("hidden_size", default=768), f.size("num_attention_heads", default=12)
    path, stable = _PATHS[kind], f.flag("do_stable_layer_norm", False)
    dropout = f.fraction("hidden_dropout", default=0.1)
    widths = _sizes(f, "conv_dim", (512,) * 7)
    front = WaveEncoder(
        path=path,
        widths=widths,
        kernels=_sizes(f, "conv_kernel", (10, 3, 3, 3, 3, 2, 2)),
        strides=_sizes(f, "conv_stride", (5, 2, 2, 2, 2, 2, 2)),
        group_norm=f.text("feat_extract_norm", default="group") == "group",
        bias=f.flag("conv_bias", False),
        activation=f.text("feat_extract_activation", default="gelu"),
        position_kernel=f.size("num_conv_pos_embeddings", default=128),
        position_groups=f.size("num_conv_pos_embedding_groups", default=16),
        projection_norm=f.flag("feat_proj_layer_norm", True) or kind != "hubert",
        projection_dropout=f.fraction("feat_proj_dropout", default=0.0),
        late_norm=stable,
        masked=f.fraction("mask_time_prob", default=0.05) > 0 or f.fraction("mask_feature_prob", default=0.0) > 0,
    )
    if not len(front.widths) == len(front.kernels) == len(front.strides):
        raise PlanError(
            "model.conv_kernel", front.kernels, "is not as long as conv_dim and conv_stride", "Give one entry a layer."
        )
    names = Names(
        layer=f"{path}.encoder.layers.{{i}}",
        query="attention.q_proj",
        key="attention.k_proj",
        value="attention.v_proj",
        out="attention.out_proj",
        up="feed_forward.intermediate_dense",
        down="feed_forward.output_dense",
        norms=("layer_norm", "final_layer_norm"),
        embedding=f"{path}.feature_extractor",
        final_norm=f"{path}.encoder.layer_norm",
        head="",  # transformers names none of its heads as output embeddings, so that peft adapts them too
        classifier="classifier",
    )
    return Architecture(
        model_type=kind,
        hidden=hidden,
        layers=f.layers("num_hidden_layers"),
        heads=heads,
        kv_heads=heads,
        head_dim=f.divided(hidden, heads, "num_attention_heads"),
        ffn=f.size("intermediate_size", default=3072),
        vocab=f.size("vocab_size", default=32),
        max_positions=None,
        causal=False,
        norm="layer",
        norm_bias=True,
        placement="pre" if stable else "post",
        final_norm=stable,
        activation=f.text("hidden_act", default="gelu"),
        gated=False,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        softmax="plain",
        num_labels=f.labels(),
        embedding_dropout=dropout,
        hidden_dropout=dropout,
        attention_dropout=f.fraction("attention_dropout", default=0.1),
        activation_dropout=f.fraction("activation_dropout", default=0.1),
        front=front,
        outputs=(
            CharacterLoss(f.size("vocab_size", default=32), f.fraction("final_dropout", default=0.1)),
            ClipClassifier(f.size("classifier_proj_size", default=256), f.labels()),
        ),
        default_head="ctc",
        names=names,
    )
