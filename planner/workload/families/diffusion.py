"""Diffusion transformers of diffusers, by the `_class_name` of their config.json. Defaults are those of the classes in diffusers 0.42."""

from __future__ import annotations

from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Names
from planner.workload.diffusion import COMPRESSION, Denoising
from planner.workload.dit import (
    ClassConditioning,
    DiTBlock,
    DiTFront,
    DiTOutput,
    PixArtBlock,
    PixArtFront,
    PixArtOutput,
)
from planner.workload.families.fields import FAMILIES, Fields, family
from planner.workload.joint import Continued, JointAttention, JointBlock, JointFront, SingleBlock

FLUX_PACKING = 2
"""Latents a side of a token: packed before the model, so that its own patches are of size 1."""
DOUBLE = "double_stream"
TEXT_TOKENS = {"pixart": 120, "sd3": 154, "flux": 512}
"""Text tokens of a sample: PixArt-Alpha's T5 states; 77 of CLIP and 77 of T5 (SD3's training script); FLUX.1-dev's T5 states."""


def _base(f: Fields, layers: str = "num_layers", **changes: Any) -> Architecture:
    heads, head_dim = f.size("num_attention_heads"), f.size("attention_head_dim")
    return Architecture(
        model_type=f.config["_class_name"],
        hidden=heads * head_dim,
        layers=f.layers(layers),
        heads=heads,
        kv_heads=heads,
        head_dim=head_dim,
        ffn=4 * heads * head_dim,
        vocab=0,
        max_positions=None,
        causal=False,
        gated=False,
        activation="gelu_pytorch_tanh",
        norm="layer",
        norm_affine=False,
        default_head="denoising",
        eager=False,
        **changes,
    )


def _only(f: Fields, name: str, *values: Any) -> None:
    """Refuse a convention that diffusers itself, or this reader, does not run."""
    value = f.config.get(name)
    if value is not None and value not in values:
        raise PlanError(
            f"model.{name}", value, f"is not covered for {f.config['_class_name']}", f"Use {' or '.join(map(str, values))}."
        )


def _latents(f: Fields, default: int, channels: int = 4) -> dict[str, Any]:
    patch = f.size("patch_size", default=2)
    return {
        "channels": f.size("in_channels", default=channels),
        "patch": patch,
        "size": f.size("sample_size", default=default) * COMPRESSION,
    }


def _width(f: Fields, channels: int, patch: int) -> tuple[int, float]:
    """Values of a token in the output, and the share of them that are noise and not its variance."""
    out = f.size("out_channels", default=channels)
    return patch * patch * out, 0.5 if out == 2 * channels else 1.0


@family("Transformer2DModel")
def _(f: Fields) -> Architecture:
    """The class that published DiT and PixArt configs name; diffusers tells them apart by their norms."""
    _only(f, "norm_type", "ada_norm_zero", "ada_norm_single")
    if f.config.get("patch_size") is None:
        raise PlanError("model.patch_size", None, "is missing: without patches it is no diffusion transformer", "Add it.")
    kind = "PixArtTransformer2DModel" if f.config.get("norm_type") == "ada_norm_single" else "DiTTransformer2DModel"
    return FAMILIES[kind](Fields({**f.config, "_class_name": kind}))


@family("DiTTransformer2DModel")
def _(f: Fields) -> Architecture:
    _only(f, "norm_type", "ada_norm_zero")
    _only(f, "activation_fn", "gelu-approximate")
    _only(f, "norm_elementwise_affine", False)
    latents = _latents(f, 32)
    source = ClassConditioning(f.size("num_embeds_ada_norm", default=1000))
    width, learned = _width(f, latents["channels"], latents["patch"])
    return _base(
        f,
        hidden_dropout=f.fraction("dropout"),
        names=Names(layer="transformer_blocks.{i}"),
        front=DiTFront(**latents),
        layout=DiTBlock(source, f.flag("attention_bias", True)),
        outputs=(DiTOutput("proj_out_1", "proj_out_2", width, learned, source=source),),
    )


