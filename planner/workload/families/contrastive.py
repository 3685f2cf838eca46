"""Models of images and text with two towers: CLIP and SigLIP, and the towers by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Names
from planner.workload.contrastive import Contrastive, PooledTower, PoolingHead, TowerFeatures
from planner.workload.families.fields import Fields, family
from planner.workload.families.vision import pair
from planner.workload.patches import Patches
from planner.workload.vision_heads import Features, ImageClassifier


def _names(prefix: str, final_norm: str) -> Names:
    return Names(
        layer=prefix + ".encoder.layers.{i}",
        out="self_attn.out_proj",
        up="mlp.fc1",
        down="mlp.fc2",
        norms=("layer_norm1", "layer_norm2"),
        embedding=f"{prefix}.embeddings.token_embedding",
        positions=f"{prefix}.embeddings.position_embedding",
        final_norm=final_norm,
        head="",
        classifier="classifier",
    )


def _stack(f: Fields, prefix: str, final_norm: str, activation: str, **changes: Any) -> Architecture:
    """The traits that both towers share."""
    hidden, heads = f.size("hidden_size", default=768), f.size("num_attention_heads", default=12)
    base = Architecture(
        model_type=f.config["model_type"],
        hidden=hidden,
        layers=f.layers("num_hidden_layers") if "num_hidden_layers" in f.config else 12,
        heads=heads,
        kv_heads=heads,
        head_dim=f.divided(hidden, heads, "num_attention_heads"),
        ffn=f.size("intermediate_size", default=3072),
        vocab=0,
        max_positions=None,
        causal=False,
        norm="layer",
        norm_bias=True,
        activation=f.text("hidden_act", default=activation),
        gated=False,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        classifier_bias=True,
        attention_dropout=f.fraction("attention_dropout"),
        names=_names(prefix, final_norm),
    )
    return replace(base, **changes)


def _front(f: Fields, prefix: str, **changes: Any) -> Patches:
    base = Patches(
        image=pair(f, "image_size", 224),
        patch=pair(f, "patch_size", 16),
        channels=f.size("num_channels", default=3),
        path=f"{prefix}.embeddings.patch_embedding",
        positions="embedding",
        positions_path=f"{prefix}.embeddings.position_embedding",
        keeps_cast=False,
    )
    return replace(base, **changes)


def _clip_vision(f: Fields, prefix: str = "vision_model") -> Architecture:
    e = f"{prefix}.embeddings"
    front = _front(
        f, prefix, patch=pair(f, "patch_size", 32), bias=False, before=((f"{e}.class_embedding", 1),),
        norm=f"{prefix}.pre_layrnorm",
    )  # fmt: skip
    made = _stack(f, prefix, f"{prefix}.post_layernorm", "quick_gelu", front=front)
    return replace(made, final_norm=False, names=replace(made.names, embedding=e, positions=""))


def _siglip_vision(f: Fields, prefix: str = "vision_model") -> Architecture:
    front = _front(f, prefix, before=())
    made = _stack(f, prefix, f"{prefix}.post_layernorm", "gelu_pytorch_tanh", front=front)
    return replace(made, names=replace(made.names, embedding=f"{prefix}.embeddings", positions=""))


def _pooling(f: Fields, tower: Architecture) -> PoolingHead | None:
    return PoolingHead("vision_model.head", tower.heads, tower.ffn) if f.flag("vision_use_head", True) else None


def _part(f: Fields, name: str, model_type: str) -> Fields:
    """The config of one tower; all its defaults when the config has none."""
    part = f.config.get(name) or {}
    if not isinstance(part, Mapping):
        raise PlanError(f"model.{name}", part, "is not a configuration", "Give a mapping of its fields.")
    return Fields({**part, "model_type": model_type})


def _text(f: Fields, activation: str, positions: int, vocab: int, **changes: Any) -> Architecture:
    length = f.size("max_position_embeddings", default=positions)
    return _stack(
        f, "text_model", "text_model.final_layer_norm", activation, vocab=f.size("vocab_size", default=vocab),
        max_positions=length, learned_positions=length, **changes,
    )  # fmt: skip


@family("clip_vision_model")
def _(f: Fields) -> Architecture:
    made = _clip_vision(f)
    outputs = (
        ImageClassifier("classifier", f.labels(), "patches", unused=made.names.final_norm),
        Features(norm_pooled="vision_model.post_layernorm", pooling="first"),
    )
    return replace(made, outputs=outputs, default_head="image-classification")


@family("siglip_vision_model")
def _(f: Fields) -> Architecture:
    made = _siglip_vision(f)
    head = PooledTower(made.names.final_norm, False, _pooling(f, made))
    return replace(made, outputs=(TowerFeatures(head),), default_head="none")


@family("clip")
def _(f: Fields) -> Architecture:
    vision = _part(f, "vision_config", "clip_vision_model")
    text = _part(f, "text_config", "clip_text_model")
    width = f.size("projection_dim", default=512)
    tail = PooledTower("vision_model.post_layernorm", True, projection="visual_projection", width=width)
    tower = replace(_clip_vision(vision), tower="vision", tail=tail)
    output = Contrastive("text_projection", width, False, "softmax")
    defaults = {"hidden_size": 512, "num_attention_heads": 8, "intermediate_size": 2048}
    main = _text(
        Fields({**defaults, **text.config}), "quick_gelu", 77, 49408, causal=True, towers=(tower,),
        outputs=(output, replace(output, kind="none")), default_head="contrastive",
    )  # fmt: skip
    return replace(main, model_type="clip")


@family("siglip")
def _(f: Fields) -> Architecture:
    vision = _part(f, "vision_config", "siglip_vision_model")
    text = _part(f, "text_config", "siglip_text_model")
    tower = _siglip_vision(vision)
    tail = PooledTower("vision_model.post_layernorm", False, _pooling(vision, tower))
    if tail.attention is None:
        raise PlanError("model.vision_config.vision_use_head", False, "leaves nothing to compare", "Use true.")
    tower = replace(tower, tower="vision", tail=tail)
    made = _text(text, "gelu_pytorch_tanh", 64, 32000)
    width = text.size("projection_size", default=made.hidden)
    output = Contrastive("text_model.head", width, True, "sigmoid")
    return replace(
        made, model_type="siglip", towers=(tower,), outputs=(output, replace(output, kind="none")),
        default_head="contrastive",
    )  # fmt: skip
