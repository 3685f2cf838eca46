"""Checkpoints on some blocks, and checkpoints that keep some results, against tracked steps of the real models."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import PlanError
from planner.estimate.engine import estimate
from planner.run import parse_run
from tests.engine_cases import engine_estimate, tensor_peak
from tests.oracles import record


def cases() -> list[Any]:
    recorded = record.load("checkpoint-memory")
    return [pytest.param(recorded["configs"][c["config"]], c, id=c["id"]) for c in recorded["cases"]]


@pytest.mark.parametrize(("config", "case"), cases())
def test_peak_is_near_the_tracked_peak(config: dict[str, Any], case: dict[str, Any]) -> None:
    e = engine_estimate(config, case["arguments"])
    assert tensor_peak(e) == pytest.approx(case["truth"]["peak"], rel=0.03)


BASE = {"model": "gpt2", "hardware": {"gpu": "H100 SXM 80GB"}, "batch": {"micro": 8, "seq_len": 1024}}


def plan(**changes: Any) -> Any:
    return estimate(parse_run({**BASE, **changes}))


def test_fewer_checkpoints_recompute_less_and_keep_more() -> None:
    full, second, none = (plan(activation_checkpointing=c) for c in ("full", {"every": 2}, "none"))
    assert full.peak_memory_bytes < second.peak_memory_bytes < none.peak_memory_bytes
    recomputed = (second.flops_per_step - none.flops_per_step) / (full.flops_per_step - none.flops_per_step)
    assert recomputed == pytest.approx(0.5)
    assert (second.parameters, second.trainable_parameters) == (none.parameters, none.trainable_parameters)
    assert second.run.activation_checkpointing == "full"


def test_layers_that_alternate_are_checkpointed_by_number() -> None:
    model = {"base": "gpt2", "n_layer": 5}
    counts = [
        plan(model=model, activation_checkpointing={"every": n}).flops_per_step - plan(model=model).flops_per_step
        for n in (1, 2, 5, 6)
    ]
    assert counts[1] / counts[0] == pytest.approx(2 / 5)
    assert counts[2] / counts[0] == pytest.approx(1 / 5)
    assert counts[3] == 0


def test_kept_products_are_not_recomputed() -> None:
    none = plan().flops_per_step
    assert plan(activation_checkpointing={"keep": ["attention", "matmul"]}).flops_per_step == none
    assert (
        none
        < plan(activation_checkpointing={"keep": ["attention"]}).flops_per_step
        < plan(activation_checkpointing="full").flops_per_step
    )


def test_options_without_checkpoints_are_refused() -> None:
    with pytest.raises(PlanError, match=r"checkpoints\.every: '2' means nothing"):
        plan(checkpoints={"every": 2})
