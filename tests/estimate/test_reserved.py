"""What the allocator holds beyond live tensors, and what a quantized base keeps in fp32."""

from __future__ import annotations

import pytest

from planner import estimate
from planner.errors import PlanError
from planner.estimate.constants import by_stack
from planner.estimate.result import Estimate
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


@pytest.mark.parametrize("stack", ["hf", "torchtitan", "torchtitan-2024", "megatron"])
def test_slack_differs_between_stacks(stack: str) -> None:
    e = estimate(parse_run({**BASE, "method": "full", "stack": stack, "activation_checkpointing": "none"}))
    slack = by_stack("reserved_slack", stack)
    assert e.peak_reserved_bytes / e.peak_memory_bytes - 1 == pytest.approx(slack, abs=0.002)
    assert slack < by_stack("reserved_slack", "torchtitan-2024") or stack == "torchtitan-2024"  # before segments expanded
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


SHARDED = {"hardware": {"gpu": "A100 SXM4 80GB", "gpus": 8}, "parallel": {"sharding": "zero3"}, "attention": "flash"}


def communication(e: Estimate) -> float:
    """Largest bytes of gathered weights over the step."""
    return max(point.parts.get("communication", 0.0) for point in e.memory_curve)


def test_packed_weights_are_gathered_packed() -> None:
    """GPTQ's blocks travel as they are stored, a quarter of what a bf16 base gathers; embeddings and head weigh the same in both."""
    packed = estimate(parse_run({**BASE, **SHARDED, "precision": {"weights": "int4", "compute": "bf16", "autocast": True}}))
    plain = estimate(parse_run({**BASE, **SHARDED, "method": "lora"}))
    model = plain.details["model"]
    root = 2 * 2 * model["vocab"] * model["hidden"]
    blocks = [communication(e) - root for e in (packed, plain)]
    assert blocks[0] / blocks[1] == pytest.approx(0.52 / 2, rel=0.1)


def test_the_last_block_is_gathered_while_the_head_goes_backward() -> None:
    e = estimate(parse_run({**BASE, **SHARDED, "method": "lora"}))
    model = e.details["model"]
    root = 2 * 2 * model["vocab"] * model["hidden"]
    loss = next(point for point in e.memory_curve if point.phase == "backward" and "softmax" in point.moment)
    block = 2 * (e.parameters - 2 * model["vocab"] * model["hidden"]) / model["layers"]
    assert loss.parts["communication"] - root == pytest.approx(block, rel=0.05)


def test_code_of_transformers_4_copies_the_logits_of_gpt_bigcode() -> None:
    plan = {"model": "bigcode/gpt_bigcode-santacoder", "method": "lora", "hardware": {"gpu": "A100 SXM4 80GB"}, "batch": {"micro": 8, "seq_len": 2048}}
    plan |= {"activation_checkpointing": "full", "precision": {"weights": "bf16", "compute": "bf16"}}
    old, new = (estimate(parse_run({**plan, "stack": stack})) for stack in ("hf-4", "hf"))
    logits = 8 * 2048 * old.details["model"]["vocab"] * 2.0
    peaks = [max(point.parts.get("logits", 0.0) for point in e.memory_curve) for e in (old, new)]
    assert peaks[0] == pytest.approx(4 * logits, rel=0.02)  # logits, their copy, and the loss's two in their own type
    assert peaks[1] > 5 * logits  # in fp32


def test_accelerate_stores_fully_sharded_weights_in_fp32_under_mixed_precision() -> None:
    """20 bytes a parameter over all ranks at the optimizer step: weights, gradients and AdamW's states with its scratch, all in fp32."""
    run = {
        "model": "meta-llama/Llama-3.1-8B", "stack": "hf", "activation_checkpointing": "full", "parallel": {"sharding": "zero3"},
        "hardware": {"gpu": "A100 SXM4 80GB", "gpus": 2}, "batch": {"micro": 1, "seq_len": 512},
    }  # fmt: skip
    mixed, pure = (
        estimate(parse_run({**run, "precision": {"weights": "bf16", "compute": "bf16", "autocast": cast}})) for cast in (True, False)
    )
    assert mixed.peak_memory_bytes == pytest.approx(20 * mixed.parameters / 2, rel=0.01)
    assert pure.peak_memory_bytes == pytest.approx(10 * pure.parameters / 2, rel=0.01)
    assert any("fp32" in note for note in mixed.assumptions)


def test_accelerate_adds_up_whole_gradients_before_it_divides_them() -> None:
    """FSDP under `no_sync`: the compute type's gradients of the whole model on every rank, until the last micro step; no more of them at the optimizer's."""
    run = {
        "model": "meta-llama/Llama-3.1-8B", "stack": "hf", "activation_checkpointing": "full", "parallel": {"sharding": "zero3"}, "precision": "bf16",
        "hardware": {"gpu": "A100 SXM4 80GB", "gpus": 8}, "batch": {"micro": 1, "seq_len": 512},
    }  # fmt: skip
    one, four = (estimate(parse_run({**run, "batch": {"micro": 1, "accumulation": n, "seq_len": 512}})) for n in (1, 4))
    gradients = [sum(t.value for t in e.terms if t.name.startswith("memory/gradients")) for e in (one, four)]
    assert gradients[1] == pytest.approx(2 * four.parameters, rel=0.08)  # and that of the head, which passes
    assert gradients[0] < 0.3 * gradients[1]
    ends = [max(point.allocated for point in e.memory_curve if point.phase == "optimizer") for e in (one, four)]
    assert ends[1] == pytest.approx(ends[0], rel=0.01)
