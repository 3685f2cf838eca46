"""Quantized bases: what their tensors take, and what the libraries' autograd keeps (peaks of whole steps: test_recorded.py)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from planner.errors import PlanError
from planner.estimate.engine import estimate
from planner.run import parse_run
from planner.workload.quantized import pieces
from tests.oracles import quantized
from tests.oracles.cases import CONFIGS

BASE: dict[str, Any] = {"model": CONFIGS["llama-deep"], "hardware": {"gpu": "H100 SXM 80GB"}, "batch": {"micro": 4, "seq_len": 256}}


def plan(weights: str, **changes: Any) -> Any:
    return estimate(parse_run({**BASE, "method": "lora", "precision": {"weights": weights, "compute": "bf16"}, **changes}))


@pytest.mark.parametrize("base", quantized.LAYERS)
@settings(max_examples=10)
@given(groups=st.integers(1, 9), eights=st.integers(1, 60))
def test_bytes_of_a_weight_are_those_of_the_librarys_tensors(base: str, groups: int, eights: int) -> None:
    with torch.device("meta"):
        layer = quantized.LAYERS[base](nn.Linear(128 * groups, 8 * eights, bias=False), torch.bfloat16)
    stored = sorted(b.numel() * b.element_size() for b in layer.buffers())
    assert sorted(pieces(base, 128 * groups * 8 * eights, 128 * groups)) == stored


def test_bits_per_weight_are_those_of_the_papers() -> None:
    """QLoRA, sec. 3: 0.5 bits a weight for scales, 0.127 with double quantization."""
    numel = 4096 * 4096
    assert 8 * sum(pieces("nf4", numel, 4096)) / numel == pytest.approx(4.5, rel=1e-3)
    assert 8 * sum(pieces("nf4-dq", numel, 4096)) / numel == pytest.approx(4.127, rel=1e-3)


def test_int8_inputs_outlive_checkpoints() -> None:
    """Node attributes are no saved tensors: non-reentrant checkpoints leave them, reentrant ones build no graph in forward."""
    checkpointed = {"activation_checkpointing": "full"}
    more = plan("int8", **checkpointed).peak_memory_bytes - plan("nf4", **checkpointed).peak_memory_bytes
    assert more > 10 * 4 * 256 * 2 * 3 * 512  # each layer's inputs of query to value, of gate and up, of the output projection
    older = [plan(weights, stack="hf-4", **checkpointed).peak_memory_bytes for weights in ("int8", "nf4")]
    assert older[0] - older[1] < more / 2


def test_gptq_keeps_dequantized_weights_under_gptqmodel() -> None:
    plain, packed, triton = plan("bf16"), plan("int4"), plan("int4", stack="hf-4")
    assert math.isclose(packed.flops_per_step, plain.flops_per_step)
    assert packed.peak_memory_bytes - triton.peak_memory_bytes > 0.5 * plan("bf16").parameters


def test_awq_is_a_base_of_lora_alone() -> None:
    assert plan("awq").trainable_parameters == plan("bf16").trainable_parameters
    with pytest.raises(PlanError, match=r"precision\.weights: 'awq' is no base that adalora works on"):
        plan("awq", method="adalora")
