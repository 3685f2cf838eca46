"""Every combination of what divides a run is planned, or refused by one line that names a field of the division."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.errors import PlanError
from planner.estimate import Estimate
from planner.estimate.engine import estimate
from planner.run import parse_run
from tests.oracles.multimodal_cases import CONFIGS as PICTURES
from tests.oracles.statespace_cases import CONFIGS as HYBRIDS

DENSE = {"model_type": "llama", "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 16, "num_attention_heads": 16,
         "num_key_value_heads": 4, "vocab_size": 32000}  # fmt: skip
MIXTURE = {**DENSE, "model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
MODELS: dict[str, dict[str, Any]] = {
    "dense": DENSE, "mixture": MIXTURE, "mamba2": {**HYBRIDS["mamba2"], "num_hidden_layers": 8}, "hybrid": HYBRIDS["qwen3_next"], "vision": PICTURES["llava"],
}  # fmt: skip
REFUSED_BY = ("parallel.", "batch.", "attention", "offload", "activation_checkpointing", "method.targets")


@st.composite
def divisions(draw: st.DrawFn) -> dict[str, Any]:
    def among(*values: Any) -> Any:
        return draw(st.sampled_from(values))

    parallel = {
        "tp": among(1, 2, 4), "pp": among(1, 2, 4), "cp": among(1, 2), "ep": among(1, 1, 2, 4), "virtual_pp": among(1, 1, 2),
        "sharding": among(None, "ddp", "zero1", "zero2", "zero3", "hsdp"), "sequence_parallel": among(False, True),
        "schedule": among(None, None, "gpipe", "1f1b", "interleaved", "zero-bubble", "zbv", "dualpipev"),
        "cp_kind": among(None, None, "ring", "all-gather", "ulysses"), "expert_capacity": among(None, None, 1.25),
        "expert_imbalance": among(1.0, 1.0, 1.5),
    }  # fmt: skip
    model = among(*MODELS)
    if among(True, True, True, False):  # most often without what means nothing beside the rest
        idle = {"cp_kind": parallel["cp"] == 1, "sequence_parallel": parallel["tp"] == 1 or model == "vision"}
        idle |= dict.fromkeys(("ep", "expert_capacity"), model not in ("mixture", "hybrid"))
        idle["expert_imbalance"] = idle["ep"] or parallel["ep"] == 1
        idle |= dict.fromkeys(("schedule", "virtual_pp"), parallel["pp"] == 1)
        idle["virtual_pp"] |= parallel["schedule"] in ("1f1b", "zbv", "dualpipev")
        idle["cp"] = model in ("mamba2", "hybrid", "vision")
        idle["cp_kind"] |= idle["cp"]
        parallel = {key: value for key, value in parallel.items() if not idle.get(key)}
    return {
        "model": MODELS[model],
        "stack": among("hf", "torchtitan", "megatron", "nemo", "deepspeed", "nanotron"),
        "precision": among("bf16", "bf16-mixed"),
        "attention": among("flash", "sdpa"),
        "activation_checkpointing": among("none", "full", "selective"),
        "offload": among("none", "none", "optimizer"),
        "method": "full" if model == "mamba2" else among("full", "full", {"name": "lora", "targets": "all-linear"}),
        "hardware": {"gpu": "H100 SXM 80GB", "gpus": among(8, 16, 64)},
        "batch": {"micro": among(1, 2), "accumulation": among(1, 4, 8, 12), "seq_len": 2048},
        "parallel": {key: value for key, value in parallel.items() if value is not None},
    }


def answer(mapping: dict[str, Any]) -> Estimate | PlanError:
    try:
        return estimate(parse_run(mapping))
    except PlanError as error:
        return error


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(divisions())
def test_a_combination_is_planned_or_refused_by_its_field(mapping: dict[str, Any]) -> None:
    e = answer(mapping)
    if isinstance(e, PlanError):
        assert e.field.startswith(REFUSED_BY), str(e)
        return
    p = e.run.parallel
    assert e.step_time_s is not None and math.isfinite(e.step_time_s) and e.step_time_s > 0
    for prefix, whole in (("time/", e.step_time_s), ("memory/", e.peak_memory_bytes)):
        assert sum(t.value for t in e.terms if t.name.startswith(prefix)) == pytest.approx(whole)
    assert all(t.value >= 0 or t.name == "time/overhead/bubble" for t in e.terms), [t for t in e.terms if t.value < 0]
    alone = estimate(parse_run({**mapping, "hardware": {"gpu": "H100 SXM 80GB"}, "parallel": {}, "offload": "none"}))
    assert e.parameters == alone.parameters
    assert e.flops_per_step / e.run.dp == pytest.approx(alone.flops_per_step, rel=1e-6)
    if p.pp > 1:
        line, views = e.details["timeline"], e.details["stages"]
        assert len(line.busy) == p.pp and sum(len(view.indices) for view in views) == p.pp
        assert line.total >= max(line.busy) * (1 - 1e-9)
