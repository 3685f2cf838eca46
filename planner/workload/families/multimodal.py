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
from planner.workload.families.vision import pair, patches, plain
from planner.workload.merging import VISION, MergeImages, Pictures
from planner.workload.packed_vision import PackedAttention, PackedPatches, PatchMerger, RowOfImages
from planner.workload.patches import Patches
from planner.workload.projector import PooledProjector, Projector, Rest, ShuffledProjector
from planner.workload.tiles import TiledProjector, Tiles
from planner.workload.vision_blocks import VisionBlock
from planner.workload.vision_heads import Features

TOWER, LANGUAGE, PROJECTOR = "model.vision_tower", "model.language_model", "model.multi_modal_projector"
_WHOLE_PATHS = ("layer", "embedding", "positions", "token_types", "embedding_norm", "final_norm")

PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
TEXT_TYPES = {"qwen2_vl_text": "qwen2", "qwen2_5_vl_text": "qwen2", "qwen2_vl": "qwen2", "qwen2_5_vl": "qwen2"}
"""Language models that exist only inside of these, and those that they equal but for their rotary positions."""
TEXT_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32000},
    "mistral": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32000
    },
    "qwen2": {"hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 151936},
    "gemma": {
        "hidden_size": 3072, "intermediate_size": 24576, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 16,
        "vocab_size": 256000,
    },
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
    if not isinstance(kind, str):
        raise PlanError(f"model.{name}.model_type", kind, "is not a name", f"Write one, such as {model_type}.")
    return Fields({**TEXT_DEFAULTS.get(kind, {}), **{k: v for k, v in inner.items() if v is not None}, "model_type": kind})


def beneath(names: Names, prefix: str) -> Names:
    """Paths of a model that is a part of another: `model.` of the part becomes `prefix`."""
    changed: dict[str, Any] = {
        a.name: f"{prefix}.{getattr(names, a.name).removeprefix('model.')}"
        for a in attributes(names)
        if a.name in _WHOLE_PATHS and getattr(names, a.name)
    }
    return replace(names, **changed)


def language_model(f: Fields, default: str, tower: Architecture, prefix: str = LANGUAGE, **changes: Any) -> Architecture:
    """The language model of `text_config`, with a vision tower before it. prefix: its path."""
    text = part(f, "text_config", default)
    kind = TEXT_TYPES.get(text.config["model_type"], text.config["model_type"])
    if kind not in FAMILIES:
        raise PlanError("model.text_config.model_type", kind, "is not covered", f"Use one of {', '.join(sorted(FAMILIES))}.")
    made = FAMILIES[kind](Fields({**text.config, "model_type": kind}))
    if made.towers or made.outputs or made.layout is not None or not made.causal:
        raise PlanError("model.text_config.model_type", kind, "is not a plain language model", "Use for example llama.")
    front = tower.front
    assert isinstance(front, Pictures | RowOfImages)
    base = replace(
        made,
        model_type=f.config["model_type"],
        names=beneath(made.names, prefix),
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
    return as_tower(made, tail, **changes)


def as_tower(made: Architecture, tail: Tail, pooled: int = 1, **changes: Any) -> Architecture:
    """A vision model as the tower of another. pooled: patches that become one token of the language model."""
    front = made.front
    assert isinstance(front, Patches)
    given = {a.name: getattr(front, a.name) for a in attributes(front)}
    pictures = Pictures(**{**given, "sizes": "fixed"}, dropped=getattr(tail, "skip", 0), pooled=pooled)
    return replace(made, front=pictures, tower=VISION, tail=tail, outputs=(), **changes)


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
    # earlier configs of LLaVA say it of the text model; its later relatives look at their own field alone
    inner = f.config["model_type"] == "llava" and text.flag("tie_word_embeddings", False)
    return language_model(f, "llama", tower, tied=f.flag("tie_word_embeddings", False) or inner)


@family("llava_next")
def _(f: Fields) -> Architecture:
    made = FAMILIES["llava"](f)
    (tower,) = made.towers
    plainly, front = tower.tail, tower.front
    assert isinstance(plainly, Projector) and isinstance(front, Pictures)
    points = f.config.get("image_grid_pinpoints", PINPOINTS)
    if not isinstance(points, list | tuple) or not points or not all(
        isinstance(p, list | tuple) and len(p) == 2 and all(isinstance(n, int) and n >= front.image[0] for n in p) for p in points
    ):
        raise PlanError("model.image_grid_pinpoints", points, "is not a list of resolutions", "List pairs of height and width.")
    tail = TiledProjector(**{a.name: getattr(plainly, a.name) for a in attributes(plainly)}, newline="model.image_newline")
    cut = Tiles(**{a.name: getattr(front, a.name) for a in attributes(front)}, pinpoints=tuple((p[0], p[1]) for p in points))
    return replace(made, towers=(replace(tower, front=cut, tail=tail),), merge=MergeImages(cut))


@family("paligemma")
def _(f: Fields) -> Architecture:
    width = part(f, "text_config", "gemma").size("hidden_size")
    projected = part(f, "vision_config", "siglip_vision_model").size("projection_dim", default=width)
    if projected != width:
        raise PlanError("model.vision_config.projection_dim", projected, f"is not the language model's width {width}", f"Use {width}.")
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
    if not kernel:
        raise PlanError("model.mm_tokens_per_image", tokens, f"are more than the {side**2} patches of an image", "Use fewer, or smaller patches.")
    tail = PooledProjector(
        PROJECTOR, width, kernel, f"{PROJECTOR}.mm_soft_emb_norm", f"{TOWER}.post_layernorm"
    )
    tower = vision_tower(f, tail, "siglip_vision_model", pooled=kernel**2)
    made = language_model(f, "gemma3_text", tower, two_way=True, tied=f.flag("tie_word_embeddings", True))
    return replace(made, merge=MergeImages(tower.front, listed=False))  # type: ignore[arg-type]


@family("internvl")
def _(f: Fields) -> Architecture:
    vision = part(f, "vision_config", "internvl_vision")
    width = part(f, "text_config", "qwen2").size("hidden_size")
    for name, only in (("vision_feature_layer", -1), ("vision_feature_select_strategy", "default")):
        if f.config.get(name, only) != only:
            raise PlanError(f"model.{name}", f.config[name], "is not covered for internvl", f"Use {only}.")
    embeddings, hidden = f"{TOWER}.embeddings", vision.size("hidden_size", default=1024)
    masked = ((f"{embeddings}.mask_token", hidden),) if vision.flag("use_mask_token", False) else ()
    front = patches(
        vision, embeddings, 14, image=pair(vision, "image_size", 448), unused=masked, keeps_cast=False,
        positions="parameter" if vision.flag("use_absolute_position_embeddings", True) else "none",
    )  # fmt: skip
    linears = ("attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.projection_layer", "mlp.fc1", "mlp.fc2")
    defaults = {"num_attention_heads": 16, "num_hidden_layers": 24, "intermediate_size": 4096, "hidden_size": 1024}
    vision = Fields({**defaults, **vision.config, "qkv_bias": vision.flag("attention_bias", False)})
    made = plain(vision, TOWER, front, (Features(),), layout=VisionBlock(linears, ("lambda_1", "lambda_2")))
    names = replace(
        made.names, layer=f"{TOWER}.encoder.layer.{{i}}", out=linears[3], qk_norms=("attention.q_norm", "attention.k_norm")
    )
    rms = vision.text("norm_type", default="layer_norm") == "rms_norm"
    square = round(1 / f.fraction("downsample_ratio", default=0.5))
    norm = "" if vision.flag("use_mean_pooling", True) else f"{TOWER}.layernorm"
    activation = f.text("projector_hidden_act", default="gelu")
    tail = ShuffledProjector(PROJECTOR, width, square, final_norm=norm, activation=activation)
    tower = as_tower(
        made, tail, square**2, names=names, softmax="plain", final_norm=False, norm="rms" if rms else "layer",
        attention_dropout=vision.fraction("attention_dropout"),
        qk_norm="full" if vision.flag("use_qk_norm", False) else "none",
    )  # fmt: skip
    made = language_model(f, "qwen2", tower, tied=f.flag("tie_word_embeddings", True))
    return replace(made, merge=MergeImages(tower.front, listed=False))  # type: ignore[arg-type]


def packed(f: Fields, vision: Fields, hidden: int, width: int, window: int, **changes: Any) -> Architecture:
    """A tower of Qwen's: `vision` is its config, `width` that of the language model."""
    heads, visual = vision.size("num_heads", default=16), "model.visual"
    head_dim = vision.divided(hidden, heads, "vision_config.num_heads")
    merge, patch = vision.size("spatial_merge_size", default=2), vision.size("patch_size", default=14)
    front = PackedPatches(
        patch=patch,
        merge=merge,
        channels=vision.size("in_channels", default=3),
        frames=vision.size("temporal_patch_size", default=2),
        head_dim=head_dim,
        path=f"{visual}.patch_embed.proj",
        window=window // merge // patch * merge,
    )
    base = Architecture(
        model_type=f.config["model_type"],
        hidden=hidden,
        layers=vision.layers("depth") if "depth" in vision.config else 32,
        heads=heads,
        kv_heads=heads,
        head_dim=head_dim,
        ffn=0,
        vocab=0,
        max_positions=None,
        causal=False,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        final_norm=False,
        names=Names(
            layer=f"{visual}.blocks.{{i}}", norms=("norm1", "norm2"), up="mlp.fc1", down="mlp.fc2", embedding=f"{visual}.patch_embed"
        ),
        front=front,
        mixer=PackedAttention(),
        tail=PatchMerger(f"{visual}.merger", width, merge**2, reorders=window > 0),
        tower=VISION,
    )
    return replace(base, **changes)


def _flat(f: Fields) -> Fields:
    """Published configs have the language model's fields beside `vision_config`, later ones in `text_config`."""
    if f.config.get("text_config"):
        return f
    text = {k: v for k, v in f.config.items() if k not in ("vision_config", "model_type", "quantization_config")}
    return Fields({**f.config, "text_config": {**text, "model_type": "qwen2"}})


def _qwen(f: Fields, tower: Architecture) -> Architecture:
    inner = f.config["text_config"]
    tied = f.flag("tie_word_embeddings", False) or bool(inner.get("tie_word_embeddings", False))
    return language_model(f, "qwen2", tower, rotary_batched=True, tied=tied)


@family("qwen2_vl")
def _(f: Fields) -> Architecture:
    f, vision = _flat(f), part(f, "vision_config", "qwen2_vl_vision")
    hidden = vision.size("embed_dim", default=1280)
    tower = packed(
        f,
        vision,
        hidden,
        vision.size("hidden_size", default=3584),
        0,
        ffn=hidden * vision.size("mlp_ratio", default=4),
        gated=False,
        norm="layer",
        norm_bias=True,
        activation=vision.text("hidden_act", default="quick_gelu"),
    )
    return _qwen(f, tower)


@family("qwen2_5_vl")
def _(f: Fields) -> Architecture:
    f, vision = _flat(f), part(f, "vision_config", "qwen2_5_vl_vision")
    window = vision.size("window_size", default=112)
    tower = packed(
        f,
        vision,
        vision.size("hidden_size", default=3584),
        vision.size("out_hidden_size", default=3584),
        window,
        ffn=vision.size("intermediate_size", default=3420),
        activation=vision.text("hidden_act", default="silu"),
    )
    whole = vision.config.get("fullatt_block_indexes", (7, 15, 23, 31))
    if not isinstance(whole, list | tuple) or not all(isinstance(i, int) for i in whole):
        raise PlanError("model.vision_config.fullatt_block_indexes", whole, "is not a list of layers", "List layer numbers.")
    mixers = ({"mixer": PackedAttention(windowed=i not in whole)} for i in range(tower.layers))
    return _qwen(f, replace(tower, variants=tuple(mixers)))
