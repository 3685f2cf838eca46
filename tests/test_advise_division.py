"""Advice for runs that divide the model: degrees that help, the batch and the accelerators as they were, no ZeRO-3 beside pipeline stages."""

from __future__ import annotations

from typing import Any

import pytest

from planner import estimate
from planner.advise import Suggestion, apply, suggest
from planner.advise.division import degrees, sharding, smaller_parts
from planner.estimate import Estimate
from planner.run import Run, parse_run
from planner.summary import global_batch

COMMON: dict[str, Any] = {"task": "pretrain", "precision": "bf16", "attention": "flash", "data": "1B"}
WIDE: dict[str, Any] = COMMON | {
    "model": "meta-llama/Llama-3.1-8B", "stack": "megatron", "hardware": {"gpu": "H100 SXM 80GB", "gpus": 64},
    "parallel": {"tp": 8, "pp": 2, "sharding": "zero1"}, "batch": {"micro": 1, "accumulation": 32, "seq_len": 4096},
}  # fmt: skip
NARROW: dict[str, Any] = COMMON | {
    "model": "meta-llama/Llama-3.1-70B", "stack": "megatron", "hardware": {"gpu": "H100 SXM 80GB", "gpus": 64},
    "parallel": {"tp": 2, "pp": 2, "sharding": "zero1"}, "batch": {"micro": 2, "accumulation": 4, "seq_len": 4096},
}  # fmt: skip


def advised(mapping: dict[str, Any]) -> tuple[Run, Estimate, tuple[Suggestion, ...]]:
    run = parse_run(mapping)
    return run, (e := estimate(run)), suggest(run, e, limit=12)


def test_too_much_tensor_parallelism_is_taken_back() -> None:
    _, before, found = advised(WIDE)
    fewer = next(s for s in found if s.change.get("parallel.tp") == 4)
    assert fewer.time_ratio is not None and fewer.time_ratio < 0.9
    assert fewer.estimate.step_time_s < before.step_time_s


def test_what_does_not_fit_is_divided_further() -> None:
    _, before, found = advised(NARROW)
    assert before.fits is False
    divided = next(s for s in found if s.topic == "division")
    assert divided.fits and divided.estimate.run.hardware.gpus == 64
    assert divided.estimate.run.parallel.tp <= 8


@pytest.mark.parametrize("mapping", [WIDE, NARROW])
def test_zero_3_is_not_proposed_beside_stages(mapping: dict[str, Any]) -> None:
    _, e, found = advised(mapping)
    assert all(s.change.get("parallel.sharding") in (None, "zero1", "ddp") for s in found)
    assert {i.change["parallel.sharding"] for i in sharding(e.run)} <= {"zero1", "ddp"}
    alone = parse_run(mapping | {"parallel": {}, "stack": "torchtitan"})
    assert "zero3" in {i.change["parallel.sharding"] for i in sharding(estimate(alone).run)}


@pytest.mark.parametrize("mapping", [WIDE, NARROW, WIDE | {"parallel": {"tp": 2, "pp": 4, "cp": 2, "virtual_pp": 2, "sequence_parallel": True}}])
def test_every_division_holds_batch_and_accelerators_and_can_be_planned(mapping: dict[str, Any]) -> None:
    run = parse_run(mapping)
    resolved = estimate(run).run
    ideas = [*degrees(resolved), *smaller_parts(resolved)]
    assert len(ideas) >= 4
    for idea in ideas:
        changed = apply(run, idea.change)
        assert changed.hardware.gpus == 64
        assert global_batch(changed) == global_batch(run)
        assert estimate(changed).step_time_s
