"""Vision models against what the real transformers and peft modules showed: parameters, FLOPs and peak memory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import PlanError
from planner.run import Batch
from planner.workload.families import read_config
from tests.engine_cases import engine_estimate
from tests.oracles import parameters
from tests.oracles.vision_cases import CONFIGS, HEADS


@st.composite
def drawn(draw: st.DrawFn, model_type: str) -> dict[str, Any]:
    flag = st.booleans()
    patch = draw(st.integers(2, 9))
    heads, width = draw(st.integers(1, 4)), 4 * draw(st.integers(1, 4))
    image = {"image_size": patch * draw(st.integers(1, 5)) + draw(st.integers(0, patch - 1)), "patch_size": patch}
    stack = {
        "hidden_size": heads * width, "num_attention_heads": heads, "num_hidden_layers": draw(st.integers(1, 4)),
        "intermediate_size": draw(st.integers(3, 99)),
    }  # fmt: skip
    base = {"model_type": model_type, **stack, **image, "num_channels": draw(st.integers(1, 4))}
    if model_type in ("clip", "siglip"):
        text = {**stack, "vocab_size": draw(st.integers(11, 99)), "max_position_embeddings": draw(st.integers(8, 50))}
        text |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        config = {"model_type": model_type, "vision_config": {**stack, **image}, "text_config": text}
        return config if model_type == "siglip" else {**config, "projection_dim": draw(st.integers(3, 50))}
    base["num_labels"] = draw(st.integers(1, 9))
    if model_type == "swin":
        depths = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
        return {
            "model_type": model_type, "num_labels": base["num_labels"], "image_size": 4 * 2 * 4 * 4, "window_size": 4,
            "embed_dim": 12, "depths": depths, "num_heads": [draw(st.sampled_from([1, 2, 3])) for _ in depths],
            "mlp_ratio": draw(st.sampled_from([1.5, 4.0])), "qkv_bias": draw(flag),
            "use_absolute_embeddings": draw(flag),
        }  # fmt: skip
    if model_type in ("dinov2", "dinov2_with_registers"):
        return {**base, "use_swiglu_ffn": draw(flag), "mlp_ratio": draw(st.integers(1, 5)), "qkv_bias": draw(flag)}
    if model_type == "dinov3_vit":
        switches = ("use_gated_mlp", "query_bias", "key_bias", "value_bias", "proj_bias", "mlp_bias")
        return {**base, **{name: draw(flag) for name in switches}, "num_register_tokens": draw(st.integers(0, 5))}
    if model_type == "beit":
        switches = (
            "use_mask_token", "use_absolute_position_embeddings", "use_relative_position_bias",
            "use_shared_relative_position_bias", "use_mean_pooling",
        )  # fmt: skip
        scale = draw(st.sampled_from([0.0, 0.1]))
        return {**base, **{name: draw(flag) for name in switches}, "layer_scale_init_value": scale}
    if model_type == "yolos":
        side = image["image_size"]
        more = {"use_mid_position_embeddings": draw(flag), "num_detection_tokens": draw(st.integers(1, 9))}
        return {**base, "image_size": [side, side + patch], **more}
    if model_type == "videomae":
        more = {"num_frames": 4, "tubelet_size": draw(st.sampled_from([1, 2]))}
        return {**base, **more, "use_mean_pooling": draw(flag), "qv_bias": draw(flag)}
    if model_type == "vivit":
        return {**base, "num_frames": 4, "tubelet_size": [2, patch, patch], "qkv_bias": draw(flag)}
    return {**base, "qkv_bias": draw(flag)} if not model_type.endswith("_model") else base


TYPES = sorted({config["model_type"] for config in CONFIGS.values()})


@pytest.mark.parametrize("model_type", TYPES)
def test_parameters_of_random_configs(model_type: str) -> None:
    head = next(HEADS.get(n, "image-classification") for n, c in CONFIGS.items() if c["model_type"] == model_type)

    @settings(max_examples=12, deadline=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        config = data.draw(drawn(model_type))
        truth = parameters.count(config, head, None)
        e = engine_estimate(config, {"head": head, "batch": 2, **({"seq": 8} if head == "contrastive" else {})})
        assert (e.parameters, e.trainable_parameters) == (truth["total"], truth["trainable"])

    check()


def test_positions_between_layers_are_counted_by_area() -> None:
    """YOLOS counts patches along the sides for its first positions (6 × 9), and by area for those between layers (59)."""
    config = {**CONFIGS["yolos"], "image_size": [100, 152]}
    truth = parameters.count(config, "object-detection", None)["total"]
    assert engine_estimate(config, {"head": "object-detection", "batch": 2}).parameters == truth


def test_tokens_are_patches_with_the_tokens_beside_them() -> None:
    tokens = {name: read_config(CONFIGS[name]).sample_tokens(Batch(seq_len=64)) for name in CONFIGS}
    assert tokens["vit"] == 7 * 7 + 1
    assert tokens["deit"] == 7 * 7 + 2
    assert tokens["ijepa"] == 7 * 7
    assert tokens["dinov2_with_registers"] == 7 * 7 + 1 + 4
    assert tokens["yolos"] == 6 * 8 + 1 + 30
    assert tokens["videomae"] == 7 * 7 * 4
    assert tokens["clip"] == 7 * 7 + 1 + 64
    assert tokens["swin"] == 28 * 28
    assert read_config(CONFIGS["vit"]).sample_tokens(Batch(image_size=224)) == 14 * 14 + 1


@pytest.mark.parametrize(
    ("name", "changes", "arguments", "message"),
    [
        ("videomae", {}, {"image_size": 224}, "positions"),
        ("vit", {}, {"image_size": 8}, "patch"),
        ("vit", {"image_size": "big"}, {}, r"model\.image_size"),
        ("vit", {"patch_size": 400}, {}, r"model\.patch_size"),
        ("vit", {}, {"head": "causal-lm"}, "head"),
        ("vit", {}, {"method": {"name": "prompt", "virtual_tokens": 8}}, "method"),
        ("vit", {}, {"seq": 64}, "seq_len"),
        ("swin", {}, {"image_size": 40}, "window"),
        ("swin", {}, {"checkpointing": True}, "nested"),
        ("swin", {"num_heads": [2]}, {}, r"model\.num_heads"),
        ("swin", {}, {"method": {"name": "freeze", "first": 3}}, "2 stages"),
        ("clip", {"vision_config": 3}, {"seq": 64}, r"model\.vision_config"),
        ("clip", {}, {"seq": 78}, "77"),
        ("siglip", {"vision_config": {"vision_use_head": False}}, {"seq": 64}, "vision_use_head"),
    ],
)
def test_bad_input_is_one_clear_line(
    name: str, changes: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        engine_estimate({**CONFIGS[name], **changes}, arguments)
