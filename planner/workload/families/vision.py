"""Vision transformers of one width: ViT, DeiT, DINOv2, BEiT and their relatives, for images and for videos."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Names
from planner.workload.components import Output
from planner.workload.families.fields import Fields, family
from planner.workload.patches import Patches
from planner.workload.swin import SwinBlock
from planner.workload.vision_attention import BiasedAttention, RotaryPatches
from planner.workload.vision_blocks import VisionBlock
from planner.workload.vision_heads import Detector, Features, ImageClassifier

LINEARS = ("attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj", "mlp.fc1", "mlp.fc2")


def pair(f: Fields, name: str, default: int | tuple[int, int]) -> tuple[int, int]:
    """A size as transformers takes it: one number for both sides, or height and width."""
    value = f.config.get(name)
    if value is None:
        value = default
    sides = tuple(value) if isinstance(value, list | tuple) else (value, value)
    if len(sides) != 2 or not all(isinstance(s, int) and not isinstance(s, bool) and 1 <= s <= 10**5 for s in sides):
        raise PlanError(f"model.{name}", value, "is not a size in pixels", "Give one whole number, or height and width.")
    return sides[0], sides[1]


def patches(f: Fields, prefix: str, patch: int = 16, **changes: Any) -> Patches:
    """The front of a family: `prefix` is the path of its embeddings."""
    image, size = pair(f, "image_size", 224), pair(f, "patch_size", patch)
    if image[0] < size[0] or image[1] < size[1]:
        raise PlanError("model.patch_size", size, f"is more than the image of {image}", "Use a smaller patch.")
    base = Patches(
        image=image,
        patch=size,
        channels=f.size("num_channels", default=3),
        path=f"{prefix}.patch_embeddings.projection",
        before=((f"{prefix}.cls_token", 1),),
        positions_path=f"{prefix}.position_embeddings",
        dropout=f.fraction("hidden_dropout_prob"),
    )
    return replace(base, **changes)


def plain(f: Fields, prefix: str, front: Patches, outputs: tuple[Output, ...], **changes: Any) -> Architecture:
    """A pre-norm stack as `ViTModel` has it; `prefix` is the path of the model."""
    hidden, heads = f.size("hidden_size", default=768), f.size("num_attention_heads", default=12)
    names = Names(
        layer=prefix + ".layers.{i}",
        query=LINEARS[0],
        key=LINEARS[1],
        value=LINEARS[2],
        out=LINEARS[3],
        up=LINEARS[4],
        down=LINEARS[5],
        norms=("layernorm_before", "layernorm_after"),
        embedding=prefix + ".embeddings",
        final_norm=prefix + ".layernorm",
        head="",
        classifier="classifier",
    )
    base = Architecture(
        model_type=f.config["model_type"],
        hidden=hidden,
        layers=f.layers("num_hidden_layers") if "num_hidden_layers" in f.config else 12,
        heads=heads,
        kv_heads=heads,
        head_dim=f.size("head_dim", default=f.divided(hidden, heads, "num_attention_heads")),
        ffn=f.size("intermediate_size", default=3072),
        vocab=0,
        max_positions=None,
        causal=False,
        norm="layer",
        norm_bias=True,
        activation=f.text("hidden_act", default="gelu"),
        gated=False,
        qkv_bias=f.flag("qkv_bias", True),
        out_bias=True,
        mlp_bias=True,
        classifier_bias=True,
        num_labels=f.labels(),
        hidden_dropout=f.fraction("hidden_dropout_prob"),
        attention_dropout=f.fraction("attention_probs_dropout_prob"),
        default_head=outputs[0].kind,  # type: ignore[arg-type]
        names=names,
        layout=VisionBlock(LINEARS),
        front=front,
        outputs=outputs,
    )
    return replace(base, **changes)


def _pooler(f: Fields, prefix: str) -> Features:
    if f.text("pooler_act", default="tanh") not in ("tanh", "relu"):
        raise PlanError("model.pooler_act", f.config["pooler_act"], "is not planned", "Use tanh or relu.")
    width = f.size("pooler_output_size", default=f.size("hidden_size", default=768))
    return Features(dense=f"{prefix}.pooler.dense", width=width)


@family("vit")
def _(f: Fields) -> Architecture:
    return plain(
        f, "vit", patches(f, "vit.embeddings"), (ImageClassifier("classifier", f.labels()), _pooler(f, "vit"))
    )


@family("deit")
def _(f: Fields) -> Architecture:
    e = "deit.embeddings"
    front = patches(f, e, before=((f"{e}.cls_token", 1), (f"{e}.distillation_token", 1)))
    return plain(f, "deit", front, (ImageClassifier("classifier", f.labels(), skipped=2), _pooler(f, "deit")))


@family("vit_msn")
def _(f: Fields) -> Architecture:
    front = patches(f, "vit.embeddings")
    return plain(f, "vit", front, (ImageClassifier("classifier", f.labels()), Features()))


@family("ijepa")
def _(f: Fields) -> Architecture:
    front = patches(f, "ijepa.embeddings", before=())
    outputs = (ImageClassifier("classifier", f.labels(), "mean", skipped=0), Features())
    return plain(f, "ijepa", front, outputs)


def _dinov2(f: Fields, prefix: str, **front: Any) -> Architecture:
    hidden = f.size("hidden_size", default=768)
    ratio = f.config.get("mlp_ratio", 4)
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio <= 64:
        raise PlanError("model.mlp_ratio", ratio, "is not a usable ratio", "Give a number such as 4.")
    ffn, gated = int(hidden * ratio), f.flag("use_swiglu_ffn", False)
    linears: tuple[str, ...] = LINEARS
    if gated:
        ffn = (int(ffn * 2 / 3) + 7) // 8 * 8
        linears = (*LINEARS[:4], "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    embedded = patches(f, f"{prefix}.embeddings", 14, wide_interpolation=True, keeps_cast=False, **front)
    registers = 0 if embedded.registers is None else embedded.registers[1]
    outputs = (ImageClassifier("classifier", f.labels(), "first+patches", skipped=1 + registers), Features())
    made = plain(f, prefix, embedded, outputs, ffn=ffn, gated=gated)
    names = replace(made.names, layer=prefix + ".encoder.layer.{i}", norms=("norm1", "norm2"))
    if gated:
        names = replace(names, gate=linears[4], up=linears[5], down=linears[6])
    block = VisionBlock(
        linears, ("layer_scale1.lambda1", "layer_scale2.lambda1"), f.fraction("drop_path_rate") > 0
    )
    return replace(made, names=names, layout=block, activation="silu" if gated else made.activation)


@family("dinov2")
def _(f: Fields) -> Architecture:
    unused = f.flag("use_mask_token", True)
    mask = ((("dinov2.embeddings.mask_token", f.size("hidden_size", default=768)),) if unused else ())
    return _dinov2(f, "dinov2", unused=mask)


@family("dinov2_with_registers")
def _(f: Fields) -> Architecture:
    prefix = "dinov2_with_registers"
    mask = ((f"{prefix}.embeddings.mask_token", f.size("hidden_size", default=768)),)
    registers = (f"{prefix}.embeddings.register_tokens", f.size("num_register_tokens", default=4))
    return _dinov2(f, prefix, unused=mask, registers=registers)


def _bert_like(f: Fields, prefix: str, front: Patches, outputs: tuple[Output, ...], **changes: Any) -> Architecture:
    """A stack whose block has BERT's names."""
    made = plain(f, prefix, front, outputs, softmax="plain", **changes)
    linears = (*(f"attention.attention.{n}" for n in ("query", "key", "value")), "attention.output.dense")
    names = replace(
        made.names, layer=prefix + ".encoder.layer.{i}", query=linears[0], key=linears[1], value=linears[2],
        out=linears[3], up="intermediate.dense", down="output.dense",
    )  # fmt: skip
    return replace(made, names=names, layout=VisionBlock((*linears, names.up, names.down), keeps_norm=True))


