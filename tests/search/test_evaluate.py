"""Figures of many configurations are those of `estimate`, one by one."""

from __future__ import annotations

import math
from typing import Any

import pytest

from planner.estimate.engine import estimate
from planner.search.figures import figures_of
from planner.search.space import CHECKPOINTING, OFFLOADS
from tests.search.spaces import MIXTURE, TINY, sampled, space_of

GPU = ("H100 SXM 80GB",)
SPACES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "torchtitan, all degrees": (
        {"model": TINY, "stack": "torchtitan", "precision": "bf16-mixed", "batch": {"seq_len": 4096}, "data": "100M"},
        {"gpus": GPU, "counts": (8, 16, 32), "micro": (2,), "tp": (1, 2), "pp": (1, 2), "checkpointing": ("none", "full"), "accumulation": (1, 4, 16)},
    ),
    "megatron, stages and chunks": (
        {"model": TINY, "stack": "megatron", "precision": "bf16", "batch": {"micro": 1, "accumulation": 8}, "data": "100M"},
        {"gpus": GPU, "counts": (8, 24, 64), "micro": (1,), "tp": (1, 8), "pp": (2, 4), "checkpointing": ("selective",), "offload": ("none", "activations")},
    ),
    "deepspeed, offload": (
        {"model": TINY, "stack": "deepspeed", "precision": "bf16-mixed", "data": "100M"},
        {"gpus": ("A100 SXM4 80GB",), "counts": (1, 2, 8), "micro": (4,), "tp": (1,), "pp": (1, 2), "checkpointing": CHECKPOINTING, "offload": OFFLOADS},
    ),
    "two devices, no data": (
        {"model": TINY, "stack": "torchtitan", "precision": "bf16-mixed"},
        {"gpus": ("RTX 4090", "L40S"), "counts": (1, 2, 3, 4), "micro": (1,), "pp": (1, 2), "offload": ("none", "params")},
    ),
    "the whole run, own hardware": (
        {"model": TINY, "stack": "torchtitan", "precision": "bf16-mixed", "batch": {"seq_len": 4096}, "data": "3T",
         "price": {"own": {"purchase_usd": 30000}, "storage_tb": 3, "usd_per_tb_month": 20, "egress_tb": 1, "usd_per_tb_egress": 90},
         "whole_run": {"startup_s": 300, "eval_every": 500, "eval_tokens": 1000000, "loader_tokens_per_s": 1e6, "checkpoint_mode": "async"}},
        {"gpus": GPU, "counts": (8, 16, 32), "micro": (2,), "tp": (1, 2), "pp": (1, 2), "checkpointing": ("none", "full"), "accumulation": (1, 4, 16)},
    ),
    "spot that is taken back": (
        {"model": TINY, "stack": "torchtitan", "precision": "bf16-mixed", "batch": {"seq_len": 4096}, "data": "300B",
         "price": {"usd_per_gpu_hour": 1, "spot": True}, "whole_run": {"interruptions_per_machine_day": 0.2, "checkpoint_every": 50}},
        {"gpus": GPU, "counts": (4, 8, 64), "micro": (2,), "tp": (1, 2), "pp": (1, 2), "checkpointing": ("full",), "accumulation": (1, 4)},
    ),
    "mixture of experts": (
        {"model": MIXTURE, "stack": "megatron", "precision": "bf16", "batch": {"seq_len": 2048, "accumulation": 8}, "data": "100M"},
        {"gpus": GPU, "counts": (8, 16), "micro": (1,), "tp": (1, 2), "pp": (1, 2), "checkpointing": ("full",), "offload": ("none", "optimizer")},
    ),
    "qlora, paged states": (
        {"model": TINY, "method": "qlora", "optimizer": "paged-adamw8bit", "data": {"samples": 2000, "mean_tokens": 700}},
        {"gpus": ("RTX 4090",), "counts": (1, 2, 4), "micro": (1, 8), "tp": (1,), "offload": ("none",)},
    ),
    "paged states that do not fit": (
        {"model": TINY, "optimizer": "paged-adamw", "precision": "bf16-mixed", "data": "10M"},
        {"gpus": ("RTX 4090",), "counts": (1, 2, 4), "micro": (1, 8), "tp": (1, 2), "offload": ("none",)},
    ),
    "sorted samples": (
        {"model": TINY, "stack": "torchtitan", "precision": "bf16", "data": {"samples": 2000, "mean_tokens": 400, "std_tokens": 300, "packing": "bucketed"}},
        {"gpus": GPU, "counts": (1, 2, 8), "micro": (1, 4), "tp": (1, 2), "pp": (1, 2), "offload": ("none", "activations")},
    ),
    "whole samples": (
        {"model": TINY, "precision": "bf16", "data": {"samples": 2000, "mean_tokens": 400, "std_tokens": 300, "packing": "best-fit"}},
        {"gpus": GPU, "counts": (1, 2, 8), "micro": (1, 4), "tp": (1, 2), "offload": ("none",)},
    ),
    "padded samples": (
        {"model": TINY, "precision": "bf16", "data": {"samples": 2000, "mean_tokens": 400, "std_tokens": 300, "packing": "padded"}},
        {"gpus": GPU, "counts": (1, 2), "micro": (1, 4), "tp": (1,), "pp": (1,), "accumulation": (1, 2), "offload": ("none",), "checkpointing": ("none",)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPACES)
def test_figures_are_those_of_single_estimates(name: str) -> None:
    run, fields = SPACES[name]
    space = space_of(run, **fields)
    chosen, evaluator = sampled(space, 60)
    assert len(chosen) >= 8
    for figures, i, j in chosen:
        cell = figures.cell
        one = estimate(space.run_of(cell.choice, cell.sites[i].count, int(cell.steps[j])))
        for key, value in figures_of(one).items():
            got = getattr(figures, key)[i, j]
            where = (name, key, cell.choice, cell.sites[i].count, int(cell.steps[j]))
            assert math.isnan(got) if value is None else got == pytest.approx(value, rel=1e-9), where
        assert figures.fits[i, j] == {None: 0, True: 1, False: -1}[one.fits]
    assert (evaluator.slow > 0) == (name == "padded samples")
