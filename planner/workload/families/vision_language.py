"""Vision-language models whose tower is their own: Qwen3-VL, Mistral 3 with Pixtral's, Idefics3 and SmolVLM."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Names
from planner.workload.bucketed import BucketedPictures, SquareLinear
from planner.workload.families.contrastive import _siglip_vision
from planner.workload.families.fields import Fields, family
from planner.workload.families.multimodal import (
    PROJECTOR,
    TEXT_DEFAULTS,
    TEXT_TYPES,
    TOWER,
    as_tower,
    language_model,
    packed,
    part,
)
from planner.workload.families.vision import pair
from planner.workload.image_rows import ImageRow, RowAttention, SquareMerger
from planner.workload.merging import VISION, MergeImages
from planner.workload.packed_vision import DeepAdd, DeepTap, PackedPatches, PatchMerger

TEXT_TYPES |= {"qwen3_vl_text": "qwen3", "qwen3_vl_moe_text": "qwen3_moe"}
TEXT_DEFAULTS |= {
    "qwen3_vl_text": {
        "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 151936,
        "head_dim": 128,
    },
    "qwen3_vl_moe_text": {
        "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 16,
        "vocab_size": 151936, "num_experts": 60, "num_experts_per_tok": 4, "moe_intermediate_size": 1408, "norm_topk_prob": True,
    },
    "qwen3_5_text": {
        "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 32, "num_attention_heads": 16, "vocab_size": 248320,
    },
    "qwen3_5_moe_text": {"hidden_size": 2048, "num_hidden_layers": 40, "num_attention_heads": 16, "vocab_size": 248320},
}  # fmt: skip


def _tower(f: Fields, feeds: bool) -> Architecture:
    """feeds: some of its layers feed layers of the language model."""
    vision, visual = part(f, "vision_config", "qwen3_vl_vision"), "model.visual"
    hidden, width = vision.size("hidden_size", default=1152), vision.size("out_hidden_size", default=3584)
    squared = vision.size("spatial_merge_size", default=2) ** 2
    shared: dict[str, Any] = {"width": width, "squared": squared, "norm": "norm", "parts": ("linear_fc1", "linear_fc2")}
    sized = Fields({**vision.config, "depth": vision.size("depth", default=27), "patch_size": vision.size("patch_size", default=16)})
    tower = packed(
        f, sized, hidden, width, 0,
        ffn=vision.size("intermediate_size", default=4304),
        gated=False,
        norm="layer",
        norm_bias=True,
        activation=vision.text("hidden_act", default="gelu_pytorch_tanh"),
        tail=PatchMerger(f"{visual}.merger", **shared),
    )  # fmt: skip
    front = tower.front
    assert isinstance(front, PackedPatches)
    taken = vision.config.get("deepstack_visual_indexes", (8, 16, 24)) if feeds else ()
    if not isinstance(taken, list | tuple) or not all(isinstance(i, int) and 0 <= i < tower.layers for i in taken):
        raise PlanError(
            "model.vision_config.deepstack_visual_indexes", taken, f"does not list layers of the {tower.layers}", "List layer numbers."
        )
    taps: list[dict[str, Any]] = [{} for _ in range(tower.layers)]
    for number, layer in enumerate(taken):
        merger = PatchMerger(f"{visual}.deepstack_merger_list.{number}", late=True, **shared)
        taps[layer] = {"behind": DeepTap(merger, number)}
    names = replace(tower.names, up="mlp.linear_fc1", down="mlp.linear_fc2", positions=f"{visual}.pos_embed")
    rows = vision.size("num_position_embeddings", default=2304)
    return replace(
        tower, tower=VISION, names=names, variants=tuple(taps) if any(taps) else (),
        front=replace(front, bias=True, table=(f"{visual}.pos_embed", rows), exposed=False),
    )  # fmt: skip


def _deep(f: Fields, text: str) -> Architecture:
    tower = _tower(f, feeds=True)
    made = language_model(f, text, tower, rotary_batched=True)
    count = sum(1 for kind in (tower.at(i) for i in range(tower.layers)) if kind.behind is not None)
    if count > made.layers:
        raise PlanError(
            "model.vision_config.deepstack_visual_indexes", count, f"are more than the {made.layers} layers that take them", "List fewer."
        )
    changes = made.variants or ({},)
    variants = tuple(
        {**changes[i % len(changes)], **({"behind": DeepAdd(i)} if i < count else {})} for i in range(made.layers)
    )  # fmt: skip
    return replace(made, variants=variants if count else made.variants)


@family("qwen3_vl")
def _(f: Fields) -> Architecture:
    return _deep(f, "qwen3_vl_text")


@family("qwen3_vl_moe")
def _(f: Fields) -> Architecture:
    made = _deep(f, "qwen3_vl_moe_text")
    assert made.experts is not None  # peft does not know these experts by the names that they had before they were stacked
    return replace(made, experts=replace(made.experts, unstacked=()))


@family("qwen3_5", "qwen3_5_moe")
def _(f: Fields) -> Architecture:
    return language_model(f, f"{f.config['model_type']}_text", _tower(f, feeds=False), rotary_batched=True)


def pixtral(f: Fields, vision: Fields, width: int, prefix: str = TOWER) -> Architecture:
    """Pixtral's tower; `vision` is its config, `width` that of the language model."""
    hidden, heads = vision.size("hidden_size", default=1024), vision.size("num_attention_heads", default=16)
    merge = f.size("spatial_merge_size", default=2)
    (size, other), (patch, _) = pair(vision, "image_size", 1024), pair(vision, "patch_size", 16)
    front = ImageRow(
        patch=patch, merge=merge, channels=vision.size("num_channels", default=3), path=f"{prefix}.patch_conv", size=max(size, other),
        norm=f"{prefix}.ln_pre",
    )  # fmt: skip
    attention = RowAttention()
    names = Names(
        layer=f"{prefix}.transformer.layers.{{i}}", query=attention.linears[0], key=attention.linears[1], value=attention.linears[2],
        out=attention.linears[3], gate="feed_forward.gate_proj", up="feed_forward.up_proj", down="feed_forward.down_proj",
        norms=("attention_norm", "ffn_norm"), embedding=f"{prefix}.patch_conv", embedding_norm=f"{prefix}.ln_pre",
    )  # fmt: skip
    head_dim = vision.divided(hidden, heads, "vision_config.num_attention_heads")
    return Architecture(
        model_type=f.config["model_type"],
        hidden=hidden,
        layers=vision.layers("num_hidden_layers") if "num_hidden_layers" in vision.config else 24,
        heads=heads,
        kv_heads=heads,
        head_dim=head_dim,
        ffn=vision.size("intermediate_size", default=4096),
        vocab=0,
        max_positions=None,
        causal=False,
        rotary_dim=head_dim,
        activation=vision.text("hidden_act", default="gelu"),
        final_norm=False,
        attention_dropout=vision.fraction("attention_dropout"),
        names=names,
        front=front,
        mixer=attention,
        tail=SquareMerger(
            PROJECTOR, width, merge**2, f.text("projector_hidden_act", default="gelu"), f.flag("multimodal_projector_bias", False)
        ),
        tower=VISION,
    )