@family("yolos")
def _(f: Fields) -> Architecture:
    e, tokens = "vit.embeddings", f.size("num_detection_tokens", default=100)
    front = patches(
        f, e, after=((f"{e}.detection_tokens", tokens),), image=pair(f, "image_size", (512, 864)),
        sizes="always", given_cast=True,
    )  # fmt: skip
    made = _bert_like(f, "vit", front, (Detector(f.labels(), tokens), _pooled(f, "vit")))
    if not f.flag("use_mid_position_embeddings", True) or made.layers == 1:
        return made
    path = "vit.encoder.interpolation.mid_position_embeddings"
    added = replace(made.layout, mid_positions=path)  # type: ignore[type-var]
    return replace(
        made,
        names=replace(made.names, positions=path),
        front=replace(front, mid_positions=(path, made.layers - 1)),
        variants=({"layout": added},) * (made.layers - 1) + ({"layout": made.layout},),
    )


def _pooled(f: Fields, prefix: str) -> Features:
    return Features(dense=f"{prefix}.pooler.dense", width=f.size("hidden_size", default=768))


@family("videomae")
def _(f: Fields) -> Architecture:
    mean = f.flag("use_mean_pooling", True)
    front = patches(
        f, "videomae.embeddings", before=(), positions="constant", sizes="fixed", dropout=0.0, given_cast=True,
        frames=f.size("num_frames", default=16), tubelet=f.size("tubelet_size", default=2),
    )  # fmt: skip
    pooled = ImageClassifier("classifier", f.labels(), "mean", norm="fc_norm") if mean else None
    outputs = (pooled or ImageClassifier("classifier", f.labels()), Features())
    return _bert_like(
        f, "videomae", front, outputs, qkv_bias=f.flag("qkv_bias", f.flag("qv_bias", True)), key_bias=False, final_norm=not mean
    )


