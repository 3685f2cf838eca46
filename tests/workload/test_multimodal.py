"""Vision-language models and diffusion transformers against the real modules of transformers and diffusers (recorded, and some live)."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import PlanError
from planner.workload import read_config
from tests.engine_cases import engine_estimate, tensor_peak
from tests.oracles import denoisers, memory, parameters
from tests.oracles.multimodal_cases import CONFIGS, DIFFUSION, SIZES, VISION_LANGUAGE


def by_name(name: str, **arguments: Any) -> dict[str, Any]:
    head = "denoising" if name in DIFFUSION else "causal-lm"
    default = {} if name in DIFFUSION else {"seq": 256, "images": 2}
    return {"head": head, "attention": "sdpa", "batch": 3, **default, **SIZES.get(name, {}), **arguments}


LIVE: dict[str, Any] = {
    "model_type": "llava",
    "vision_config": {
        "model_type": "siglip_vision_model", "hidden_size": 160, "num_hidden_layers": 3, "num_attention_heads": 5,
        "intermediate_size": 333, "image_size": 84, "patch_size": 12, "vision_use_head": False,
    },
    "text_config": {**VISION_LANGUAGE["llava-odd"]["text_config"], "model_type": "mistral", "sliding_window": None},
    "vision_feature_select_strategy": "full",
    "image_token_index": 1002,
}  # fmt: skip


@pytest.mark.parametrize("method", [None, {"name": "lora", "rank": 4, "targets": ["q_proj", "linear_2"]}])
def test_a_vision_language_model_that_was_never_recorded(method: dict[str, Any] | None) -> None:
    arguments = {"precision": "bf16", "method": method, "attention": "sdpa", "batch": 2, "seq": 200, "images": 3}
    e = engine_estimate(LIVE, {**arguments, "head": "causal-lm"})
    counted = parameters.count(LIVE, "causal-lm", method)
    assert (e.parameters, e.trainable_parameters) == (counted["total"], counted["trainable"])
    assert tensor_peak(e) == pytest.approx(memory.measure(LIVE, **arguments)["peak"], rel=0.03)


@pytest.mark.skipif(not denoisers.available(), reason="diffusers is not installed")
def test_a_diffusion_transformer_that_was_never_recorded() -> None:
    config = {**DIFFUSION["sd35"], "num_layers": 3, "dual_attention_layers": [1], "attention_head_dim": 32, "caption_projection_dim": 160}
    arguments = {"precision": "bf16", "method": None, "batch": 5, "seq": 33, "image_size": 256, "head": "denoising"}
    e = engine_estimate(config, {**arguments, "attention": "sdpa"})
    assert e.parameters == parameters.count(config, "denoising")["total"]
    assert tensor_peak(e) == pytest.approx(memory.measure(config, **arguments)["peak"], rel=0.03)


def test_images_cost_and_the_text_counts() -> None:
    one, four = (engine_estimate(CONFIGS["llava"], by_name("llava", images=n)) for n in (1, 4))
    assert one.details["tokens_per_step"] == four.details["tokens_per_step"] == 3 * 256
    assert four.flops_per_step > one.flops_per_step
    assert four.parameters == one.parameters


def test_a_frozen_tower_has_no_backward() -> None:
    frozen = {"name": "freeze", "trainable": ["language_model", "multi_modal_projector", "lm_head"]}
    full, part = (engine_estimate(CONFIGS["llava-deep"], by_name("llava-deep", method=m)) for m in (None, frozen))
    assert part.flops_per_step < full.flops_per_step
    assert tensor_peak(part) < tensor_peak(full)
    tower = [t for t in part.terms if t.name == "parameters/vision"]
    assert tower and tower[0].value > 0


def test_a_diffusion_transformer_counts_patches_of_latents() -> None:
    e = engine_estimate(DIFFUSION["flux"], by_name("flux"))
    assert e.details["tokens_per_step"] == 3 * (512 // 16) ** 2
    assert engine_estimate(DIFFUSION["dit"], {"head": "denoising", "attention": "sdpa"}).run.batch.image_size == 256


def test_defaults_are_filled_in() -> None:
    batch = engine_estimate(CONFIGS["qwen2_5_vl"], {"seq": 300}).run.batch
    assert (batch.images, batch.image_size) == (1, 448)
    flux = engine_estimate(DIFFUSION["flux"], {"attention": "sdpa"}).run
    assert (flux.head, flux.batch.image_size, flux.batch.seq_len) == ("denoising", 1024, 512)


def test_diffusers_default_targets() -> None:
    method = {"name": "lora", "rank": 4}
    for name in ("dit", "sd3", "flux"):
        assert engine_estimate(DIFFUSION[name], by_name(name, method=method)).trainable_parameters > 0


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        (CONFIGS["llava"], {"images": 5}, r"batch\.seq_len: '256' cannot hold 5 images of 64 tokens"),
        (CONFIGS["llava"], {"images": 0}, r"batch\.images: '0' leaves the vision tower nothing to do"),
        (CONFIGS["llava"], {"image_size": 300}, r"batch\.image_size"),
        ({**CONFIGS["llava"], "vision_feature_layer": [-2, -1]}, {}, r"model\.vision_feature_layer"),
        ({**CONFIGS["llava"], "text_config": {"model_type": "bert"}}, {}, r"hidden_size"),
        (CONFIGS["qwen2_5_vl"], {"image_size": 300}, r"is no multiple of 28"),
        (DIFFUSION["sd3"], {"attention": "eager"}, r"attention: 'eager' is not offered"),
        (DIFFUSION["sd3"], {"image_size": 500}, r"whole number of patches"),
        (DIFFUSION["sd3"], {"image_size": 1024}, r"48 × 48 positions"),
        (DIFFUSION["dit"], {"seq": 77}, r"batch\.seq_len"),
        (DIFFUSION["dit"], {"images": 2}, r"batch\.images"),
    ],
)
def test_what_cannot_be_run_is_refused(config: dict[str, Any], arguments: dict[str, Any], message: str) -> None:
    diffusion = "_class_name" in config
    base = {"attention": "sdpa"} if diffusion else {"attention": "sdpa", "seq": 256}
    with pytest.raises(PlanError, match=message):
        engine_estimate(config, {**base, **arguments})


def test_unknown_classes_and_conventions_are_refused() -> None:
    with pytest.raises(PlanError, match="is not covered"):
        read_config({"_class_name": "UNet2DConditionModel"})
    with pytest.raises(PlanError, match=r"model\.norm_type"):
        read_config({**DIFFUSION["dit"], "norm_type": "layer_norm"})
    with pytest.raises(PlanError, match=r"model\.caption_projection_dim"):
        read_config({**DIFFUSION["sd3"], "caption_projection_dim": 64})


def test_images_are_cut_into_tiles() -> None:
    config = {
        **VISION_LANGUAGE["llava"], "model_type": "llava_next",
        "image_grid_pinpoints": [[112, 224], [224, 112], [224, 224], [336, 112], [112, 336]],
    }  # fmt: skip
    arguments = {"precision": "bf16", "method": None, "attention": "sdpa", "batch": 2, "seq": 800, "images": 2}
    e = engine_estimate(config, arguments)
    assert e.parameters == parameters.count(config)["total"]
    assert tensor_peak(e) == pytest.approx(memory.measure(config, **arguments)["peak"], rel=0.03)
    with pytest.raises(PlanError, match="cannot hold 3 images of 336 tokens"):
        engine_estimate(config, {**arguments, "images": 3})
