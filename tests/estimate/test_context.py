"""Context parallel of every kind, capacity and imbalance of experts: what is computed stays the same, what is sent is what the papers say."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import PlanError
from planner.estimate import Estimate
from planner.estimate.engine import estimate
from planner.estimate.ranks import setting_of
from planner.estimate.resolve import resolve
from planner.run import parse_run
from planner.workload import trace

BASE: dict[str, Any] = {
    "model": "meta-llama/Llama-3.1-8B", "task": "pretrain", "precision": "bf16", "stack": "megatron", "attention": "flash",
    "hardware": {"gpu": "H100 SXM 80GB", "gpus": 16}, "batch": {"micro": 1, "accumulation": 4, "seq_len": 32768},
}  # fmt: skip
KINDS = ("ring", "all-gather", "ulysses")
LATENT = {
    "model_type": "deepseek_v3", "hidden_size": 1024, "intermediate_size": 2048, "moe_intermediate_size": 512, "num_hidden_layers": 4,
    "first_k_dense_replace": 1, "num_attention_heads": 16, "num_key_value_heads": 16, "n_routed_experts": 16, "num_experts_per_tok": 4,
    "n_shared_experts": 1, "n_group": 4, "topk_group": 2, "q_lora_rank": 256, "kv_lora_rank": 128, "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32, "v_head_dim": 64, "vocab_size": 32000,
}  # fmt: skip
MOE = "mistralai/Mixtral-8x7B-v0.1"


def plan(parallel: dict[str, Any], **changes: Any) -> Estimate:
    return estimate(parse_run({**BASE, **changes, "parallel": {"sharding": "zero1", **parallel}}))


def wires(parallel: dict[str, Any], **changes: Any) -> list[tuple[str, str, float]]:
    """(kind, group, bytes of the whole tensor) of every collective of one block, forward and then backward."""
    r = resolve(parse_run({**BASE, **changes, "parallel": {"sharding": "zero1", **parallel}}))
    workload = trace(setting_of(r, r.run.batch.seq_len or 0), r.head, "none")
    block = next(s for s in workload.stretches if s.name == "block" and s.count > 1)
    kernels = [k for o in block.operations for k in (*o.forward, *o.backward) if k.kind == "collective"]
    return [(k.extra.kind, k.extra.group, k.moved) for k in kernels]


@pytest.mark.parametrize("model", ["meta-llama/Llama-3.1-8B", LATENT], ids=["grouped", "latent"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_rank_computes_its_part_of_the_whole(kind: str, model: Any) -> None:
    """Attention's FLOP of all ranks together are those of the undivided model."""

    def flops(parallel: dict[str, Any]) -> float:
        r = resolve(parse_run({**BASE, "model": model, "parallel": {"sharding": "zero1", **parallel}}))
        stretches = trace(setting_of(r, r.run.batch.seq_len or 0), r.head, "none").stretches
        return sum(k.flops * s.count for s in stretches for o in s.operations if o.kind == "attention" for k in (*o.forward, *o.backward))

    assert 4 * flops({"cp": 4, "cp_kind": kind}) == pytest.approx(flops({}))


def test_what_is_sent_is_what_the_papers_say() -> None:
    """Of a sequence of s tokens, h hidden and d·k of keys: rings and gathers carry keys and values of all, Ulysses 1/cp of everything."""
    s, hidden, keys, cp = 32768, 4096, 1024, 4
    whole = 2 * 2 * s * keys
    for kind in ("ring", "all-gather"):
        assert wires({"cp": cp, "cp_kind": kind}) == [("all_gather", "cp", whole), ("all_gather", "cp", whole), ("reduce_scatter", "cp", whole)]
    sent = [size for kind, group, size in wires({"cp": cp, "cp_kind": "ulysses"}) if (kind, group) == ("all_to_all", "cp")]
    assert len(sent) == 8  # query, key, value and result, forward and backward
    assert sum(sent) == 2 * 2 * (s / cp) * (2 * hidden + 2 * keys)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_divides_activations(kind: str) -> None:
    alone, divided = plan({"tp": 2}), plan({"tp": 2, "cp": 4, "cp_kind": kind})
    kept = [e.total("memory/activations") for e in (alone, divided)]
    assert kept[1] < 0.4 * kept[0]
    assert divided.parameters == alone.parameters


def test_a_ring_hides_what_a_gather_waits_for() -> None:
    ring, gathered = (plan({"cp": 4, "cp_kind": kind}) for kind in ("ring", "all-gather"))
    assert gathered.total("time/communication/context") > 0 == ring.total("time/communication/context")
    assert gathered.step_time_s > ring.step_time_s


def test_stacks_have_a_kind_of_their_own() -> None:
    assert [plan({"cp": 2}, stack=stack).run.parallel.cp_kind for stack in ("megatron", "torchtitan", "deepspeed")] == list(KINDS)


def test_capacity_and_imbalance_cost_the_busiest_rank() -> None:
    base, padded, busy = (plan({"ep": 8, **more}, model=MOE) for more in ({}, {"expert_capacity": 1.25}, {"expert_imbalance": 1.5}))
    assert base.step_time_s < padded.step_time_s < busy.step_time_s
    assert base.peak_memory_bytes < padded.peak_memory_bytes < busy.peak_memory_bytes
    assert padded.flops_per_step == pytest.approx(base.flops_per_step, rel=0.5)
    cut = plan({"ep": 8, "expert_imbalance": 1.5, "expert_capacity": 1.25}, model=MOE)
    assert cut.step_time_s == pytest.approx(padded.step_time_s)
    alone = plan({"expert_capacity": 1.25, "sharding": "zero3"}, model=MOE)
    assert alone.step_time_s > plan({"sharding": "zero3"}, model=MOE).step_time_s


@pytest.mark.parametrize(
    ("parallel", "changes", "field"),
    [
        ({"cp": 16, "cp_kind": "ulysses"}, {}, "parallel.cp"),  # 8 key-value heads
        ({"tp": 4, "cp": 4, "cp_kind": "ulysses"}, {}, "parallel.cp"),  # 2 of them on each tensor-parallel rank
        ({"cp_kind": "ring"}, {}, "parallel.cp_kind"),
        ({"cp": 2}, {"attention": "eager"}, "attention"),
        ({"cp": 2}, {"model": "state-spaces/mamba-2.8b-hf"}, "parallel.cp"),
        ({"expert_capacity": 1.5}, {}, "parallel.expert_capacity"),
        ({"expert_imbalance": 1.5}, {"model": MOE}, "parallel.expert_imbalance"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(parallel: dict[str, Any], changes: dict[str, Any], field: str) -> None:
    with pytest.raises(PlanError) as error:
        plan(parallel, **changes)
    assert error.value.field == field
