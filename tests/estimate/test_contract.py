"""Every way of dividing work, every kind of network and every training stack that the contract names yields a plan of its own.

A word that is read must move the figure that it is about: each case says against which run, and in which direction. What the plans say
is held by the tests of each part (`test_parallel.py`, `test_schedules.py`, `test_context.py`, `test_networks.py`) and by published runs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from planner.errors import PlanError
from planner.estimate import Estimate
from planner.estimate.engine import estimate
from planner.run import parse_run

Mapping = dict[str, Any]
Figure = Callable[[Estimate], float]
LLAMA, MIXTURE = "meta-llama/Llama-3.1-8B", "mistralai/Mixtral-8x7B-v0.1"
BASE: Mapping = {
    "model": LLAMA, "task": "pretrain", "precision": "bf16", "stack": "megatron", "attention": "flash",
    "hardware": {"gpu": "H100 SXM 80GB", "gpus": 64}, "batch": {"micro": 1, "accumulation": 16, "seq_len": 4096},
}  # fmt: skip


def merged(run: Mapping, changes: Mapping) -> Mapping:
    """The run with fields of its parts replaced."""
    both = {k: merged(run[k], v) if isinstance(v, dict) and isinstance(run.get(k), dict) else v for k, v in changes.items()}
    return {**run, **both}


@cache
def _known(text: str) -> Estimate:
    return estimate(parse_run(json.loads(text)))


def plan(*changes: Mapping) -> Estimate:
    run = BASE
    for change in changes:
        run = merged(run, change)
    return _known(json.dumps(run))


def divided(**parallel: Any) -> Mapping:
    return {"parallel": parallel}


def wired(**hardware: Any) -> Mapping:
    return {"hardware": hardware}


def seconds(e: Estimate) -> float:
    return e.step_time_s


def peak(e: Estimate) -> float:
    return e.peak_memory_bytes


def bytes_of(*names: str) -> Figure:
    return lambda e: sum(t.value for t in e.terms if t.name.startswith(tuple(f"memory/{n}" for n in names)))


def spent(name: str) -> Figure:
    return lambda e: sum(t.value for t in e.terms if t.name.startswith(f"time/{name}"))


DDP, ZERO1, ZERO3 = divided(sharding="ddp"), divided(sharding="zero1"), divided(sharding="zero3")
TENSOR, PIPE, EXPERTS = divided(tp=8), divided(pp=4, sharding="zero1"), {"model": MIXTURE, **divided(ep=8, sharding="zero1")}
HALF = {"stack": "hf", "precision": "bf16-mixed"}
OFFLOADED = {"stack": "deepspeed", **divided(sharding="zero3")}
NARROW = merged(EXPERTS, wired(oversubscription=8.0))
ETHERNET = merged(ZERO3, wired(network="ethernet"))

LESS: dict[str, tuple[Figure, Mapping, Mapping]] = {
    # word: figure, the run with it, and a run without it of which that figure is larger
    "ZeRO-1": (bytes_of("optimizer"), ZERO1, DDP),
    "distributed optimizer": (bytes_of("optimizer"), divided(sharding="distributed-optimizer"), DDP),
    "ZeRO-2": (peak, divided(sharding="zero2"), ZERO1),
    "ZeRO-3": (bytes_of("weights"), ZERO3, divided(sharding="zero2")),
    "FSDP1": (bytes_of("weights", "optimizer"), {**HALF, **divided(sharding="fsdp1")}, {**HALF, **DDP}),
    "FSDP2": (bytes_of("weights", "optimizer"), {"stack": "torchtitan", **divided(sharding="fsdp2")}, {"stack": "torchtitan", **DDP}),
    "HSDP": (bytes_of("weights", "optimizer"), {**HALF, **divided(sharding="hybrid_shard")}, {**HALF, **DDP}),
    "HSDP holds more than FSDP": (bytes_of("optimizer"), ZERO3, divided(sharding="hsdp")),
    "tensor parallel": (bytes_of("weights"), TENSOR, DDP),
    "sequence parallel": (bytes_of("activations"), divided(tp=8, sequence_parallel=True), TENSOR),
    "context: ring": (bytes_of("activations"), divided(cp=8, cp_kind="ring"), DDP),
    "context: all-gather": (bytes_of("activations"), divided(cp=8, cp_kind="all-gather"), DDP),
    "context: Ulysses": (bytes_of("activations"), divided(cp=8, cp_kind="ulysses"), DDP),
    "a ring hides what a gather waits for": (seconds, divided(cp=8, cp_kind="ring"), divided(cp=8, cp_kind="all-gather")),
    "expert parallel": (bytes_of("weights"), EXPERTS, merged(EXPERTS, divided(ep=1))),
    "experts' tokens travel": (spent("communication/expert"), merged(EXPERTS, divided(ep=1)), EXPERTS),
    "capacity": (seconds, EXPERTS, merged(EXPERTS, divided(expert_capacity=2.0))),
    "imbalance": (seconds, EXPERTS, merged(EXPERTS, divided(expert_imbalance=2.0))),
    "imbalance takes memory": (peak, EXPERTS, merged(EXPERTS, divided(expert_imbalance=2.0))),
    "pipeline": (bytes_of("weights"), PIPE, ZERO1),
    "1F1B keeps less than GPipe": (peak, merged(PIPE, divided(schedule="1f1b")), merged(PIPE, divided(schedule="gpipe"))),
    "interleaved": (seconds, merged(PIPE, divided(schedule="interleaved", virtual_pp=2)), PIPE),
    "zero-bubble": (seconds, merged(PIPE, divided(schedule="zero-bubble")), PIPE),
    "ZB-V": (seconds, merged(PIPE, divided(schedule="zbv")), PIPE),
    "DualPipe-V": (seconds, merged(PIPE, divided(schedule="dualpipev")), PIPE),
    "uneven stages: the head's is relieved": (seconds, merged(PIPE, divided(stages=(9, 9, 8, 6))), PIPE),
    "gradient accumulation": (peak, ZERO1, merged(ZERO1, {"batch": {"micro": 16, "accumulation": 1}})),
    "offloaded activations": (bytes_of("activations"), {**OFFLOADED, "offload": "activations"}, OFFLOADED),
    "offloaded optimizer": (bytes_of("optimizer"), {**OFFLOADED, "offload": "optimizer"}, OFFLOADED),
    "offloaded weights": (bytes_of("weights"), {**OFFLOADED, "offload": "params"}, OFFLOADED),
    "what overlaps is slowed": (spent("communication/slowdown"), wired(gpus=1), ZERO3),
    "what does not overlap is waited for": (spent("communication/exposed"), {**HALF, **ZERO1}, {**HALF, **ZERO1, "stack": "deepspeed"}),
    "oversubscription": (seconds, ZERO3, merged(ZERO3, wired(oversubscription=8.0))),
    "rails: a leaf for each adapter": (seconds, merged(NARROW, wired(machines_per_leaf=32)), NARROW),
    "InfiniBand": (seconds, merged(ZERO3, wired(network="infiniband")), ETHERNET),
    "RoCE": (seconds, merged(ZERO3, wired(network="roce")), ETHERNET),
    "EFA": (seconds, merged(ZERO3, wired(network="infiniband")), merged(ZERO3, wired(network="efa"))),
    "Gb/s": (seconds, ZERO3, merged(ZERO3, wired(network_gbps=200.0))),
    "PCIe": (seconds, merged(TENSOR, wired(gpus=8)), merged(TENSOR, wired(gpu="H100 PCIe 80GB", gpus=8))),
    "NVSwitch reduces": (spent("communication/tensor"), merged(TENSOR, wired(gpus=8)), merged(TENSOR, wired(gpu="A100 SXM4 80GB", gpus=8))),
}  # fmt: skip


@pytest.mark.parametrize("word", LESS)
def test_a_word_moves_the_figure_that_it_is_about(word: str) -> None:
    figure, with_it, without = LESS[word]
    assert figure(plan(with_it)) < 0.999 * figure(plan(without))


SAME: dict[str, tuple[Figure, Mapping, Mapping]] = {
    "machines of one leaf need no uplinks": (seconds, ZERO3, merged(ZERO3, wired(oversubscription=8.0, machines_per_leaf=8))),
    "what is not sent is not slowed": (seconds, wired(gpus=8), wired(gpus=8, network_gbps=100.0)),
    "capacity 1 is a balanced mixture": (seconds, EXPERTS, merged(EXPERTS, divided(expert_capacity=1.0))),
}


@pytest.mark.parametrize("word", SAME)
def test_a_word_that_means_nothing_here_moves_nothing(word: str) -> None:
    figure, one, other = SAME[word]
    assert figure(plan(one)) == figure(plan(other))


def test_head_and_embedding_stand_on_their_stages() -> None:
    first, middle, last = plan(PIPE).details["stages"]
    assert first.indices == (0,) and last.indices == (3,)
    books = [max(m.parts["weights"] for m in stage.curve) for stage in (first, middle, last)]
    table = 128256 * 4096 * 2  # bf16
    assert books[0] - books[1] == pytest.approx(table, rel=1e-3)
    assert books[2] - books[1] == pytest.approx(table, rel=1e-3)


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "interleaved", "zero-bubble", "zbv", "dualpipev"])
def test_every_schedule_has_a_curve_for_each_kind_of_stage_and_a_timeline(schedule: str) -> None:
    e = plan(merged(PIPE, divided(schedule=schedule, **({"virtual_pp": 2} if schedule == "interleaved" else {}))))
    stages = e.details["stages"]
    assert sorted(i for stage in stages for i in stage.indices) == [0, 1, 2, 3]
    assert max(point.allocated for stage in stages for point in stage.curve) == e.peak_memory_bytes
    timeline = e.details["timeline"]
    assert timeline is not None and {stage for stage, *_ in timeline.spans} == {0, 1, 2, 3}


ACCELERATORS: Mapping = {
    "TPU": ("maxtext", "TPU v5p (chip)"), "Gaudi": ("hf", "Gaudi3"), "Trainium": ("hf", "Trainium2"), "AMD": ("megatron", "MI300X"),
    "AMD, one die": ("torchtitan", "MI250X (one GCD)"), "NVIDIA, a rack": ("nemo", "GB200 (per GPU)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ACCELERATORS)
@pytest.mark.parametrize("gpus", [1, 256])
def test_every_kind_of_accelerator_is_planned(kind: str, gpus: int) -> None:
    stack, gpu = ACCELERATORS[kind]
    e = plan({"stack": stack, "hardware": {"gpu": gpu, "gpus": gpus, "network_gbps": 1600.0}})
    assert e.step_time_s > 0 and e.peak_memory_bytes > 0
    assert spent("communication")(e) + spent("overhead")(e) > 0


STACKS = ("hf", "hf-compile", "torchtitan", "megatron", "nemo", "deepspeed", "composer", "nanotron", "litgpt", "torchtune", "maxtext")


def test_every_stack_executes_a_step_in_its_own_way() -> None:
    figures = {}
    for stack in STACKS:
        e = plan(ZERO3, {"stack": stack})
        figures[stack] = (e.step_time_s, e.peak_reserved_bytes)
    assert len(set(figures.values())) == len(STACKS)


def test_a_mixed_fleet_is_planned_stage_by_stage_or_refused_with_the_reason() -> None:
    groups = [{"gpu": "A100 SXM4 80GB", "gpus": 8}, {"gpu": "H100 SXM 80GB", "gpus": 8}]
    fleet = {**BASE, "hardware": {"groups": groups}}
    assert estimate(parse_run(merged(fleet, divided(pp=2, sharding="zero1")))).step_time_s > 0
    with pytest.raises(PlanError) as error:
        estimate(parse_run(merged(fleet, ZERO3)))
    assert error.value.fix


def counted(run: Mapping) -> int:
    """Calls of Python and C functions that one estimate makes, the second time it is asked: what is cached for good is there."""
    parsed = parse_run(run)
    estimate(parsed)
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        estimate(parsed)
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize(
    "parallel",
    [{"sharding": "zero3"}, {"tp": 8, "sharding": "zero1"}, {"tp": 8, "pp": 4, "sharding": "zero1"}, {"cp": 4, "sharding": "zero3"}],
    ids=str,
)
def test_the_work_of_one_estimate_is_flat_from_one_machine_to_100000_accelerators(parallel: Mapping) -> None:
    few, many = (counted(merged(BASE, {**divided(**parallel), "hardware": {"gpus": n}})) for n in (64, 100_000))
    assert many < 1.02 * few
    alone = counted(merged(BASE, {"hardware": {"gpus": 1}}))
    assert many < (5 if "pp" in parallel else 2) * alone
