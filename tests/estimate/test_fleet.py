"""Mixed fleets: stages of every kind are planned with their own curves, memory and price; what cannot be is refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import PlanError
from planner.estimate import Estimate
from planner.estimate.engine import estimate
from planner.run import parse_run
from planner.summary import gpu_name

A100, H100 = "A100 SXM4 80GB", "H100 SXM 80GB"
BASE: dict[str, Any] = {
    "model": "meta-llama/Llama-3.1-8B", "task": "pretrain", "precision": "bf16", "stack": "megatron", "attention": "flash", "data": "1B",
    "batch": {"micro": 1, "accumulation": 16, "seq_len": 4096}, "parallel": {"pp": 4, "tp": 2, "sharding": "zero1"},
}  # fmt: skip


def plan(*groups: tuple[Any, int], parallel: dict[str, Any] | None = None, **changes: Any) -> Estimate:
    hardware = {"groups": [{"gpu": gpu, "gpus": count} for gpu, count in groups]}
    return estimate(parse_run({**BASE, **changes, "hardware": hardware, "parallel": {**BASE["parallel"], **(parallel or {})}}))


@pytest.mark.parametrize("gpu", [A100, H100])
def test_a_fleet_of_one_kind_is_a_plain_run(gpu: str) -> None:
    plain, fleet = estimate(parse_run({**BASE, "hardware": {"gpu": gpu, "gpus": 16}})), plan((gpu, 16))
    for name in ("step_time_s", "peak_memory_bytes", "cost_usd", "energy_kwh", "mfu", "flops_per_step", "fits", "usable_memory_bytes"):
        assert getattr(fleet, name) == pytest.approx(getattr(plain, name)), name
    assert sum(t.value for t in fleet.terms if t.name.startswith("time/")) == pytest.approx(fleet.step_time_s)


def test_every_stage_takes_the_time_of_its_own_kind() -> None:
    mixed, slow, fast = plan((A100, 8), (H100, 8)), plan((A100, 16)), plan((H100, 16))
    busy = [e.details["timeline"].busy for e in (mixed, slow, fast)]
    assert busy[0] == pytest.approx((*busy[1][:2], *busy[2][2:]))
    assert fast.step_time_s < mixed.step_time_s < slow.step_time_s
    assert fast.cost_usd / fast.total_time_s > mixed.cost_usd / mixed.total_time_s > slow.cost_usd / slow.total_time_s
    assert gpu_name(mixed.run) == f"{A100} and {H100}"
    assert any("fewer layers" in line and A100 in line for line in mixed.warnings)


def test_fewer_layers_on_the_slow_kind_help() -> None:
    even, uneven = plan((A100, 8), (H100, 8)), plan((A100, 8), (H100, 8), parallel={"stages": [5, 5, 11, 11]})
    assert uneven.step_time_s < 0.75 * even.step_time_s
    assert not any("fewer layers" in line for line in uneven.warnings)


def test_the_verdict_is_that_of_the_fullest_kind() -> None:
    small = {"base": A100, "memory_gib": 16}
    assert plan((A100, 8), (H100, 8)).fits is True
    assert plan((small, 8), (H100, 8)).fits is False
    back = plan((H100, 8), (small, 8))
    assert back.fits is False
    assert set(back.details["memory_stages"]) <= {2, 3}


def test_the_resolved_run_is_a_run() -> None:
    mixed = plan((A100, 8), (H100, 8))
    again = estimate(parse_run(mixed.model_dump(mode="json")["run"]))
    assert again.step_time_s == pytest.approx(mixed.step_time_s)


@pytest.mark.parametrize(
    ("groups", "changes", "field", "said"),
    [
        ([(A100, 8), (H100, 8)], {"parallel": {"pp": 1}}, "hardware.groups", "wait for the slow"),
        ([(A100, 6), (H100, 10)], {}, "hardware.groups.0.gpus", "whole number of stages"),
        ([(A100, 8), ("TPU v5p (chip)", 8)], {}, "hardware.groups", "do not join in one run"),
        ([(A100, 8), ("MI300X", 8)], {}, "hardware.groups", "do not join in one run"),
        ([(A100, 8), ("V100 SXM2 32GB", 8)], {}, "precision.compute", "V100"),
        ([(A100, 8), (H100, 8)], {"parallel": {"schedule": "zbv"}}, "parallel.schedule", "mixed fleet"),
        ([(A100, 8), (H100, 8)], {"offload": "optimizer"}, "offload", "mixed fleet"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_the_reason(groups: list[Any], changes: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(PlanError) as error:
        plan(*groups, **changes)
    assert error.value.field == field
    assert said in str(error.value)


def test_a_count_beside_groups_must_be_theirs() -> None:
    with pytest.raises(PlanError, match=r"hardware\.gpus"):
        parse_run({**BASE, "hardware": {"gpus": 12, "groups": [{"gpu": A100, "gpus": 8}, {"gpu": H100, "gpus": 8}]}})
