"""What every estimate must satisfy: the ledger adds up, more costs more, and equal parts are not walked again."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import PlanError
from planner.estimate import Estimate
from planner.estimate.engine import estimate
from planner.run import parse_run

TINY: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000, "max_position_embeddings": 8192,
}  # fmt: skip
KEYS = {
    "fits", "fits_reason", "parameters", "trainable_parameters", "flops_per_step", "step_time_s", "step_time_interval_s",
    "tokens_per_s", "tokens_per_s_per_gpu", "mfu", "peak_memory_bytes", "peak_reserved_bytes",
    "peak_memory_interval_bytes", "usable_memory_bytes", "total_time_s", "cost_usd", "energy_kwh", "co2e_kg", "basis",
    "terms", "warnings", "run",
}  # fmt: skip


def plan(**changes: Any) -> Estimate:
    return estimate(parse_run({"model": TINY, "batch": {"micro": 2, "seq_len": 512}, **changes}))


RUNS = st.fixed_dictionaries(
    {
        "method": st.sampled_from(
            [
                {"name": "full"},
                {"name": "lora", "rank": 8},
                {"name": "qlora", "rank": 8, "targets": "all-linear"},
                {"name": "freeze", "first": 2},
                {"name": "freeze", "last": 1},
            ]
        ),
        "optimizer": st.sampled_from(["adamw", "adamw-fused", "adamw8bit", "sgd", "sgd-momentum", "adafactor"]),
        "stack": st.sampled_from(["hf", "hf-4", "hf-kernels", "hf-liger", "megatron", "torchtitan", "litgpt", "composer"]),
        "activation_checkpointing": st.sampled_from(["none", "selective", "full"]),
        "attention": st.sampled_from(["eager", "sdpa"]),
        "gpus": st.sampled_from([1, 2, 8, 64]),
        "sharding": st.sampled_from(["ddp", "zero1", "zero2", "zero3", "hsdp"]),
        "micro": st.integers(1, 8),
        "accumulation": st.integers(1, 4),
    }
)


def drawn(parts: dict[str, Any]) -> dict[str, Any]:
    run = {k: parts[k] for k in ("method", "optimizer", "stack", "activation_checkpointing", "attention")}
    run["hardware"] = {"gpu": "H100 SXM 80GB", "gpus": parts["gpus"]}
    if parts["gpus"] > 1:
        run["parallel"] = {"sharding": parts["sharding"]}
    run["batch"] = {"micro": parts["micro"], "accumulation": parts["accumulation"], "seq_len": 256}
    return run


@settings(max_examples=120)
@given(RUNS)
def test_the_ledger_adds_up_and_everything_is_finite(parts: dict[str, Any]) -> None:
    e = plan(**drawn(parts), data={"tokens": 10_000_000})
    assert e.total("memory") == pytest.approx(e.peak_memory_bytes, abs=1.0)
    assert e.total("memory") + e.total("reserved") == pytest.approx(e.peak_reserved_bytes, abs=1.0)
    assert e.total("time") == pytest.approx(e.step_time_s, rel=1e-9)
    assert e.total("flops") == pytest.approx(e.flops_per_step, rel=1e-9)
    assert e.total("parameters") == e.parameters
    assert e.total("cost") == pytest.approx(e.cost_usd)
    assert e.total("energy") == pytest.approx(e.energy_kwh)
    assert all(math.isfinite(t.value) and t.formula and t.source for t in e.terms)
    assert all(t.value >= 0 for t in e.terms), [t.name for t in e.terms if t.value < 0]
    assert max(p.allocated for p in e.memory_curve) == e.peak_memory_bytes
    assert all(value >= 0 for p in e.memory_curve for value in p.parts.values())
    low, high = e.step_time_interval_s or (0.0, 0.0)
    assert low < (e.step_time_s or 0.0) < high
    document = json.loads(json.dumps(e.model_dump(mode="json"), allow_nan=False))
    assert set(document) == KEYS


@settings(max_examples=60)
@given(RUNS)
def test_a_longer_batch_takes_more_of_everything(parts: dict[str, Any]) -> None:
    run = drawn(parts)
    small, large = plan(**run), plan(**{**run, "batch": {**run["batch"], "micro": run["batch"]["micro"] + 4}})
    assert large.flops_per_step > small.flops_per_step
    assert large.peak_memory_bytes >= small.peak_memory_bytes
    assert (large.step_time_s or 0) > 0.95 * (small.step_time_s or 0)  # tiles may quantise a little


@pytest.mark.parametrize("changes", [{}, {"activation_checkpointing": "full"}, {"method": {"name": "lora", "rank": 4}}])
def test_equal_blocks_are_walked_once_and_scale_exactly(changes: dict[str, Any]) -> None:
    """Three depths lie on one line: memory after backward, FLOPs and time per block are constant."""
    depths = [plan(**{"model": {**TINY, "num_hidden_layers": n}, **changes}) for n in (6, 12, 24)]
    for figure in ("flops_per_step", "parameters"):
        a, b, c = (getattr(e, figure) for e in depths)
        assert (c - b) == pytest.approx(2 * (b - a), rel=1e-9)
    lengths = {len(e.memory_curve) for e in depths}
    assert len(lengths) == 1


def test_checkpointing_lowers_memory_and_costs_time() -> None:
    none, full = plan(batch={"micro": 8, "seq_len": 2048}), plan(
        batch={"micro": 8, "seq_len": 2048}, activation_checkpointing="full"
    )  # fmt: skip
    assert full.peak_memory_bytes < none.peak_memory_bytes
    assert (full.step_time_s or 0) > (none.step_time_s or 0)
    assert full.total("flops/recompute") > 0


def test_selective_checkpointing_drops_the_scores() -> None:
    options = {"attention": "eager", "precision": "bf16", "batch": {"micro": 4, "seq_len": 1024}}
    none, selective = plan(**options), plan(**options, activation_checkpointing="selective")
    assert selective.peak_memory_bytes < none.peak_memory_bytes
    assert selective.flops_per_step > none.flops_per_step


def test_sharding_divides_states() -> None:
    hardware = {"gpu": "H100 SXM 80GB", "gpus": 8}
    model = "meta-llama/Llama-3.2-1B"
    by = {
        kind: plan(model=model, hardware=hardware, parallel={"sharding": kind}, precision="bf16-mixed").total("memory/optimizer/exp_avg")
        for kind in ("ddp", "zero1", "zero2", "zero3")
    }
    assert by["zero1"] == pytest.approx(by["ddp"] / 8, rel=0.01)
    assert by["zero3"] == pytest.approx(by["zero1"], rel=0.3)


def test_full_fine_tuning_holds_sixteen_bytes_a_parameter() -> None:
    """AdamW in fp32: weight, gradient and two moments, 4 bytes each (Rajbhandari et al. 2020, sec. 3.1)."""
    e = plan(precision="fp32", optimizer="adamw-fused")
    states = e.total("memory/weights") + e.total("memory/optimizer")
    assert states == pytest.approx(12 * e.parameters, rel=0.01)


def test_frozen_layers_have_no_backward() -> None:
    full, half = plan(), plan(method={"name": "freeze", "first": 2})
    assert half.total("flops/forward") == pytest.approx(full.total("flops/forward"))
    assert half.total("flops/backward") < 0.8 * full.total("flops/backward")


def test_lora_saves_about_a_third_of_the_flops_not_more() -> None:
    model = "meta-llama/Llama-3.1-8B"
    full = plan(model=model, batch={"micro": 1, "seq_len": 1024})
    lora = plan(model=model, batch={"micro": 1, "seq_len": 1024}, method={"name": "lora", "rank": 16, "targets": "all-linear"})
    assert 0.25 < 1 - lora.flops_per_step / full.flops_per_step < 0.36


BAD: list[tuple[dict[str, Any], str]] = [
    ({"model": "no-such-model"}, "model"),
    ({"hardware": {"gpu": "H900"}}, "hardware.gpu"),
    ({"hardware": {"gpu": "T4"}, "precision": "bf16"}, "precision.compute"),
    ({"hardware": {"gpus": 8}, "parallel": {"tp": 3}}, "parallel.tp"),
    ({"hardware": {"gpus": 8}, "parallel": {"ep": 2}}, "parallel.ep"),
    ({"hardware": {"gpus": 0}}, "hardware.gpus"),
    ({"hardware": {"gpus": -1}}, "hardware.gpus"),
    ({"hardware": {"gpus": 10**30}}, "hardware.gpus"),
    ({"hardware": {"network_gbps": float("nan")}}, "hardware.network_gbps"),
    ({"batch": {"micro": 0}}, "batch.micro"),
    ({"batch": {"micro": 1.5}}, "batch.micro"),
    ({"batch": {"seq_len": 10**30}}, "batch.seq_len"),
    ({"data": "many"}, "data.tokens"),
    ({"data": {"tokens": "-5B"}}, "data.tokens"),
    ({"data": {"tokens": "1B", "samples": 5}}, "data"),
    ({"optimizer": "adamz"}, "optimizer"),
    ({"stack": "homemade"}, "stack"),
    ({"method": {"name": "lora", "rank": 0}}, "method.rank"),
    ({"method": {"name": "lora", "targets": ["nothing"]}}, "method.targets"),
    ({"method": {"name": "lora", "targets": "(("}}, "method.targets"),
    ({"method": {"name": "full", "rank": 8}}, "method.rank"),
    ({"method": {"name": "freeze"}}, "method"),
    ({"method": {"name": "freeze", "last": 99}}, "method.last"),
    ({"precision": "fp7"}, "precision"),
    ({"prescription": "bf16"}, "prescription"),
    ({"model": {"model_type": "llama"}}, "model.hidden_size"),
    ({"model": {**TINY, "hidden_size": "wide"}}, "model.hidden_size"),
    ({"model": {**TINY, "hidden_size": 10**30}}, "model.hidden_size"),
    ({"model": {**TINY, "num_attention_heads": 0}}, "model.num_attention_heads"),
    ({"model": {**TINY, "num_key_value_heads": 3}}, "model.num_key_value_heads"),
    ({"model": {**TINY, "attention_dropout": float("nan")}}, "model"),
    ({"price": {"usd_per_gpu_hour": -1}}, "price.usd_per_gpu_hour"),
    ({"energy": {"country": "Atlantis"}}, "energy.country"),
    ({"hardware": {"gpus": 1}, "parallel": {"sharding": "zero3"}}, "parallel.sharding"),
    ({"hardware": {"gpus": 12, "gpus_per_node": 8}}, "hardware.gpus"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "field"), BAD, ids=[f"{i}-{f}" for i, (_, f) in enumerate(BAD)])
def test_bad_input_names_field_value_and_fix(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(PlanError) as caught:
        plan(**changes)
    error = caught.value
    assert error.field == field or error.field.startswith(field) or field.startswith(error.field)
    assert error.fix
    assert "\n" not in str(error)
    assert len(str(error)) < 600
