"""The oracles themselves: known answers, closed forms, and that what they claim to follow they do follow."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

import torch
from torch.nn import functional

from planner.probe.tracker import rounded
from tests.oracles import cases, flops, memory, parameters, record
from tests.oracles.memory import autocast, fake_cuda
from tests.oracles.models import build, inputs
from tests.oracles.published import PUBLISHED

LLAMA = cases.CONFIGS["llama"]
SIZE: dict[str, Any] = {"batch": 2, "seq": 64}


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("openai-community/gpt2", 124_439_808),
        ("meta-llama/Llama-3.1-8B", 8_030_261_248),
        ("meta-llama/Llama-2-70b-hf", 68_976_648_192),
        ("Qwen/Qwen2.5-7B", 7_615_616_512),
    ],
)
def test_published_parameter_counts(name: str, total: int) -> None:
    """Totals that the model cards (safetensors metadata) state."""
    assert parameters.count(PUBLISHED[name]) == {"total": total, "trainable": total}


def test_lora_parameters_are_two_thin_matrices() -> None:
    rank, hidden, groups = 8, 512, 2 * 64
    added = 4 * rank * ((hidden + hidden) + (hidden + groups))
    count = parameters.count(LLAMA, method=cases.lora("llama"))
    assert count == {"total": parameters.count(LLAMA)["total"] + added, "trainable": added}


def test_a_dense_step_costs_six_flops_per_parameter_and_token() -> None:
    tokens, hidden, layers = 2 * 64, 512, 4
    matrices = parameters.count(LLAMA)["total"] - 8192 * hidden - (2 * layers + 1) * hidden  # no lookup, no norms
    scores = layers * 4 * tokens * 64 * hidden
    truth = flops.measure(LLAMA, **SIZE)
    assert truth["forward"] == 2 * tokens * matrices + scores
    assert truth["backward"] == 2 * truth["forward"]


def test_checkpointing_recomputes_each_layer_but_its_last_product() -> None:
    plain, checkpointed = (flops.measure(LLAMA, checkpointing=on, **SIZE) for on in (False, True))
    tokens = 2 * 64
    head, down = 2 * tokens * 512 * 8192, 2 * tokens * 512 * 1376
    assert checkpointed["forward"] == plain["forward"]
    assert checkpointed["backward"] - plain["backward"] == plain["forward"] - head - 4 * down


@pytest.mark.parametrize(("optimizer", "copies"), [("adamw", 3), ("adamw-fused", 3), ("sgd", 1), ("sgd-momentum", 2)])
def test_static_memory_is_weights_and_states(optimizer: str, copies: int) -> None:
    truth = memory.measure(LLAMA, optimizer=optimizer, **SIZE)
    weights = 4 * parameters.count(LLAMA)["total"]
    assert truth["by_category"]["parameters"] == weights
    assert truth["static_before_step"] == pytest.approx(copies * weights, rel=1e-3)
    assert truth["after_backward"] == pytest.approx((copies + 1) * weights, rel=1e-3)


def test_foreach_adamw_needs_one_more_copy_and_fused_none() -> None:
    foreach, fused = (memory.measure(LLAMA, optimizer=name, **SIZE) for name in ("adamw", "adamw-fused"))
    weights = 4 * parameters.count(LLAMA)["total"]
    assert foreach["peaks"]["optimizer"] - foreach["after_backward"] == pytest.approx(weights, rel=1e-3)
    assert "optimizer" not in fused["peaks"]  # it allocates nothing


def test_the_loss_holds_twelve_bytes_a_logit_at_its_backward() -> None:
    truth = memory.measure(LLAMA, precision="bf16", attention="sdpa", batch=4, seq=256)
    assert truth["peak_op"] == "aten._log_softmax_backward_data.default"
    assert truth["peak"] - truth["after_forward"] == pytest.approx(8 * 4 * 256 * 8192, rel=1e-3)


def test_detail_does_not_change_what_is_measured() -> None:
    plain, detailed = (memory.measure(LLAMA, precision="bf16-mixed", detail=on, **SIZE) for on in (False, True))
    assert {key: detailed[key] for key in plain} == plain
    assert sum(row["bytes"] for row in detailed["peak_live"]) == plain["peak_raw"]
    assert detailed["timeline"]


@pytest.mark.parametrize(
    ("name", "precision", "attention", "checkpointing"),
    [("llama", "bf16", "sdpa", False), ("gpt2", "bf16-mixed", "eager", False), ("llama-deep", "bf16", "sdpa", True)],
)
def test_peak_agrees_with_torchs_own_tracker(name: str, precision: str, attention: str, checkpointing: bool) -> None:
    """``torch.distributed._tools.MemTracker`` follows storages by other means and sees the same peak."""
    mem_tracker = pytest.importorskip("torch.distributed._tools.mem_tracker")
    config = cases.CONFIGS[name]
    case: dict[str, Any] = {"precision": precision, "attention": attention, "checkpointing": checkpointing}
    with fake_cuda():
        model = build(config, device="cpu", **case)
        data = inputs(model, **SIZE)
        optimizer = memory.OPTIMIZERS["adamw"](list(model.parameters()))
        tracker = mem_tracker.MemTracker()
        tracker.track_external(model, optimizer, *data.values())
        with tracker:
            for _ in range(2):
                with autocast(precision):
                    loss = model(**data).loss
                loss.backward()
                del loss
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                tracker.reset_mod_stats()
        peak = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    assert memory.measure(config, **SIZE, **case)["peak_raw"] == pytest.approx(peak, rel=1e-4)


def test_saved_list_is_what_the_forward_pass_leaves() -> None:
    """Storage by storage, the list adds up to the activations of the step, measured otherwise."""
    case: dict[str, Any] = {"precision": "bf16", "attention": "sdpa", **SIZE}
    rows = memory.saved(LLAMA, layer_only=False, **case)
    truth = memory.measure(LLAMA, steps=1, **case)
    assert sum(row["bytes"] * row["count"] for row in rows) == truth["by_category"]["activations"]


def test_flash_keeps_no_scores_and_eager_keeps_them() -> None:
    scores = (2, 8, 96, 96)  # [batch, heads, query, key]
    kept = {
        name: [
            row["dtype"]
            for row in memory.saved(LLAMA, precision="bf16", attention=name, batch=2, seq=96)
            if row["shape"] == scores
        ]
        for name in ("eager", "sdpa")
    }
    assert kept == {"eager": ["float32", "bfloat16"], "sdpa": []}  # the softmax and its cast for the product


def test_checkpointing_keeps_one_input_a_layer() -> None:
    rows = memory.saved(LLAMA, precision="bf16", attention="sdpa", checkpointing=True, **SIZE)
    assert [(row["shape"], row["bytes"], row["count"]) for row in rows] == [((2, 64, 512), 2 * 2 * 64 * 512, 1)]


def test_cpu_tensors_follow_cuda_autocast() -> None:
    with fake_cuda(), autocast("bf16-mixed"):
        low = functional.linear(torch.empty(4, 8), torch.empty(8, 8))
        assert low.dtype == torch.bfloat16
        assert functional.layer_norm(low, (8,)).dtype == torch.float32
        assert functional.softmax(low, -1).dtype == torch.float32
        assert torch.rsqrt(low).dtype == torch.float32
        assert low.pow(2).dtype == torch.float32
        assert functional.silu(low).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):  # and outside the block the CPU is itself again
        assert functional.softmax(torch.ones(2, 2, dtype=torch.bfloat16), -1).dtype == torch.bfloat16


def test_dropout_keeps_a_byte_an_element() -> None:
    with fake_cuda() as tracker, tracker:
        kept = functional.dropout(torch.empty(64, 64, dtype=torch.bfloat16, requires_grad=True), 0.1)
        masks = [origin for origin in tracker.origins() if origin.dtype == "bool"]
        assert [mask.size for mask in masks] == [kept.numel()]


def test_a_storage_counts_once_and_until_it_is_freed() -> None:
    with fake_cuda() as tracker, tracker:
        tensor = torch.empty(1000)
        view = tensor.view(10, 100)
        assert (tracker.raw, tracker.rounded) == (4000, 4096)
        del tensor
        assert tracker.raw == 4000
        del view
        assert (tracker.raw, tracker.rounded) == (0, 0)


def test_rounding_to_the_allocators_block() -> None:
    assert [rounded(size) for size in (0, 1, 512, 513)] == [0, 512, 512, 1024]


def test_tracker_forgets_what_lives_on_the_host() -> None:
    with fake_cuda() as tracker, tracker:
        tensor = torch.empty(256)
        tracker.forget([tensor])
        assert tracker.raw == 0
        del tensor
        assert tracker.raw == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(record.KINDS))
def test_recordings_hold_every_case_and_one_still_comes_out_the_same(kind: str) -> None:
    """A few cases of each file, taken anew with the versions that it was recorded with."""
    document = record.load(kind)
    make, measure, _ = record.KINDS[kind]
    # where a package is missing here (diffusers), a list of cases is shorter than what was recorded with it
    assert {cases.identity(case) for case in make()} <= {row["id"] for row in document["cases"]}
    if document["versions"]["torch"].split("+")[0] != torch.__version__.split("+")[0]:
        pytest.skip("recorded with another version of torch")
    for row in document["cases"][:: max(1, len(document["cases"]) // 4)]:
        try:
            truth = measure(document["configs"][row["config"]], row["arguments"])
        except ModuleNotFoundError as error:  # the oracles of optimizers, fp8 and diffusion need packages of their own
            pytest.skip(f"{error.name} is not installed")
        assert truth == row["truth"], row["id"]
