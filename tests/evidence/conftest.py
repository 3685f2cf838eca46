"""A stand-in engine with known answers, so that scoring is tested apart from the models of time and memory."""

from __future__ import annotations

from typing import Any

import pytest

from planner.estimate.result import Estimate, Term
from planner.evidence.rows import Row
from planner.run import Run
from planner.units import GIB


def make_estimate(run: Run, **changes: Any) -> Estimate:
    """An estimate with 2 s steps, 10 GiB allocated and 12 GiB reserved."""
    tokens = run.batch.micro * run.batch.accumulation * (run.batch.seq_len or 1) * run.dp / 2.0
    terms = (
        Term(name="time/forward/matmul", value=0.5, unit="s", formula="t", inputs={}, source="test"),
        Term(name="time/backward/matmul", value=1.5, unit="s", formula="t", inputs={}, source="test"),
        Term(name="memory/weights/all", value=10.0 * GIB, unit="B", formula="m", inputs={}, source="test"),
        Term(name="reserved/rounding", value=2.0 * GIB, unit="B", formula="m", inputs={}, source="test"),
    )
    figures: dict[str, Any] = {
        "fits": True,
        "fits_reason": "12 of 79 GiB",
        "parameters": 10**9,
        "trainable_parameters": 10**9,
        "flops_per_step": 1e15,
        "step_time_s": 2.0,
        "step_time_interval_s": (1.6, 2.5),
        "tokens_per_s": tokens,
        "tokens_per_s_per_gpu": tokens / run.hardware.gpus,
        "mfu": 0.4,
        "peak_memory_bytes": 10.0 * GIB,
        "peak_reserved_bytes": 12.0 * GIB,
        "peak_memory_interval_bytes": (0.9 * 12.0 * GIB, 1.2 * 12.0 * GIB),
        "usable_memory_bytes": 78.0 * GIB,
        "total_time_s": None,
        "cost_usd": None,
        "energy_kwh": None,
        "co2e_kg": None,
        "basis": "fitted",
        "terms": terms,
        "warnings": (),
        "run": run,
    }
    return Estimate(**(figures | changes))


@pytest.fixture
def llama_row() -> Row:
    """A complete row of a Llama-like model that no catalogue has."""
    return Row(
        id="r1", source_group="s", framework="hf-trainer", task="sft", model="Toy", arch="decoder", layers=4, hidden=512, heads=8, kv_heads=2,
        head_dim=64, ffn=1536, vocab=32000, tied=False, mlp="swiglu", seq_len=1024.0, method="lora", lora_r=8, lora_targets="q_proj v_proj",
        weights_dtype="bf16", compute_dtype="bf16", autocast=False, master_weights=False, optimizer="adamw", gpu="A100 SXM4 80GB", gpus=2,
        gpus_per_node=8, dp=2, tp=1, pp=1, cp=1, sharding="ddp", micro_batch=4, grad_accum=2, global_batch=16, act_ckpt="full",
        attention="flash", tokens_per_s_gpu=2048.0, peak_mem_gib=10.0, mem_kind="allocated", outcome="ok", targets="time memory",
    )  # fmt: skip
