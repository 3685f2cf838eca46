"""Vision-language models: a vision tower, a projector, and a language model that finds image features among its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields as attributes
from dataclasses import replace
from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Names
from planner.workload.components import Tail
from planner.workload.families.contrastive import _clip_vision, _siglip_vision
from planner.workload.families.fields import FAMILIES, Fields, family
from planner.workload.merging import VISION, MergeImages, Pictures
from planner.workload.patches import Patches
from planner.workload.projector import PooledProjector, Projector, Rest

TOWER, LANGUAGE, PROJECTOR = "model.vision_tower", "model.language_model", "model.multi_modal_projector"
_WHOLE_PATHS = ("layer", "embedding", "positions", "token_types", "embedding_norm", "final_norm")

TEXT_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32000},
    "mistral": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32000
    },
    "qwen2": {"hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 151936},
    "gemma": {"hidden_size": 3072, "intermediate_size": 24576, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 256000},
    "gemma2": {"hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8, "vocab_size": 256000},
    "gemma3_text": {
        "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8, "vocab_size": 262208
    },
}  # fmt: skip
"""Sizes that published configs leave to transformers' classes (5.24 `configuration_*.py`)."""


def part(f: Fields, name: str, model_type: str) -> Fields:
    """A nested config; all its defaults when the config has none."""
    inner = f.config.get(name) or {}
    if not isinstance(inner, Mapping):
        raise PlanError(f"model.{name}", inner, "is not a configuration", "Give a mapping of its fields.")
    kind = inner.get("model_type") or model_type
    return Fields({**TEXT_DEFAULTS.get(kind, {}), **{k: v for k, v in inner.items() if v is not None}, "model_type": kind})


def beneath(names: Names, prefix: str) -> Names:
    """Paths of a model that is a part of another: `model.` of the part becomes `prefix`."""
    changed = {
        a.name: f"{prefix}.{getattr(names, a.name).removeprefix('model.')}"
        for a in attributes(names)
        if a.name in _WHOLE_PATHS and getattr(names, a.name)
    }
    return replace(names, **changed)


def language_model(f: Fields, default: str, tower: Architecture, **changes: Any) -> Architecture:
    """The language model of `text_config`, with a vision tower before it."""
    text = part(f, "text_config", default)
    kind = text.config["model_type"]
    if kind not in FAMILIES:
        raise PlanError("model.text_config.model_type", kind, "is not covered", f"Use one of {', '.join(sorted(FAMILIES))}.")
    made = FAMILIES[kind](text)
    if made.towers or made.outputs or made.layout is not None or not made.causal:
        raise PlanError("model.text_config.model_type", kind, "is not a plain language model", "Use for example llama.")
    front = tower.front
    assert isinstance(front, Pictures)
    base = replace(
        made,
        model_type=f.config["model_type"],
        names=beneath(made.names, LANGUAGE),
        tied=f.flag("tie_word_embeddings", False),
        towers=(tower,),
        merge=MergeImages(front),
    )
    return replace(base, **changes)


def vision_tower(f: Fields, tail: Tail, default: str, **changes: Any) -> Architecture:
    """The tower of `vision_config`: CLIP's or SigLIP's, whose front says how many images there are."""
    vision = part(f, "vision_config", default)
    kind = vision.config["model_type"]
    if kind == "clip_vision_model":
        made = _clip_vision(vision, TOWER)
    elif kind == "siglip_vision_model":
        made = _siglip_vision(vision, TOWER)
    else:
        raise PlanError(
            "model.vision_config.model_type", kind, f"is not covered in {f.config['model_type']}",
            "Use clip_vision_model or siglip_vision_model.",
        )  # fmt: skip
    front = made.front
    assert isinstance(front, Patches)
    given = {a.name: getattr(front, a.name) for a in attributes(front)}
    pooled = changes.pop("pooled", 1)
    skip = getattr(tail, "skip", 0)
    pictures = Pictures(**{**given, "sizes": "fixed"}, dropped=skip, pooled=pooled)
    return replace(made, front=pictures, tower=VISION, tail=tail, **changes)


def _taken(f: Fields, layers: int, default: int = -2) -> int:
    """Layers of the tower up to the one whose output is taken."""
    layer = f.config.get("vision_feature_layer", default)
    if isinstance(layer, bool) or not isinstance(layer, int) or not -layers - 1 <= layer <= layers:
        raise PlanError(
            "model.vision_feature_layer", layer, f"is not one of the {layers} layers of the tower", "Give one layer, such as -2."
        )
    taken = layer if layer >= 0 else layers + 1 + layer
    if not taken:
        raise PlanError("model.vision_feature_layer", layer, "takes no layer of the tower", "Give a layer such as -2.")
    return taken


@family("llava")
def _(f: Fields) -> Architecture:
    vision = part(f, "vision_config", "clip_vision_model")
    layers = vision.layers("num_hidden_layers") if "num_hidden_layers" in vision.config else 12
    taken = _taken(f, layers)
    strategy = f.text("vision_feature_select_strategy", default="default")
    clip = vision.config["model_type"] == "clip_vision_model"
    text = part(f, "text_config", "llama")
    tail = Projector(
        (f"{PROJECTOR}.linear_1", f"{PROJECTOR}.linear_2"),
        text.size("hidden_size"),
        f.text("projector_hidden_act", default="gelu"),
        f.flag("multimodal_projector_bias", True),
        skip=1 if strategy == "default" else 0,
        rest=Rest(layers - taken, f"{TOWER}.post_layernorm", first=clip),
    )
    tower = vision_tower(f, tail, "clip_vision_model", layers=taken, final_norm=False)
    return language_model(f, "llama", tower)


@family("paligemma")
def _(f: Fields) -> Architecture:
    width = part(f, "text_config", "gemma").size("hidden_size")
    tail = Projector((f"{PROJECTOR}.linear",), width, final_norm=f"{TOWER}.post_layernorm")
    tower = vision_tower(f, tail, "siglip_vision_model")
    made = language_model(f, "gemma", tower, two_way=True, tied=f.flag("tie_word_embeddings", True))
    return replace(made, merge=MergeImages(tower.front, listed=False))  # type: ignore[arg-type]


@family("gemma3")
def _(f: Fields) -> Architecture:
    vision = part(f, "vision_config", "siglip_vision_model")
    width = part(f, "text_config", "gemma3_text").size("hidden_size")
    side = vision.size("image_size", default=224) // vision.size("patch_size", default=16)
    tokens = f.size("mm_tokens_per_image", default=256)
    kernel = side // int(tokens**0.5)
    tail = PooledProjector(
        PROJECTOR, width, kernel, f"{PROJECTOR}.mm_soft_emb_norm", f"{TOWER}.post_layernorm"
    )
    tower = vision_tower(f, tail, "siglip_vision_model", pooled=kernel**2)
    made = language_model(f, "gemma3_text", tower, two_way=True, tied=f.flag("tie_word_embeddings", True))
    return replace(made, merge=MergeImages(tower.front, listed=False))  # type: ignore[arg-type]
