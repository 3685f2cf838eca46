"""Audio: the spectrogram transformer, and Speech2Text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture
from planner.workload.families.fields import Fields, family
from planner.workload.families.seq2seq import bart_stack
from planner.workload.families.vision import plain
from planner.workload.frames import FrameSubsampler
from planner.workload.seq2seq import Cross, TargetTokens
from planner.workload.spectrogram import ClipHead, Spectrogram


@family("audio-spectrogram-transformer")
def _(f: Fields) -> Architecture:
    prefix = "audio_spectrogram_transformer"
    e, patch = f"{prefix}.embeddings", f.size("patch_size", default=16)
    image = (f.size("num_mel_bins", default=128), f.size("max_length", default=1024))
    if min(image) < patch:
        raise PlanError("model.patch_size", patch, f"is more than a spectrogram of {image[0]} × {image[1]}", "Use a smaller patch.")
    front = Spectrogram(
        image, (patch, patch), 1, f"{e}.patch_embeddings.projection", before=((f"{e}.cls_token", 1), (f"{e}.distillation_token", 1)),
        positions_path=f"{e}.position_embeddings", sizes="fixed", keeps_cast=False, given_cast=True,
        dropout=f.fraction("hidden_dropout_prob"),
        stride=(f.size("frequency_stride", default=10), f.size("time_stride", default=10)),
    )  # fmt: skip
    return plain(f, prefix, front, (ClipHead(f.labels()), ClipHead(0, "none")))


@family("speech_to_text")
def _(f: Fields) -> Architecture:
    if not f.flag("tie_word_embeddings", True):
        raise PlanError("model.tie_word_embeddings", False, "is not covered for speech_to_text", "Published models share one table: use true.")
    for side in ("encoder", "decoder"):
        if f.fraction(f"{side}_layerdrop"):
            raise PlanError(f"model.{side}_layerdrop", f.config[f"{side}_layerdrop"], "skips layers by chance", "Use 0.")
    longest, targets = f.size("max_source_positions", default=6000), f.size("max_target_positions", default=1024)
    kernels = f.config.get("conv_kernel_sizes", (5, 5))
    if not isinstance(kernels, list | tuple) or not kernels or not all(isinstance(k, int) and k > 0 for k in kernels):
        raise PlanError("model.conv_kernel_sizes", kernels, "is not a list of sizes", "Give one whole number per convolution.")
    bins = f.size("input_feat_per_channel", default=80) * f.size("input_channels", default=1)
    shared: dict[str, Any] = {
        "activation": "relu", "fixed_positions": "buffer", "embedding_scaled": f.flag("scale_embedding", True), "classifier_hidden": False,
        "sdpa": False,
    }  # fmt: skip
    encoder = bart_stack(f, "encoder", **shared)
    front = FrameSubsampler(bins, f.size("conv_channels", default=1024), tuple(kernels), longest)
    decoder = bart_stack(f, "decoder", **shared)
    names = replace(decoder.names, embedding="model.decoder.embed_tokens", embedding_norm="")
    return replace(
        decoder,
        max_positions=targets,
        learned_positions=targets + 2,
        cross=Cross(),
        front=TargetTokens(targets),
        names=names,
        towers=(
            replace(
                encoder, front=front, max_positions=None, learned_positions=longest + 2, names=replace(encoder.names, embedding_norm="")
            ),
        ),
    )