@family("mistral3")
def _(f: Fields) -> Architecture:
    vision, layer = part(f, "vision_config", "pixtral"), f.config.get("vision_feature_layer", -1)
    if vision.config["model_type"] != "pixtral":
        raise PlanError("model.vision_config.model_type", vision.config["model_type"], "is not covered in mistral3", "Use pixtral.")
    if layer != -1:
        raise PlanError("model.vision_feature_layer", layer, "is not covered for mistral3", "Use -1, the tower's last layer.")
    tower = pixtral(f, vision, part(f, "text_config", "mistral").size("hidden_size"))
    return language_model(f, "mistral", tower, tied=f.flag("tie_word_embeddings", True))


@family("idefics3", "smolvlm")
def _(f: Fields) -> Architecture:
    prefix, text = "model.vision_model", part(f, "text_config", "llama")
    kind = f.config["model_type"]
    defaults = {"hidden_size": 1152, "num_attention_heads": 16, "patch_size": 32}
    given = part(f, "vision_config", f"{kind}_vision").config
    square = f.size("scale_factor", default=2)
    tail = SquareLinear(
        "model.connector.modality_projection.proj", text.size("hidden_size"), square, f"{prefix}.post_layernorm"
    )  # fmt: skip
    tower = as_tower(_siglip_vision(Fields({**defaults, **given}), prefix), tail, square**2)
    front = BucketedPictures(**{**vars(tower.front), "sizes": "free"})
    return language_model(f, "llama", replace(tower, front=front), "model.text_model", merge=MergeImages(front))
