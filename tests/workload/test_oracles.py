"""Parameters, FLOPs and peak memory against what the real transformers and peft modules showed (recorded, and some live)."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from planner.errors import PlanError
from tests.engine_cases import comparable, engine_estimate, tensor_peak
from tests.oracles import memory, parameters, record


def cases(kind: str) -> list[Any]:
    recorded = record.load(kind)
    return [
        pytest.param(recorded["configs"][case["config"]], case, id=case["id"])
        for case in recorded["cases"]
        if comparable(case) and case["config"] in recorded["configs"]
    ]


@pytest.mark.parametrize(("config", "case"), cases("parameters"))
def test_parameter_counts_equal_the_real_modules(config: dict[str, Any], case: dict[str, Any]) -> None:
    e = engine_estimate(config, {**case["arguments"], "seq": 8})
    assert e.parameters == case["truth"]["total"]
    assert e.trainable_parameters == case["truth"]["trainable"]


@pytest.mark.parametrize(("config", "case"), cases("flops"))
def test_training_flops_equal_the_flop_counter(config: dict[str, Any], case: dict[str, Any]) -> None:
    e = engine_estimate(config, case["arguments"])
    truth = case["truth"]["forward"] + case["truth"]["backward"]
    assert e.flops_per_step == pytest.approx(truth, rel=0.0005)


@pytest.mark.parametrize(("config", "case"), cases("memory"))
def test_peak_memory_is_near_the_tracked_peak(config: dict[str, Any], case: dict[str, Any]) -> None:
    e = engine_estimate(config, case["arguments"])
    assert tensor_peak(e) == pytest.approx(case["truth"]["peak"], rel=0.03)


def test_peak_memory_is_exact_for_most_cases() -> None:
    errors = [
        abs(tensor_peak(engine_estimate(p.values[0], p.values[1]["arguments"])) / p.values[1]["truth"]["peak"] - 1)
        for p in cases("memory")
    ]
    assert len(errors) >= 200
    assert statistics.median(errors) < 0.001


LIVE: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 320, "intermediate_size": 864, "num_hidden_layers": 3,
    "num_attention_heads": 10, "num_key_value_heads": 5, "vocab_size": 3001, "max_position_embeddings": 512,
}  # fmt: skip


@pytest.mark.parametrize("precision", ["bf16", "bf16-mixed"])
@pytest.mark.parametrize("method", [{"name": "full"}, {"name": "lora", "rank": 4, "targets": ["q_proj", "down_proj"]}])
def test_a_config_that_was_never_recorded(precision: str, method: dict[str, Any]) -> None:
    arguments = {"precision": precision, "method": method, "attention": "sdpa", "batch": 3, "seq": 144}
    e = engine_estimate(LIVE, arguments)
    assert tensor_peak(e) == pytest.approx(memory.measure(LIVE, **arguments)["peak"], rel=0.03)
    counted = parameters.count(LIVE, None, method)
    assert (e.parameters, e.trainable_parameters) == (counted["total"], counted["trainable"])


def test_an_unknown_model_type_is_refused() -> None:
    with pytest.raises(PlanError, match=r"model\.model_type: 'nosuch' is not known to transformers"):
        engine_estimate({"model_type": "nosuch"}, {"seq": 8})