@family("vivit")
def _(f: Fields) -> Architecture:
    tubelet = f.config.get("tubelet_size", (2, 16, 16))
    if not isinstance(tubelet, list | tuple) or len(tubelet) != 3 or not all(isinstance(n, int) and n for n in tubelet):
        raise PlanError("model.tubelet_size", tubelet, "is not a tubelet", "Give frames, height and width.")
    front = replace(
        patches(f, "vivit.embeddings"), patch=(tubelet[1], tubelet[2]), tubelet=tubelet[0],
        frames=f.size("num_frames", default=32), sizes="fixed", given_cast=True,
    )  # fmt: skip
    outputs = (ImageClassifier("classifier", f.labels()), _pooler(f, "vivit"))
    return plain(f, "vivit", front, outputs, activation=f.text("hidden_act", default="gelu_fast"))


@family("beit")
def _(f: Fields) -> Architecture:
    own, shared = f.flag("use_relative_position_bias", False), f.flag("use_shared_relative_position_bias", False)
    absolute, mean = f.flag("use_absolute_position_embeddings", False), f.flag("use_mean_pooling", True)
    hidden, mask = f.size("hidden_size", default=768), f.flag("use_mask_token", False)
    front = patches(
        f, "beit.embeddings", positions="parameter" if absolute else "none", sizes="fixed" if absolute else "free",
        keeps_cast=False, given_cast=True, unused=((("beit.embeddings.mask_token", hidden),) if mask else ()),
    )  # fmt: skip
    window = (front.image[0] // front.patch[0], front.image[1] // front.patch[1])
    rows = (2 * window[0] - 1) * (2 * window[1] - 1) + 3
    if shared:
        front = replace(front, shared_bias=("beit.shared_position_bias.relative_position_bias_table", rows))
    pooled = ("patches", "beit.pooler.layernorm") if mean else ("first", "")
    outputs = (
        ImageClassifier("classifier", f.labels(), pooled[0], norm=pooled[1]),  # type: ignore[arg-type]
        Features(pooling=pooled[0], norm_pooled=pooled[1]),  # type: ignore[arg-type]
    )
    mixer = BiasedAttention(LINEARS[:4], (True, False, True), rows if own else 0, shared=shared)
    scaled = f.config.get("layer_scale_init_value", 0.1) > 0
    made = plain(f, "beit", front, outputs, mixer=mixer, final_norm=not mean, key_bias=False, qkv_bias=True)
    block = VisionBlock(LINEARS, ("lambda_1", "lambda_2") if scaled else None)
    if not f.fraction("drop_path_rate", default=0.1) or made.layers == 1:
        return replace(made, layout=block)
    dropping = {"layout": replace(block, drop_path=True)}  # the rate grows from 0 at the first layer
    return replace(made, layout=block, variants=({"layout": block},) + (dropping,) * (made.layers - 1))


@family("dinov3_vit")
def _(f: Fields) -> Architecture:
    hidden, registers = f.size("hidden_size", default=384), f.size("num_register_tokens", default=0, zero=True)
    front = patches(
        f, "embeddings", path="embeddings.patch_embeddings", positions="rotary", sizes="free", dropout=0.0,
        before=(("embeddings.cls_token", 1), *((("embeddings.register_tokens", registers),) if registers else ())),
        unused=(("embeddings.mask_token", hidden),),
    )  # fmt: skip
    gated = f.flag("use_gated_mlp", False)
    ends = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj") if gated else ("mlp.up_proj", "mlp.down_proj")
    defaults = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
    inner = Fields({**defaults, **f.config})
    biases = (f.flag("query_bias", True), f.flag("key_bias", False), f.flag("value_bias", True))
    made = plain(
        inner, "", front, (Features(pooling="first"),), gated=gated, softmax="plain", fresh_rotary=True,
        mixer=RotaryPatches(LINEARS[:4], biases, 1 + registers), attention_dropout=f.fraction("attention_dropout"),
        hidden_dropout=0.0, out_bias=f.flag("proj_bias", True), mlp_bias=f.flag("mlp_bias", True),
    )  # fmt: skip
    names = replace(
        made.names, layer="model.layer.{i}", norms=("norm1", "norm2"), up="mlp.up_proj", down="mlp.down_proj",
        gate="mlp.gate_proj", embedding="embeddings", final_norm="norm",
    )  # fmt: skip
    scales = ("layer_scale1.lambda1", "layer_scale2.lambda1")
    block = VisionBlock((*LINEARS[:4], *ends), scales, f.fraction("drop_path_rate") > 0)
    return replace(made, names=names, layout=block)


def _counts(f: Fields, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """One positive number a stage."""
    value = f.config.get(name) or default
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= 16:
        raise PlanError(f"model.{name}", value, "is not one number a stage", f"Write a list such as {list(default)}.")
    if not all(isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= 1000 for n in value):
        raise PlanError(f"model.{name}", value, "holds something other than counts", "Give positive whole numbers.")
    return tuple(value)


@family("swin")
def _(f: Fields) -> Architecture:
    depths, heads = _counts(f, "depths", (2, 2, 6, 2)), _counts(f, "num_heads", (3, 6, 12, 24))
    if len(depths) != len(heads):
        raise PlanError("model.num_heads", heads, f"are not {len(depths)} stages as depths has", "Give one a stage.")
    width, window = f.size("embed_dim", default=96), f.size("window_size", default=7)
    ratio = f.config.get("mlp_ratio", 4.0)
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio <= 64:
        raise PlanError("model.mlp_ratio", ratio, "is not a usable ratio", "Give a number such as 4.")
    bias, last = f.flag("qkv_bias", True), len(depths) - 1
    e = "swin.embeddings"
    front = patches(
        f, e, 4, before=(), positions="none", sizes="free", keeps_cast=False, given_cast=True, padded=True,
        width=width, norm=f"{e}.norm", norm_first=True, buffers=(8 * window**4,) * sum(depths),
    )  # fmt: skip
    if f.flag("use_absolute_embeddings", False):
        front = replace(front, positions="parameter", sizes="asked")
    features = width * 2**last
    sizes = {"hidden_size": features, "num_attention_heads": heads[-1], "num_hidden_layers": sum(depths)}
    made = plain(
        Fields({**f.config, **sizes}), "swin", front,
        (ImageClassifier("classifier", f.labels(), "mean", skipped=0), Features(pooling="mean")),
        out_bias=True, qkv_bias=bias, stages=len(depths), nested_checkpoints=True,
    )  # fmt: skip
    numbers: list[str] = []
    variants: list[dict[str, Any]] = []
    dropped = f.fraction("drop_path_rate", default=0.1) > 0
    for stage, depth in enumerate(depths):
        dim = width * 2**stage
        for i in range(depth):
            merge = "downsample" if i == depth - 1 and stage < last else ""
            block = SwinBlock(
                LINEARS, stage, window, window // 2 if i % 2 else 0, bias,
                dropped and bool(variants), merge,
                "" if i < depth - 1 else "kept" if stage == last - 1 else "passing",
            )  # fmt: skip
            numbers.append(f"{stage}.blocks.{i}")
            variants.append(
                {
                    "hidden": dim, "heads": heads[stage], "kv_heads": heads[stage], "layout": block,
                    "head_dim": f.divided(dim, heads[stage], "num_heads"), "ffn": int(ratio * dim),
                }
            )  # fmt: skip
    names = replace(made.names, layer="swin.encoder.layers.{i}", numbers=tuple(numbers))
    return replace(made, names=names, variants=tuple(variants))
