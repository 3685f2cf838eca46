"""What the allocator holds beyond live tensors, and what a quantized base keeps in fp32."""

from __future__ import annotations

import pytest

from planner import estimate
from planner.errors import PlanError
from planner.run import parse_run

BASE = {
    "model": "Qwen/Qwen2.5-7B",
    "method": "qlora",
    "hardware": {"gpu": "A100 SXM4 80GB"},
    "batch": {"micro": 1, "seq_len": 2048},
    "activation_checkpointing": "full",
}



def test_prepared_base_keeps_embeddings_head_and_stream_in_fp32() -> None:
    plain = estimate(parse_run(BASE | {"precision": {"weights": "nf4", "compute": "bf16", "autocast": True}}))
    wide = estimate(parse_run(BASE | {"precision": {"weights": "nf4", "compute": "bf16", "autocast": True, "unquantized": "fp32"}}))
    arch = plain.details["model"]
    tables = 2 * arch["vocab"] * arch["hidden"] * 2  # embedding and head, two more bytes each
    weights = [sum(t.value for t in e.terms if t.name.startswith("memory/weights")) for e in (plain, wide)]
    assert weights[1] - weights[0] == pytest.approx(tables, rel=0.01)
    checkpoints = arch["layers"] * 2048 * arch["hidden"] * 2
    assert wide.peak_memory_bytes - plain.peak_memory_bytes > tables + 0.9 * checkpoints


def test_unquantized_means_nothing_without_a_quantized_base() -> None:
    with pytest.raises(PlanError, match="unquantized"):
        estimate(parse_run({**BASE, "method": "lora", "precision": {"weights": "bf16", "compute": "bf16", "unquantized": "fp32"}}))


@pytest.mark.parametrize(("stack", "slack"), [("hf", 0.05), ("torchtitan", 0.15), ("megatron", 0.09)])
def test_slack_differs_between_stacks(stack: str, slack: float) -> None:
    e = estimate(parse_run({**BASE, "method": "full", "stack": stack, "activation_checkpointing": "none"}))
    assert e.peak_reserved_bytes / e.peak_memory_bytes - 1 == pytest.approx(slack, abs=0.002)
    term = next(t for t in e.terms if t.name == "reserved/allocator")
    assert term.value == pytest.approx(e.peak_reserved_bytes - e.peak_memory_bytes)


def test_lengths_fragment_the_allocator_but_do_not_decide_the_verdict() -> None:
    data = {"samples": 10_000, "mean_tokens": 400, "std_tokens": 300, "packing": "padded"}
    padded, packed = (estimate(parse_run({**BASE, "data": d})) for d in (data, {"tokens": 10**6}))
    held = padded.details["fragmented_bytes"]
    assert held["kept"] > held["cleared"] > padded.peak_memory_bytes
    assert any("gives them back" in line for line in padded.assumptions)
    assert not any("gives them back" in line for line in packed.assumptions)
    assert padded.peak_reserved_bytes < held["kept"]


def test_sharded_frozen_weights_stay_gathered_under_litgpt() -> None:
    sharded = {"hardware": {"gpu": "A100 SXM4 80GB", "gpus": 2}, "parallel": {"sharding": "zero3"}, "method": "lora"}
    kept, freed = (estimate(parse_run({**BASE, **sharded, "stack": stack})) for stack in ("litgpt", "torchtune"))
    whole = 2 * kept.parameters
    gathered = [sum(t.value for t in e.terms if t.name.startswith("memory/communication")) for e in (kept, freed)]
    assert gathered[0] - gathered[1] > 0.9 * whole
