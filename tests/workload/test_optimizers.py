"""Optimizers against the real implementations: what they keep, to the last byte, and the scratch of their step."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from planner.errors import PlanError
from planner.estimate.engine import estimate
from planner.estimate.resolve import resolve
from planner.estimate.update import trained_parameters, update_step
from planner.run import parse_run
from planner.workload.graph import Parameter
from planner.workload.optimizers import OPTIMIZERS, Step, Task, Trained
from tests.engine_cases import engine_run
from tests.oracles import record
from tests.oracles.cases import CONFIGS
from tests.oracles.optimizers import OPTIONS


def step_of(config: dict[str, Any], arguments: dict[str, Any]) -> Step:
    from planner.estimate.ranks import whole_model

    name = arguments["optimizer"]
    run = {**engine_run(config, {**arguments, "seq": 8}), "optimizer_options": OPTIONS.get(name, {})}
    resolved = resolve(parse_run(run))
    return update_step(resolved, trained_parameters(whole_model(resolved, 8)), 1.0)


def cases() -> list[Any]:
    recorded = record.load("optimizers")
    return [pytest.param(recorded["configs"][c["config"]], c, id=c["id"]) for c in recorded["cases"]]


@pytest.mark.parametrize(("config", "case"), cases())
def test_states_equal_the_real_optimizer(config: dict[str, Any], case: dict[str, Any]) -> None:
    step = step_of(config, case["arguments"])
    assert sum(step.states.values()) + sum(step.paged.values()) == case["truth"]["states"]


@pytest.mark.parametrize(("config", "case"), [c for c in cases() if "scratch" in c.values[1]["truth"]])
def test_scratch_of_the_step_is_near_the_real_one(config: dict[str, Any], case: dict[str, Any]) -> None:
    step = step_of(config, case["arguments"])
    assert step.temporaries == pytest.approx(case["truth"]["scratch"], rel=0.07, abs=4096)


def test_scratch_is_within_a_thousandth_for_most() -> None:
    errors = [
        abs(step_of(c.values[0], c.values[1]["arguments"]).temporaries / c.values[1]["truth"]["scratch"] - 1)
        for c in cases()
        if c.values[1]["truth"].get("scratch")
    ]
    assert len(errors) >= 25
    assert statistics.median(errors) < 0.001


BASE = {
    "model": {"base": "gpt2", "n_layer": 2},
    "hardware": {"gpu": "H100 SXM 80GB"},
    "batch": {"micro": 2, "seq_len": 256},
}


def plan(**changes: Any) -> Any:
    return estimate(parse_run({**BASE, "precision": "bf16-mixed", **changes}))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_plans_a_run(name: str) -> None:
    e = plan(optimizer=name)
    assert e.step_time_s > 0
    assert sum(t.value for t in e.terms if t.name.startswith("memory/")) == pytest.approx(e.peak_memory_bytes)


def test_newton_schulz_costs_its_products() -> None:
    """Jordan 2024: per iteration 2·(2 n m² + m³) FLOP of an n × m matrix, five of them."""
    rows, columns = 64.0, 192.0
    task = Task([Trained(Parameter("a", (rows, columns), "fp32", True))])
    flops = sum(kernel.flops * times for kernel, times in OPTIMIZERS["muon"].step(task).products)
    assert flops == 5 * 2 * (2 * columns * rows**2 + rows**3)
    muon, adamw = plan(optimizer="muon"), plan(optimizer="adamw")
    assert muon.flops_per_step > adamw.flops_per_step
    assert muon.mfu is not None
    assert adamw.mfu is not None
    assert muon.mfu < adamw.mfu
    assert muon.peak_memory_bytes < adamw.peak_memory_bytes


def test_embeddings_are_adamw_under_muon() -> None:
    task = Task([Trained(Parameter("wte", (100.0, 8.0), "fp32", True), 1.0, "embedding")])
    states = OPTIMIZERS["muon"].step(task).states
    assert (states["momentum_buffer"], states["exp_avg"], states["exp_avg_sq"]) == (0, 3200, 3200)


def test_options_are_read_or_refused() -> None:
    assert plan(optimizer="soap", optimizer_options={"every": 100}).step_time_s < plan(optimizer="soap").step_time_s
    with pytest.raises(PlanError, match=r"optimizer_options\.rank: '8' means nothing for adamw"):
        plan(optimizer_options={"rank": 8})


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_lora_fa_is_pefts_optimizer(precision: str) -> None:
    """States to the last byte and scratch of the step, with adapters in fp32 over either base; run on the processor, where peft's autocast is bf16 too."""
    import torch
    from peft.optimizers import create_lorafa_optimizer

    from planner.probe.tracker import StorageTracker
    from tests.oracles.models import build
    from tests.oracles.optimizers import _tensors

    arguments = {"method": {"name": "lora", "rank": 8, "targets": "all-linear"}, "precision": precision}
    model = build(CONFIGS["llama"], **arguments, device="cpu")  # type: ignore[arg-type]
    for p in model.parameters():
        torch.nn.init.normal_(p.data, std=0.02)
    engine = create_lorafa_optimizer(model, r=8, lora_alpha=16, lr=1e-4)  # type: ignore[arg-type]
    tracker, trained = StorageTracker(), [p for p in model.parameters() if p.requires_grad]
    for step in range(2):
        for p in trained:
            p.grad = torch.randn_like(p)
        if step:
            for tensor in (*model.parameters(), *(p.grad for p in trained), *_tensors(engine.state, set())):
                tracker.add(tensor, "static", "")
            before = tracker.raw
            tracker.peaks.clear()
            with tracker:
                engine.step()
        else:
            engine.step()
    scratch = max(peak.raw for peak in tracker.peaks.values()) - before
    ours = step_of(CONFIGS["llama"], {**arguments, "optimizer": "lora-fa", "method": {**arguments["method"], "name": "lora_fa"}})  # type: ignore[dict-item]
    assert sum(ours.states.values()) == sum(t.numel() * t.element_size() for t in _tensors(engine.state, set()))
    assert ours.temporaries == pytest.approx(scratch, rel=0.02)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["sophia", "lamb", "sgd"])
def test_optimizers_without_a_package_are_their_algorithms(name: str, dtype: str) -> None:
    import torch

    from tests.oracles import written_optimizers

    shapes = [(64, 32), (300, 70), (300, 70), (17,)]
    truth = written_optimizers.measure(name, shapes, {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype])
    parameters = [Parameter(str(i), tuple(float(n) for n in shape), dtype, True) for i, shape in enumerate(shapes)]
    step = OPTIMIZERS[name].step(Task([Trained(p) for p in parameters]))
    assert sum(step.states.values()) == truth["states"]
    assert step.temporaries == pytest.approx(truth["scratch"], abs=64)
