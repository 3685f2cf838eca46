"""A sample of the fuzzing command, and the cases in which it has found something."""

from __future__ import annotations

import random

import pytest

from planner import estimate
from planner.errors import PlanError
from planner.run import parse_run
from tests.fuzz.targets import TARGETS, numbers

CASES = 150


@pytest.mark.parametrize("name", TARGETS)
def test_random_input_is_answered(name: str) -> None:
    for seed in range(CASES):
        case, wrong = TARGETS[name](random.Random(10**6 + seed))
        assert wrong is None, f"python -m tests.fuzz --target {name} --cases 1 --seed {10**6 + seed}: {wrong}: {str(case)[:500]}"


def test_the_fuzzing_can_fail() -> None:
    assert list(numbers({"a": [1, {"b": 2.5}], "c": "3"})) == [1, 2.5]
    assert any(str(TARGETS["runs"](random.Random(seed))[0]) != str(TARGETS["runs"](random.Random(seed + 1))[0]) for seed in range(3))


def test_one_token_is_a_sequence() -> None:
    assert estimate(parse_run({"model": "google-t5/t5-small", "batch": {"micro": 1, "seq_len": 1}, "hardware": {"gpu": "L40S"}})).peak_memory_bytes > 0


def test_an_optimizer_of_fp32_products_on_a_device_without_them() -> None:
    assert estimate(parse_run({"model": "gpt2", "optimizer": "shampoo", "hardware": {"gpu": "TPU v5e (chip)"}})).step_time_s


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"model_type": "gemma3", "text_config": {}, "mm_tokens_per_image": 256}, "model.mm_tokens_per_image"),
        ({"model_type": "llava", "text_config": {"model_type": ["llama"]}}, "model.text_config.model_type"),
        ({"model_type": "vit", "patch_size": 300, "image_size": 224}, "model.patch_size"),
        ({"model_type": "lfm2", "num_hidden_layers": 2, "full_attn_idxs": "01"}, "model.full_attn_idxs"),
    ],
)
def test_configurations_that_no_model_can_have(config: dict[str, object], field: str) -> None:
    with pytest.raises(PlanError) as caught:
        estimate(parse_run({"model": config, "hardware": {"gpu": "L40S"}}))
    assert caught.value.field == field
