"""LoReFT, vision-language models and detectors: real modules with the planned parameters, trained, at the planned peak of tensors."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from planner import estimate
from planner.errors import PlanError
from planner.probe.build import build
from planner.probe.device import open_device
from planner.probe.plan import plan
from planner.probe.predict import predict
from planner.run import parse_run
from tests.oracles.detection_cases import CONFIGS as DETECTION
from tests.oracles.multimodal_cases import VISION_LANGUAGE
from tests.probe import tiny

LLAVA = VISION_LANGUAGE["llava-odd"]
QWEN = {**VISION_LANGUAGE["qwen2_vl"], "image_token_id": 290}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("reft", {"model": tiny.LLAMA, "method": {"name": "reft", "rank": 4, "positions": "f3+l2"}, "batch": {"seq_len": 32}}),
    ("reft of some layers", {"model": tiny.LLAMA, "method": {"name": "reft", "layers": [0, 2]}, "batch": {"seq_len": 32}}),
    ("llava", {"model": LLAVA, "batch": {"seq_len": 64}}),
    ("llava lora", {"model": LLAVA, "method": {"name": "lora", "rank": 4, "targets": ["q_proj"]}, "batch": {"seq_len": 128, "images": 2}}),
    ("qwen2_vl", {"model": QWEN, "batch": {"seq_len": 64, "image_size": 112}}),
    ("gpt2 with dropout", {"model": tiny.GPT2, "method": "bitfit", "batch": {"seq_len": 128}}),
    ("detr", {"model": DETECTION["detr"], "batch": {"image_size": 64}}),
]


@pytest.mark.parametrize(("name", "fields"), CASES, ids=[name for name, _ in CASES])
def test_what_is_built_trains_as_planned(name: str, fields: dict[str, Any]) -> None:
    run = parse_run({"precision": "fp32", **fields, "batch": {"micro": 2, **fields["batch"]}})
    made = plan(run, "cpu")
    loop = build(made, torch.device("cpu"))
    loop.run(2)
    assert torch.isfinite(loop.losses[-1])
    parameters = {id(p): p for p in loop.model.parameters()}.values()
    planned = estimate(run)
    assert sum(p.numel() for p in parameters) == planned.parameters
    assert sum(p.numel() for p in parameters if p.requires_grad) == planned.trainable_parameters
    said = predict(run, open_device("cpu"))
    assert said is not None
    assert said.allocated_bytes == pytest.approx(loop.tracked()["peak"], rel=0.015)
    assert bool(made.notes) is (name == "detr")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": {**LLAVA, "image_token_index": 5000}, "batch": {"seq_len": 64}}, "image token 5000 outside"),
        ({"model": "stabilityai/stable-diffusion-3-medium", "batch": {"micro": 1}}, "diffusers|is not"),
    ],
)
def test_what_is_not_built_is_one_sentence(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanError, match=words):
        build(plan(parse_run({"precision": "fp32", **fields}), "cpu"), torch.device("cpu"))
