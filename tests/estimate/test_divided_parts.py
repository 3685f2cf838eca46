"""Tensor and pipeline parallelism of models with parts of their own: what the ranks compute adds up, what is whole stays whole."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import PlanError
from planner.estimate import Estimate
from planner.estimate.engine import estimate
from planner.estimate.ranks import setting_of
from planner.estimate.resolve import resolve
from planner.run import parse_run
from planner.workload import Workload, trace
from tests.oracles.multimodal_cases import CONFIGS as PICTURES
from tests.oracles.statespace_cases import CONFIGS as HYBRIDS

BASE: dict[str, Any] = {
    "task": "pretrain", "precision": "bf16", "stack": "megatron", "attention": "flash",
    "hardware": {"gpu": "H100 SXM 80GB", "gpus": 8}, "batch": {"micro": 2, "accumulation": 4, "seq_len": 1024},
}  # fmt: skip
MIXED = ("mamba2", "bamba", "granitemoehybrid-dense", "granitemoehybrid", "falcon_h1", "qwen3_next", "nemotron_h")
SEEING = ("llava", "paligemma", "qwen2_vl", "gemma3")


def run_of(config: dict[str, Any], **parallel: Any) -> dict[str, Any]:
    return {**BASE, "model": {**config, "vocab_size": 1024}, "parallel": {"sharding": "ddp", **parallel}}


def plan(config: dict[str, Any], **parallel: Any) -> Estimate:
    return estimate(parse_run(run_of(config, **parallel)))


def traced(config: dict[str, Any], **parallel: Any) -> Workload:
    r = resolve(parse_run(run_of(config, **parallel)))
    return trace(setting_of(r, r.run.batch.seq_len or 0), r.head, "none")


def flops(workload: Workload, *, tower: bool = False) -> float:
    """Of the blocks alone, forward and backward, without what is on every rank: the router, and the shared expert's gate of one column."""
    return sum(
        k.flops * k.times * s.count
        for s in workload.stretches
        if s.name == "block" and bool(s.tower) is tower
        for o in s.operations
        if o.name != "router"
        for k in (*o.forward, *o.backward)
        if 1 not in (k.m, k.n, k.k)
    )


@pytest.mark.parametrize("name", [name for name in MIXED if name in HYBRIDS])
@pytest.mark.parametrize("sequence", [False, True])
def test_ranks_compute_their_part_of_a_mixer(name: str, sequence: bool) -> None:
    whole, part = traced(HYBRIDS[name]), traced(HYBRIDS[name], tp=2, sequence_parallel=sequence)
    assert 2 * flops(part) == pytest.approx(flops(whole), rel=1e-9)
    kinds = [k.extra.kind for s in part.stretches for o in s.operations for k in o.forward if k.kind == "collective"]
    assert kinds.count("reduce_scatter" if sequence else "all_reduce") > 0


@pytest.mark.parametrize("name", [name for name in MIXED if name in HYBRIDS])
def test_parameters_are_those_of_the_whole(name: str) -> None:
    whole, part = plan(HYBRIDS[name]), plan(HYBRIDS[name], tp=2)
    assert part.parameters == whole.parameters
    weights = [e.total("memory/weights") for e in (whole, part)]
    assert 0.5 * weights[0] <= weights[1] < 0.62 * weights[0]


@pytest.mark.parametrize("name", [name for name in SEEING if name in PICTURES])
def test_a_vision_tower_is_whole_on_every_rank(name: str) -> None:
    config = PICTURES[name]
    run = {**BASE, "stack": "hf", "attention": "sdpa", "model": config, "batch": {"micro": 1, "accumulation": 4, "seq_len": 2048}}

    def stretches(**parallel: Any) -> Workload:
        r = resolve(parse_run({**run, "parallel": {"sharding": "ddp", **parallel}}))
        return trace(setting_of(r, r.run.batch.seq_len or 0), r.head, "none")

    whole, part = stretches(), stretches(tp=2)
    assert flops(part, tower=True) == flops(whole, tower=True) > 0
    assert flops(part) < 0.55 * flops(whole)
    divided, alone = (estimate(parse_run({**run, "parallel": {"sharding": "ddp", **p}})) for p in ({"tp": 2}, {}))
    assert divided.parameters == alone.parameters
    assert divided.total("memory/weights") < alone.total("memory/weights")


@pytest.mark.parametrize("name", [name for name in SEEING if name in PICTURES])
def test_a_vision_tower_stands_on_the_first_stage(name: str) -> None:
    run = {**BASE, "stack": "hf", "attention": "sdpa", "model": PICTURES[name], "batch": {"micro": 1, "accumulation": 4, "seq_len": 2048}}
    staged, alone = (estimate(parse_run({**run, "parallel": {"sharding": "ddp", **p}})) for p in ({"pp": 2}, {}))
    assert staged.parameters == alone.parameters
    assert staged.flops_per_step / staged.run.dp == pytest.approx(alone.flops_per_step / alone.run.dp)
    first, last = (view.curve for view in staged.details["stages"])
    assert len(first) > len(last)


@pytest.mark.parametrize(
    ("config", "parallel", "field", "said"),
    [
        (HYBRIDS["mamba"], {"tp": 2}, "parallel.tp", "selective scan"),
        (HYBRIDS["mamba2"], {"tp": 8, "pp": 1, "sequence_parallel": True, "cp": 1, "ep": 2}, "parallel.ep", "experts"),
        (HYBRIDS["mamba2-odd"], {"tp": 4}, "parallel.tp", "heads"),
        (HYBRIDS["mamba2"], {"cp": 2}, "parallel.cp", "state along the sequence"),
    ],
)
def test_what_has_no_part_for_each_rank_is_refused(config: dict[str, Any], parallel: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(PlanError) as error:
        plan(config, **parallel)
    assert error.value.field == field
    assert said in str(error.value)
