"""Host memory: what leaves the accelerator equals what arrives at the host, and time is that of links and processor."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import PlanError
from planner.estimate.constants import constant
from planner.estimate.engine import estimate
from planner.run import parse_run

BASE: dict[str, Any] = {
    "model": {"base": "meta-llama/Llama-3.1-8B", "num_hidden_layers": 8, "vocab_size": 1024},
    "batch": {"micro": 2, "seq_len": 2048},
    "hardware": {"gpu": "H100 SXM 80GB"},
    "precision": "bf16-mixed",
    "stack": "torchtune",
}


def plan(**changes: Any) -> Any:
    return estimate(parse_run({**BASE, **changes}))


def total(e: Any, prefix: str) -> float:
    return sum(t.value for t in e.terms if t.name.startswith(prefix))


def test_optimizer_states_move_to_the_host() -> None:
    here, away = plan(), plan(offload="optimizer")
    assert total(away, "memory/optimizer") == 0
    assert total(away, "host/optimizer") == pytest.approx(total(here, "memory/optimizer"), rel=1e-6)
    assert away.details["host_memory_bytes"] == total(away, "host/")
    assert away.peak_memory_bytes < here.peak_memory_bytes - 0.9 * total(here, "memory/optimizer")


def test_the_host_update_streams_28_bytes_a_parameter() -> None:
    e = plan(offload="optimizer", hardware={"gpu": "H100 SXM 80GB", "host_memory_gb_per_s": 300})
    expected = 28 * e.trainable_parameters / (300e9 * constant("host_memory_efficiency"))
    assert total(e, "time/optimizer/host_update") == pytest.approx(expected)


def test_offloaded_weights_leave_one_gathered_block() -> None:
    here, away = plan(offload="optimizer"), plan(offload="optimizer+params")
    assert total(away, "memory/weights") == 0
    assert total(away, "host/weights") > 0
    assert away.peak_memory_bytes < here.peak_memory_bytes
    short = {"micro": 1, "seq_len": 64}  # too little compute to hide the weights behind
    assert plan(offload="optimizer+params", batch=short).step_time_s > plan(batch=short).step_time_s


def test_offloaded_activations_are_those_of_the_other_blocks() -> None:
    lora = {"method": {"name": "lora", "rank": 8}}
    here, away = plan(**lora), plan(offload="activations", **lora)
    assert away.peak_memory_bytes < here.peak_memory_bytes
    # each saving is a copy of its own, also of a storage that several operations save
    saved = here.peak_memory_bytes - away.peak_memory_bytes
    assert saved < total(away, "host/activations") < 1.5 * saved
    full = plan(offload="activations", activation_checkpointing="full", **lora)
    assert total(full, "host/activations") < 0.1 * total(away, "host/activations")


@pytest.mark.parametrize("checkpointing", ["none", "full"])
def test_copies_that_autocast_holds_stay_on_the_device(checkpointing: str) -> None:
    sharded = {"hardware": {"gpu": "H100 SXM 80GB", "gpus": 8}, "parallel": {"sharding": "zero1"}, "activation_checkpointing": checkpointing}
    here, away = plan(**sharded), plan(offload="activations", **sharded)
    assert all(point.parts.get("activations", 0.0) >= 0.0 for point in away.memory_curve)
    held = 2 * away.parameters * 0.9  # bf16 copies of the weights, until the forward is over
    assert held < max(point.parts["activations"] for point in away.memory_curve if point.phase == "forward")
    ends = [e.memory_curve[len(e.memory_curve) - 1].parts.get("activations", 0.0) for e in (here, away)]
    assert ends[0] == ends[1]


def test_transfers_hide_behind_compute_on_a_fast_link() -> None:
    """PCIe 5.0 carries 63 GB/s a direction, a Grace processor's NVLink-C2C 450."""
    pcie = plan(offload="optimizer+params", batch={"micro": 1, "seq_len": 128})
    grace = plan(offload="optimizer+params", batch={"micro": 1, "seq_len": 128}, hardware={"gpu": "GH200 96GB"})
    assert total(grace, "time/communication/host_link") < 0.3 * total(pcie, "time/communication/host_link")


def test_paged_states_cost_transfers_only_when_the_device_is_full() -> None:
    small = plan(optimizer="paged-adamw")
    assert total(small, "memory/optimizer") < 1e6
    assert total(small, "host/paged") == pytest.approx(8 * small.trainable_parameters, rel=0.001)
    assert total(small, "time/communication/host_link") == 0
    model = {"base": "meta-llama/Llama-3.1-8B", "num_hidden_layers": 16}
    full = plan(optimizer="paged-adamw", model=model, batch={"micro": 4, "seq_len": 4096})
    assert total(full, "time/communication/host_link") > 0


def test_too_little_host_memory_is_said() -> None:
    e = plan(offload="optimizer", hardware={"gpu": "H100 SXM 80GB", "host_memory_gib": 8})
    assert any("Host memory" in line for line in e.warnings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offload": "optimizer", "optimizer": "muon"}, "'muon' does not run on the host"),
        ({"offload": "params", "stack": "megatron"}, "not offered by Megatron-Core"),
        ({"offload": "params", "hardware": {"gpu": "TPU v5p"}}, "needs a known link|unknown|not a known"),
    ],
)
def test_impossible_offloads_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan(**changes)
