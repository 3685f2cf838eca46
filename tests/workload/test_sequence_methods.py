"""Methods that change blocks or the sequence, against what peft's modules (and small adapter modules) showed."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import PlanError
from planner.probe import sequence_methods
from planner.workload.methods import METHODS
from tests.engine_cases import engine_estimate
from tests.oracles.cases import CONFIGS

LLAMA, GPT2 = CONFIGS["llama"], CONFIGS["gpt2"]
SIZE: dict[str, Any] = {"batch": 2, "seq": 128}


@pytest.mark.parametrize("name", sequence_methods.NAMES)
def test_what_was_left_out_is_filled_in_and_the_books_close(name: str) -> None:
    e = engine_estimate(LLAMA, {"method": {"name": name}, "precision": "bf16", **SIZE})
    filled = [f for f in METHODS[name].fields if getattr(e.run.method, f) is not None]
    assert filled
    assert sum(t.value for t in e.terms if t.name.startswith("memory/")) == pytest.approx(e.peak_memory_bytes)
    last = e.memory_curve[len(e.memory_curve) - 1].parts
    assert last.get("activations", 0.0) == pytest.approx(0.0, abs=1.0)
    assert last["gradients"] == pytest.approx(4.0 * e.trainable_parameters, rel=0.1) or name == "adaption_prompt"


@pytest.mark.parametrize("name", ["prompt", "p_tuning", "prefix"])
def test_virtual_tokens_cost_time_and_count_for_nothing(name: str) -> None:
    few, many = (
        engine_estimate(LLAMA, {"method": {"name": name, "virtual_tokens": n}, **SIZE, "batch": 16}) for n in (1, 512)
    )
    assert few.details["tokens_per_step"] == many.details["tokens_per_step"] == 16 * 128
    assert many.step_time_s > few.step_time_s
    assert many.tokens_per_s < few.tokens_per_s
    assert many.flops_per_step > few.flops_per_step
    assert any("512 virtual tokens" in line for line in many.assumptions)


def test_a_prompt_passes_gradients_through_every_layer_and_trains_no_weight() -> None:
    full = engine_estimate(LLAMA, {"method": {"name": "full"}, **SIZE})
    prompt = engine_estimate(LLAMA, {"method": {"name": "prompt", "virtual_tokens": 1}, **SIZE})
    backward = {
        name: sum(t.value for t in e.terms if t.name == "flops/backward/matmul")
        for name, e in (("full", full), ("prompt", prompt))
    }
    assert backward["prompt"] == pytest.approx(backward["full"] / 2, rel=0.05)  # data gradients, no weight gradients


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        (LLAMA, {"method": {"name": "prefix"}, "checkpointing": True}, r"activation_checkpointing: 'full' does not"),
        (CONFIGS["bert"], {"method": {"name": "prefix"}}, "needs a model that takes past keys and values"),
        (CONFIGS["qwen2"], {"method": {"name": "adaption_prompt"}}, "is not offered by peft for qwen2"),
        (LLAMA, {"method": {"name": "adaption_prompt", "adapter_layers": 9}}, "more than the model's 4 layers"),
        (LLAMA, {"method": {"name": "prefix", "encoder_hidden": 64}}, "means nothing without the projection"),
        (LLAMA, {"method": {"name": "prompt", "bottleneck": 64}}, r"method\.bottleneck: '64' means nothing for prompt"),
        (GPT2, {"method": {"name": "prompt", "virtual_tokens": 1000}, "seq": 256}, "beside 1000 virtual tokens"),
        (GPT2, {"method": {"name": "prompt", "virtual_tokens": 1024}}, "fill all 1024 positions"),
        ({**CONFIGS["opt"], "word_embed_proj_dim": 256}, {"method": {"name": "prompt"}}, "embeddings are 256 wide"),
    ],
)
def test_what_cannot_be_run_is_refused(config: dict[str, Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        engine_estimate(config, {**SIZE, **arguments})