@family("PixArtTransformer2DModel")
def _(f: Fields) -> Architecture:
    _only(f, "norm_type", "ada_norm_single")
    _only(f, "activation_fn", "gelu-approximate")
    _only(f, "norm_elementwise_affine", False)
    latents = _latents(f, 128)
    sized = f.config.get("use_additional_conditions")
    if sized is None:
        sized = f.size("sample_size", default=128) == 128
    width, learned = _width(f, latents["channels"], latents["patch"])
    states = f.size("caption_channels", default=0, zero=True)
    cross = f.size("cross_attention_dim", default=0, zero=True)
    arch = _base(
        f,
        hidden_dropout=f.fraction("dropout"),
        names=Names(layer="transformer_blocks.{i}"),
        front=PixArtFront(**latents, text=TEXT_TOKENS["pixart"], sized=bool(sized), states=states),
        layout=PixArtBlock(bool(cross), f.flag("attention_bias", True)),
        outputs=(PixArtOutput("", "proj_out", width, learned),),
    )
    if cross and cross != arch.hidden:
        raise PlanError("model.cross_attention_dim", cross, f"is not the width {arch.hidden}", "Use the width of the model.")
    return arch



@family("SD3Transformer2DModel")
def _(f: Fields) -> Architecture:
    norm = {None: "none", "rms_norm": "rms"}
    _only(f, "qk_norm", "rms_norm")
    latents = _latents(f, 128, 16)
    layers = f.layers("num_layers")
    width, learned = _width(f, latents["channels"], latents["patch"])
    dual = f.config.get("dual_attention_layers") or []
    if not isinstance(dual, list) or not all(isinstance(i, int) for i in dual):
        raise PlanError("model.dual_attention_layers", dual, "is not a list of layers", "List layer numbers, or none.")
    front = JointFront(
        **latents,
        grid=f.size("pos_embed_max_size", default=96),
        text=TEXT_TOKENS["sd3"],
        states=f.size("joint_attention_dim", default=4096),
        pooled=f.size("pooled_projection_dim", default=2048),
    )
    kind = norm[f.config.get("qk_norm")]
    blocks = [JointBlock(JointAttention(kind, last=i == layers - 1), i in dual) for i in range(layers)]
    arch = _base(
        f,
        names=Names(layer="transformer_blocks.{i}"),
        front=front,
        variants=tuple({"layout": block} for block in blocks),
        outputs=(Denoising("norm_out.linear", "proj_out", width, learned),),
    )
    projected = f.size("caption_projection_dim", default=1152)
    if projected != arch.hidden:
        raise PlanError("model.caption_projection_dim", projected, f"is not the width {arch.hidden}", "Use the width of the model.")
    return arch


@family("FluxTransformer2DModel")
def _(f: Fields) -> Architecture:
    _only(f, "patch_size", 1)
    channels = f.size("in_channels", default=64)
    front = JointFront(
        channels=channels,
        patch=FLUX_PACKING,
        size=1024,
        text=TEXT_TOKENS["flux"],
        states=f.size("joint_attention_dim", default=4096),
        pooled=f.size("pooled_projection_dim", default=768),
        guided=f.flag("guidance_embeds", False),
        packed=True,
        counts=False,
    )
    double = _base(
        f,
        names=Names(layer="transformer_blocks.{i}"),
        front=front,
        layout=JointBlock(JointAttention("fused", text_first=True, rotary=True)),
        final_norm=False,
        tower=DOUBLE,
    )
    return _base(
        f,
        "num_single_layers",
        names=Names(layer="single_transformer_blocks.{i}"),
        front=Continued(front, DOUBLE),
        layout=SingleBlock(),
        outputs=(Denoising("norm_out.linear", "proj_out", f.size("out_channels", default=channels), patched=False),),
        towers=(double,),
    )
