"""peft's methods at linear layers, norms and experts, against what peft's modules showed (recorded)."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from tests.engine_cases import engine_estimate, tensor_peak
from tests.oracles import record


def cases(kind: str) -> list[Any]:
    recorded = record.load(f"methods-{kind}")
    return [pytest.param(recorded["configs"][case["config"]], case, id=case["id"]) for case in recorded["cases"]]


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
