"""Model parallelism: what is divided adds up to the whole, and what cannot be divided is refused."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import PlanError
from planner.estimate import Estimate
from planner.estimate.engine import estimate
from planner.run import parse_run

BASE: dict[str, Any] = {
    "model": "meta-llama/Llama-3.1-8B", "task": "pretrain", "precision": "bf16", "stack": "megatron", "attention": "flash",
    "hardware": {"gpu": "H100 SXM 80GB", "gpus": 64}, "batch": {"micro": 1, "accumulation": 16, "seq_len": 4096},
}  # fmt: skip


def plan(parallel: dict[str, Any], **changes: Any) -> Estimate:
    return estimate(parse_run({**BASE, **changes, "parallel": parallel}))


DEGREES: list[dict[str, Any]] = [
    {"tp": 8},
    {"tp": 4, "sequence_parallel": True},
    {"pp": 4},
    {"pp": 8, "virtual_pp": 2},
    {"cp": 4},
    {"tp": 2, "pp": 4, "cp": 2, "sequence_parallel": True},
]


@pytest.mark.parametrize("degrees", DEGREES, ids=str)
def test_the_whole_model_is_there_however_it_is_divided(degrees: dict[str, Any]) -> None:
    e, whole = plan({**degrees, "sharding": "zero1"}), plan({"sharding": "zero1"})
    assert e.parameters == whole.parameters
    per_token = e.flops_per_step / e.details["tokens_per_step"]
    assert per_token == pytest.approx(whole.flops_per_step / whole.details["tokens_per_step"], rel=1e-9)
    assert sum(t.value for t in e.terms if t.name.startswith("time/")) == pytest.approx(e.step_time_s)
    assert sum(t.value for t in e.terms if t.name.startswith("memory/")) == pytest.approx(e.peak_memory_bytes)


@pytest.mark.parametrize("degrees", DEGREES, ids=str)
def test_a_rank_holds_its_part_of_the_weights(degrees: dict[str, Any]) -> None:
    parts = degrees.get("tp", 1) * degrees.get("pp", 1)
    divided, whole = (
        sum(t.value for t in plan({**d, "sharding": "ddp"}).terms if t.name.startswith("memory/weights/")) for d in (degrees, {})
    )
    # the first and the last stage also hold the embeddings, which are a tenth of this model
    assert whole / parts <= divided < whole * (1 / parts + 0.07)


def test_sequence_parallel_divides_what_tensor_parallel_leaves() -> None:
    plain, divided = plan({"tp": 8}), plan({"tp": 8, "sequence_parallel": True})
    kept = [sum(t.value for t in e.terms if t.name.startswith("memory/activations/")) for e in (plain, divided)]
    # Korthikanti et al. 2022, table 2: s·b·h·(10 + 24/t) becomes s·b·h·34/t (flash attention: no scores)
    assert kept[1] < 0.6 * kept[0]


def test_stages_in_front_keep_more_micro_batches() -> None:
    few, many = (plan({"pp": 4, "sharding": "zero1"}, batch={"micro": 1, "accumulation": n, "seq_len": 4096}) for n in (1, 16))
    assert many.peak_memory_bytes > few.peak_memory_bytes
    assert sum(t.value for t in many.terms if t.name == "time/overhead/bubble") > 0


MOE = "mistralai/Mixtral-8x7B-v0.1"


def test_expert_parallel_divides_the_experts_and_sends_tokens() -> None:
    alone, divided = plan({"sharding": "zero1"}, model=MOE), plan({"ep": 8, "sharding": "zero1"}, model=MOE)
    assert divided.parameters == alone.parameters
    assert divided.flops_per_step == pytest.approx(alone.flops_per_step, rel=1e-9)
    weights = [sum(t.value for t in e.terms if t.name.startswith("memory/weights/")) for e in (alone, divided)]
    assert weights[1] < 0.2 * weights[0]
    assert sum(t.value for t in divided.terms if t.name == "time/communication/expert") > 0


@pytest.mark.parametrize(
    ("parallel", "field"),
    [
        ({"tp": 64}, "parallel.tp"),
        ({"pp": 64}, "parallel.pp"),
        ({"ep": 2}, "parallel.ep"),
        ({"virtual_pp": 2}, "parallel.virtual_pp"),
        ({"sequence_parallel": True}, "parallel.sequence_parallel"),
    ],
)
def test_what_cannot_be_divided_so_is_refused(parallel: dict[str, Any], field: str) -> None:
    with pytest.raises(PlanError) as error:
        plan(parallel)
    assert error.value.field == field


def test_an_estimate_is_as_cheap_for_many_accelerators_as_for_few() -> None:
    curves = [len(plan({"tp": 8, "pp": 8, "sharding": "zero1"}, hardware={"gpu": "H100 SXM 80GB", "gpus": n}).memory_curve) for n in (128, 65536)]
    assert curves[0] == curves[1]
