"""Pruned sizes equal a config that has them; 2:4 weights take 9/16 of the bytes and run faster where the hardware can."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import PlanError
from planner.estimate.engine import estimate
from planner.run import parse_run

MODEL = {"base": "meta-llama/Llama-3.1-8B", "num_hidden_layers": 2, "vocab_size": 1024}
BASE: dict[str, Any] = {
    "model": MODEL, "batch": {"micro": 4, "seq_len": 2048}, "hardware": {"gpu": "H100 SXM 80GB"}, "precision": "bf16",
}  # fmt: skip


def plan(**changes: Any) -> Any:
    return estimate(parse_run({**BASE, **changes}))


def test_pruning_is_a_smaller_architecture() -> None:
    small = {**MODEL, "num_attention_heads": 24, "num_key_value_heads": 6, "head_dim": 128, "intermediate_size": 10752}
    pruned, built = plan(compression={"pruned": 0.25}), plan(model=small)
    for name in ("parameters", "flops_per_step", "step_time_s", "peak_memory_bytes"):
        assert getattr(pruned, name) == getattr(built, name)
    heads = plan(compression={"heads": 0.5})
    assert plan().parameters - heads.parameters == 2 * (2 * 4096 * 16 * 128 + 2 * 4096 * 4 * 128)


def test_frozen_sparse_weights_take_nine_sixteenths() -> None:
    lora = {"method": {"name": "lora", "rank": 8}}
    sparse, dense = plan(compression={"sparsity": "2:4"}, **lora), plan(**lora)
    blocks = [next(t.value for t in e.terms if t.name == "memory/weights/blocks") for e in (sparse, dense)]
    assert blocks[0] / blocks[1] == pytest.approx(9 / 16, rel=1e-3)
    assert sparse.flops_per_step == dense.flops_per_step
    assert sparse.parameters == dense.parameters


def test_sparse_products_are_faster_but_the_weight_gradient() -> None:
    sparse, dense = plan(compression={"sparsity": "2:4"}), plan()
    products = [
        sum(t.value for t in e.terms if t.name in ("time/forward/matmul", "time/backward/matmul"))
        for e in (sparse, dense)
    ]
    assert 0.7 < products[0] / products[1] < 0.85  # two of three products at 1.6 times the rate: 0.75


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"compression": {"sparsity": "2:4"}, "hardware": {"gpu": "V100 SXM2 32GB"}, "precision": "fp16"},
            "sparse tensor cores",
        ),
        ({"compression": {"sparsity": "2:4"}, "precision": "fp8"}, "planned for 16-bit products"),
        ({"compression": {"sparsity": "2:4"}, "method": {"name": "freeze", "last": 1}}, "not planned with freeze"),
        ({"compression": {"heads": 0.01}}, "leaves 8 of 8 groups"),
        ({"compression": {"pruned": 0.5}, "model": "mistralai/Mixtral-8x7B-v0.1"}, "planned for plain transformers"),
        ({"compression": {"pruned": 1}}, "compression.pruned"),
    ],
)
def test_impossible_compression_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan(**changes)
