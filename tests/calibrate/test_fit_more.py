"""What is measured beside products and operators reaches the plan: updates, clipping, dequantization, copies, fused chains, kernels of attention."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

from planner import Run, estimate
from planner.calibrate.benchmarks.attention import _LARGE as ATTENTION
from planner.calibrate.benchmarks.matmul import _LARGE
from planner.calibrate.benchmarks.sustained import BURST, PRODUCT, STEADY
from planner.calibrate.fit import fit_profile
from planner.calibrate.fit_updates import hosts, moved_bytes, updates
from planner.calibrate.hardware import open_hardware
from planner.calibrate.result import Sample
from planner.catalog import find_accelerator
from planner.device import DeviceProfile, default_profile
from planner.estimate.result import Estimate
from tests.calibrate.test_fit import GPU, conditions, hardware, products, sample

LLAMA = {
    "model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 4, "num_attention_heads": 16,
    "num_key_value_heads": 16, "vocab_size": 32000,
}  # fmt: skip


def fitted(cases: list[Sample], **options: Any) -> DeviceProfile:
    prior = default_profile(find_accelerator(GPU))
    return fit_profile(hardware(), [*products(prior, _LARGE), *cases], conditions(), **options)


def plan(profile: DeviceProfile, **fields: Any) -> Estimate:
    base = {"model": LLAMA, "precision": "bf16", "batch": {"micro": 2, "seq_len": 1024}, "hardware": {"gpu": GPU}}
    return estimate(Run.model_validate({**base, **fields}), profile)


def value(e: Estimate, name: str) -> float:
    return e.total(name)


def test_a_step_is_what_a_step_a_tensor_and_a_byte_cost() -> None:
    step, tensor, byte = 1e-3, 2e-5, 1e-10
    made = [
        sample("optimizer", step + count * (tensor + (byte * moved_bytes("adamw", "bf16", numel, True) if numel > 128 else 0.0)),
               name="adamw", dtype="bf16", numel=numel, count=count)
        for numel, count in ((128, 1), (128, 64), (65536, 16), (16777216, 2))
    ]  # fmt: skip
    host = hosts(made)["bf16"]
    assert host.step_s == pytest.approx(step)
    assert host.tensor_s == pytest.approx(tensor)
    assert host.tensor(moved_bytes("adamw", "bf16", 65536, True)) == pytest.approx(tensor + byte * moved_bytes("adamw", "bf16", 65536, True))
    assert host.tensor(0.0) == pytest.approx(tensor)
    old = [sample("optimizer", 0.1, dtype="fp32", numel=16777216, count=2)]
    assert set(hosts(old)) == {"fp32"}


def test_updates_behind_a_queue_are_known_by_their_optimizer() -> None:
    cases = []
    for name, rate in (("adamw", 1e12), ("adamw-fused", 1.5e12), ("adamw8bit", 0.5e12), ("clip", 0.8e12)):
        for numel, count in ((16777216, 2), (128, 64), (128, 1)):
            seconds = max(1e-5 + 4e-6 * count, moved_bytes(name, "bf16", numel, False) * count / rate)
            cases.append(sample("optimizer" if name != "clip" else "clipping", seconds, name=name, dtype="bf16", numel=numel, count=count))
    found = updates(cases)
    assert {name: u.rate for name, u in found.items()} == pytest.approx({"adamw": 1e12, "adamw-fused": 1.5e12, "adamw8bit": 0.5e12, "clip": 0.8e12})
    assert found["adamw"].tensor_s == pytest.approx(4e-6)
    profile = fitted(cases)
    for name, rate in (("adamw", 1e12), ("adamw-fused", 1.5e12), ("adamw8bit", 0.5e12)):
        answer = plan(profile, optimizer=name)
        moved = answer.total("time/optimizer/update") * rate
        parameters = answer.trainable_parameters
        within = 0.3 if name == "adamw8bit" else 0.01  # the Trainer keeps states of embeddings in 32 bits
        assert moved_bytes(name, "bf16", parameters, False) == pytest.approx(moved, rel=within)
        assert answer.total("time/optimizer/clip") == pytest.approx(3 * 2 * parameters / 0.8e12, rel=1e-6)


@pytest.mark.parametrize("weights", ["int8", "nf4"])
def test_dequantization_takes_its_own_time(weights: str) -> None:
    phase = "backward"  # LLM.int8 multiplies in 8 bits forward
    moved = {"int8": 3.0, "nf4": 2.53}[weights] * 4096 * 4096
    run = {"method": {"name": "qlora", "rank": 8}, "precision": {"weights": weights, "compute": "bf16"}}
    slow = plan(fitted([sample("dequantize", 1e-2, format=weights, moved=moved)]), **run)
    usual = plan(fitted([]), **run)
    assert value(slow, f"time/{phase}/dequantize") > 5 * value(usual, f"time/{phase}/dequantize") > 0
    other = plan(fitted([sample("dequantize", 1e-2, format="nf4-torchao", moved=moved)]), **run)
    assert (value(other, f"time/{phase}/dequantize") > 5 * value(usual, f"time/{phase}/dequantize")) is (weights == "nf4")


def test_copies_beside_products_hide_what_was_measured() -> None:
    prior = fitted([])
    product = float(prior.matmul_seconds(4096, 4096, 4096, "bf16"))
    size, copy = 2.0**28, 2.0**28 / 20e9
    shared = {"bytes": size, "pinned": 1.0}
    cases = [sample("transfers", copy, direction=d, beside=0.0, **shared) for d in ("to_device", "to_host")]
    both = max(product, copy) + 0.75 * min(product, copy)
    cases += [sample("transfers", both, direction=d, beside=1.0, **shared) for d in ("to_device", "to_host")]
    profile = fitted(cases)
    assert profile.measured is not None
    assert profile.measured.beside == pytest.approx(0.25, rel=1e-3)
    free = profile.model_copy(update={"measured": profile.measured.model_copy(update={"beside": None})})
    run = {"offload": "params", "batch": {"micro": 16, "seq_len": 2048}}
    assert value(plan(profile, **run), "time/communication/host_link") > value(plan(free, **run), "time/communication/host_link")


def test_chains_that_were_compiled_stand_for_fused_kernels_and_for_nothing_else() -> None:
    cases = [
        sample("compiled", 1e-3, operator=f"compiled:{name}", dtype="bf16", moved=1e6, backward=backward)
        for name in ("rms_norm", "glu", "rotary", "cross_entropy")
        for backward in (0.0, 1.0)
    ]
    profile, usual = fitted(cases), fitted([])
    assert plan(profile, stack="hf-compile").step_time_s > 1.5 * plan(usual, stack="hf-compile").step_time_s  # type: ignore[operator]
    assert plan(profile).step_time_s == plan(usual).step_time_s


def test_a_backend_that_a_stack_names_has_its_own_law() -> None:
    prior = default_profile(find_accelerator(GPU))
    made = []
    for b, h, t, d in ATTENTION:
        for backward in (False, True):
            for causal in (False, True):
                shape = {"batch": b, "heads": h, "kv_heads": h, "q_len": t, "kv_len": t, "head_dim": d}
                seconds = prior.attention_seconds(**shape, dtype="bf16", causal=causal, backward=backward)
                told = {"batch": b, "heads": h, "length": t, "head_dim": d, "causal": float(causal), "backward": float(backward)}
                made.append(sample("attention", seconds, dtype="bf16", **told))
                made.append(sample("backends", 2 * seconds, dtype="bf16", backend="cudnn", **told))
    profile = fitted(made)
    assert {"attention", "attention/cudnn"} <= set(profile.fit_errors)
    shape = {"batch": 4, "heads": 32, "kv_heads": 32, "q_len": 2048, "kv_len": 2048, "head_dim": 128}
    usual = profile.attention_seconds(**shape, dtype="bf16", causal=True, backward=False)
    other = profile.attention_seconds(**shape, dtype="bf16", causal=True, backward=False, kernel="cudnn")
    assert other / usual == pytest.approx(2.0, rel=0.1)
    run = {"stack": "nemo", "batch": {"micro": 2, "seq_len": 2048}}
    named = plan(profile, **run)
    unnamed = plan(profile.model_copy(update={"attention": {k: v for k, v in profile.attention.items() if k != "cudnn"}}), **run)
    assert value(named, "time/forward/attention") > 1.5 * value(unnamed, "time/forward/attention")


def test_a_measured_workspace_replaces_the_usual_one() -> None:
    profile = fitted([], workspace_bytes=5.0 * 2**20)
    assert {t.name: t.value for t in plan(profile).terms}["memory/workspace/cublas"] == 2 * 5.0 * 2**20


def test_convolutions_have_their_own_correction() -> None:
    prior = default_profile(find_accelerator(GPU))
    cases = [
        sample("convolution", 3 * float(prior.matmul_seconds(m, n, k, "bf16")), m=m, n=n, k=k, batch=1, dtype="bf16", layout="forward")
        for m, n, k in ((784, 384, 768), (1568, 768, 768), (256, 1024, 588))
    ]
    profile = fitted(cases)
    plain, own = (float(profile.matmul_seconds(784, 384, 768, "bf16", kind=kind)) for kind in ("", "convolution"))
    assert own > 2 * plain
    vit = {"model_type": "vit", "hidden_size": 384, "num_hidden_layers": 2, "num_attention_heads": 6, "intermediate_size": 1536}
    run = {"model": vit, "batch": {"micro": 4}}
    assert value(plan(profile, **run), "time/forward/matmul") > value(plan(fitted([]), **run), "time/forward/matmul")


def test_a_rate_that_is_not_held_slows_products_alone() -> None:
    prior = fitted([])
    burst = float(prior.matmul_seconds(*PRODUCT, "bf16")) * 1.2
    steady = burst * 1.1
    made = [sample("sustained", n * each, rounds=n) for n, each in ((BURST, burst), (STEADY, steady))]
    held = fitted(made).sustained
    assert held["bf16"] == held["fp16"] == pytest.approx(1 / (1 + 0.12), rel=1e-3)
    assert "fp32" not in held
    assert fitted(made[:1]).sustained == {}
    slower = [sample("sustained", n * each, rounds=n) for n, each in ((BURST, steady), (STEADY, burst))]
    assert fitted(slower).sustained["bf16"] == 1.0


def test_a_processor_loops_and_a_gpu_does_not() -> None:
    made = [sample("optimizer", 1e-3 * count, name="adamw", dtype="bf16", numel=numel, count=count) for numel, count in ((128, 64), (65536, 16))]
    on_processor = fit_profile(open_hardware("cpu"), made, conditions(kind="cpu")).measured
    on_gpu = fitted(made).measured
    assert on_processor is not None
    assert on_gpu is not None
    assert (bool(on_processor.optimizer), bool(on_processor.updates)) == (True, False)
    assert (bool(on_gpu.optimizer), bool(on_gpu.updates)) == (False, True)
