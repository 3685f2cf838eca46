"""Detectors: DETR on a ResNet, of transformers or of timm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Names
from planner.workload.detection import PLACES, QUERIES, DetectorBlock, FeatureMap, ObjectQueries
from planner.workload.families.fields import Fields, family
from planner.workload.families.vision import _counts
from planner.workload.resnet import ResNet
from planner.workload.vision_heads import Detector, Features

TIMM: dict[str, tuple[bool, tuple[int, ...]]] = {
    "resnet18": (False, (2, 2, 2, 2)),
    "resnet34": (False, (3, 4, 6, 3)),
    "resnet50": (True, (3, 4, 6, 3)),
    "resnet101": (True, (3, 4, 23, 3)),
    "resnet152": (True, (3, 8, 36, 3)),
}
"""Bottlenecks and depths of timm's residual networks (He et al. 2015, table 1)."""
BACKBONE = "model.backbone.model"


def resnet(f: Fields) -> ResNet:
    """The backbone of a detector's config: `backbone_config`, or the name of one of timm's."""
    inner = f.config.get("backbone_config")
    channels = f.size("num_channels", default=3)
    if inner is None:
        inner = {"model_type": "timm_backbone", "backbone": f.text("backbone", default="resnet50")}
        inner = inner if f.flag("use_timm_backbone", True) else {"model_type": "resnet"}
    if not isinstance(inner, Mapping):
        raise PlanError("model.backbone_config", inner, "is not a configuration", "Give a mapping of its fields.")
    b, kind = Fields(inner), inner.get("model_type")
    if f.flag("dilation", False):
        raise PlanError("model.dilation", True, "is not planned", "Use a backbone without dilation.")
    if kind == "timm_backbone":
        name = b.text("backbone", default="resnet50").partition(".")[0]
        if name not in TIMM:
            raise PlanError("model.backbone_config.backbone", name, "is not planned", f"Use one of {', '.join(TIMM)}.")
        bottleneck, depths = TIMM[name]
        widths = tuple(64 * 2**i * (4 if bottleneck else 1) for i in range(4))
        return ResNet(BACKBONE, channels, 64, widths, depths, bottleneck, trained=True, timm=True)
    if kind != "resnet":
        raise PlanError("model.backbone_config.model_type", kind, "is not planned", "Use resnet, or timm_backbone with one of timm's.")
    widths, depths = _counts(b, "hidden_sizes", (256, 512, 1024, 2048)), _counts(b, "depths", (3, 4, 6, 3))
    if len(widths) != len(depths):
        raise PlanError("model.backbone_config.depths", depths, f"are not {len(widths)} as hidden_sizes", "Give one a stage.")
    # transformers means to train all stages but the first, and misses their names ("stage.1" for "stages.1"): none is trained
    return ResNet(
        BACKBONE, b.size("num_channels", default=3), b.size("embedding_size", default=64), widths, depths,
        b.text("layer_type", default="bottleneck") == "bottleneck", trained=False, activation=b.text("hidden_act", default="relu"),
        early=b.flag("downsample_in_first_stage", False), reduces_first=b.flag("downsample_in_bottleneck", False),
    )  # fmt: skip


def _stack(f: Fields, side: str) -> Architecture:
    hidden, heads = f.size("d_model", default=256), f.size(f"{side}_attention_heads", default=8)
    names = Names(
        layer=f"model.{side}.layers.{{i}}", out="self_attn.o_proj", up="mlp.fc1", down="mlp.fc2", final_norm="model.decoder.layernorm",
        norms=("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")[:: 1 if side == "decoder" else 2],
        embedding="model.query_position_embeddings", head="", classifier="class_labels_classifier",
    )  # fmt: skip
    dropout = f.fraction("dropout", default=0.1)
    return Architecture(
        model_type=f.config["model_type"],
        hidden=hidden,
        layers=f.size(f"{side}_layers", default=6, most=10_000),
        heads=heads,
        kv_heads=heads,
        head_dim=f.divided(hidden, heads, f"{side}_attention_heads"),
        ffn=f.size(f"{side}_ffn_dim", default=2048),
        vocab=0,
        max_positions=None,
        causal=False,
        norm="layer",
        norm_bias=True,
        activation=f.text("activation_function", default="relu"),
        gated=False,
        mlp_bias=True,
        softmax="plain",
        masked=False,
        num_labels=f.labels(),
        embedding_dropout=dropout,
        hidden_dropout=dropout,
        attention_dropout=f.fraction("attention_dropout"),
        activation_dropout=f.fraction("activation_dropout"),
        default_head="object-detection",
        names=names,
    )


@family("detr")
def _(f: Fields) -> Architecture:
    for name in ("auxiliary_loss", "encoder_layerdrop", "decoder_layerdrop"):
        if f.config.get(name):
            raise PlanError(f"model.{name}", f.config[name], "is not planned", "Leave it out.")
    places = f.text("position_embedding_type", default="sine")
    if places not in ("sine", "learned"):
        raise PlanError("model.position_embedding_type", places, "is not known", "Use sine or learned.")
    front = FeatureMap(resnet(f), "model", places == "learned")
    encoder = replace(
        _stack(f, "encoder"), front=front, layout=DetectorBlock(PLACES), final_norm=False, tower="encoder"
    )
    queries = ObjectQueries(f.size("num_queries", default=100), "model.query_position_embeddings")
    outputs = (Detector(f.labels(), class_layers=1), Features())
    return replace(
        _stack(f, "decoder"), front=queries, layout=DetectorBlock(QUERIES, "encoder"), outputs=outputs, towers=(encoder,)
    )
