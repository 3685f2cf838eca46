"""A profile recovers the device that made its samples, few samples do no harm, and unmeasured shapes stay with the law."""

from __future__ import annotations

import math

import numpy as np
import pytest

from planner.calibrate.benchmarks.attention import _LARGE as ATTENTION
from planner.calibrate.benchmarks.matmul import _LARGE, _SIZES
from planner.calibrate.fit import fit_profile
from planner.calibrate.hardware import Hardware
from planner.calibrate.result import Sample
from planner.catalog import find_accelerator
from planner.device import DeviceProfile, default_profile
from planner.device.conditions import Conditions
from planner.device.measured import Correction, Table

torch = pytest.importorskip("torch")
GPU = "A100 SXM4 80GB"
RATE = 0.7
"""The scripted device multiplies at this share of the catalogue's curves."""


def conditions(**changes: object) -> Conditions:
    told = {"device": GPU, "kind": "cuda", "torch": "2.13.0", "python": "3.11", "date": "2026-01-01T00:00:00+00:00", "seconds": 1.0}
    return Conditions.model_validate(told | changes)


def hardware() -> Hardware:
    part = find_accelerator(GPU)
    assert part.sm_count and part.l2_bytes
    return Hardware(torch.device("cuda"), "NVIDIA A100-SXM4-80GB", int(part.memory_bytes), part.l2_bytes, part.sm_count)


def sample(benchmark: str, seconds: float, **case: float | str) -> Sample:
    return Sample(benchmark=benchmark, case=case, seconds=seconds, iqr=0.0, raw=(seconds,))


def products(prior: DeviceProfile, sizes: tuple[tuple[int, int, int], ...], wobble: float = 0.0) -> list[Sample]:
    rng, made = np.random.default_rng(1), []
    for m, n, k in sizes:
        for layout in ("forward", "dgrad", "wgrad"):
            seconds = prior.matmul_seconds(m, n, k, "bf16", layout=layout) / RATE * math.exp(wobble * rng.normal())
            made.append(sample("matmul", seconds, m=m, n=n, k=k, batch=1, dtype="bf16", layout=layout))
    return made


def test_a_slower_device_is_recognised_at_shapes_that_were_not_measured() -> None:
    prior = default_profile(find_accelerator(GPU))
    fitted = fit_profile(hardware(), products(prior, _LARGE, 0.02), conditions())
    assert fitted.basis == "calibrated"
    assert fitted.accelerator_name == GPU
    for m, n, k in ((6000, 5120, 5120), (3000, 8192, 3072), (12288, 2048, 2048)):
        true = prior.matmul_seconds(m, n, k, "bf16") / RATE
        assert abs(fitted.matmul_seconds(m, n, k, "bf16") / true - 1) < 0.08
        assert abs(prior.matmul_seconds(m, n, k, "bf16") / true - 1) > 0.25


def test_fewer_samples_than_a_law_needs_leave_the_prior() -> None:
    prior = default_profile(find_accelerator(GPU))
    fitted = fit_profile(hardware(), products(prior, _LARGE[:1]), conditions())
    assert fitted.gemm == prior.gemm
    assert fitted.matmul_seconds(4096, 4096, 4096, "bf16") == prior.matmul_seconds(4096, 4096, 4096, "bf16")


def test_attention_follows_its_samples() -> None:
    prior = default_profile(find_accelerator(GPU))
    made = []
    for b, h, t, d in ATTENTION:
        for backward in (False, True):
            for causal in (False, True):
                shape = {"batch": b, "heads": h, "kv_heads": h, "q_len": t, "kv_len": t, "head_dim": d}
                seconds = prior.attention_seconds(**shape, dtype="bf16", causal=causal, backward=backward) * 1.5
                told = {"batch": b, "heads": h, "length": t, "head_dim": d, "causal": float(causal), "backward": float(backward)}
                made.append(sample("attention", seconds, dtype="bf16", **told))
    fitted = fit_profile(hardware(), made, conditions())
    shape = {"batch": 2, "heads": 16, "kv_heads": 16, "q_len": 3072, "kv_len": 3072, "head_dim": 128}
    for backward in (False, True):
        ratio = fitted.attention_seconds(**shape, dtype="bf16", causal=True, backward=backward) / prior.attention_seconds(
            **shape, dtype="bf16", causal=True, backward=backward
        )
        assert ratio == pytest.approx(1.5, rel=0.1)


def test_a_correction_is_the_residual_where_measured_and_nothing_far_away() -> None:
    made = Correction(sizes=((1024, 1024, 1024, 1), (64, 64, 64, 1)), residuals=(math.log(2.0), math.log(0.5)))
    assert made.factor(1024, 1024, 1024, 1) == pytest.approx(2.0, rel=0.02)
    assert made.factor(64, 64, 64, 1) == pytest.approx(0.5, rel=0.02)
    assert made.factor(2.0**30, 2.0**30, 2.0**30, 1) == pytest.approx(1.0, abs=1e-6)
    several = made.factor(np.array([1024.0, 64.0]), np.array([1024.0, 64.0]), np.array([1024.0, 64.0]), 1.0)
    assert several == pytest.approx([made.factor(1024, 1024, 1024, 1), made.factor(64, 64, 64, 1)])


def test_a_table_keeps_its_points_and_rates() -> None:
    table = Table(moved=(1e3, 1e6), seconds=(1e-6, 1e-4))
    assert (table.at(10), table.at(1e3), table.at(1e6), table.at(1e8)) == pytest.approx((1e-6, 1e-6, 1e-4, 1e-2))
    assert 1e-6 < table.at(3e4) < 1e-4


def test_operators_of_one_name_take_their_own_table_and_others_that_of_their_kind() -> None:
    cases = [
        sample("operators", seconds * moved, operator=name, dtype="fp32", moved=moved, backward=0.0)
        for name, seconds in (("gelu", 5e-12), ("mul", 1e-12), ("residual", 1e-12))
        for moved in (1e6, 1e9)
    ]
    measured = fit_profile(hardware(), cases, conditions()).measured
    assert measured is not None
    assert measured.operator("gelu", "fp32", False, 1e9, "elementwise") == pytest.approx(5e-3)
    assert measured.operator("unheard_of", "fp32", False, 1e9, "elementwise") == pytest.approx(1e-3)
    assert measured.operator("gelu", "bf16", False, 1e9, "elementwise") is None


def test_a_profile_is_stale_when_what_sets_its_speed_changed() -> None:
    then = conditions(driver="570.1", power_limit_w=700.0)
    assert then.stale_against(conditions(driver="570.1", power_limit_w=700.0, date="2027-01-01")) == ()
    changed = then.stale_against(conditions(driver="580.2", power_limit_w=500.0))
    assert changed == ("driver: measured with 570.1, now 580.2", "power limit w: measured with 700.0, now 500.0")


def test_every_size_of_the_grid_is_used_once() -> None:
    assert len(set(_SIZES)) == len(_SIZES)


def test_copies_and_the_context_reach_an_estimate() -> None:
    from planner import Run, estimate

    rates = {"to_device": 20e9, "to_host": 25e9}
    cases = [
        sample("transfers", 2**28 / rate, bytes=2.0**28, pinned=1.0, direction=direction, beside=0.0)
        for direction, rate in rates.items()
    ]
    prior = default_profile(find_accelerator(GPU))
    fitted = fit_profile(hardware(), [*cases, *products(prior, _LARGE)], conditions(), context_bytes=700.0 * 2**20)
    assert fitted.measured is not None
    assert fitted.measured.host_link == pytest.approx(20e9)
    run = Run.model_validate({"model": "gpt2", "batch": {"micro": 1, "seq_len": 512}, "hardware": {"gpu": GPU}})
    measured = estimate(run, fitted)
    assert measured.basis == "calibrated"
    assert {t.name: t.value for t in measured.terms}["context/driver"] == 700.0 * 2**20
    slow = Run.model_validate({**run.model_dump(exclude_unset=True), "offload": "optimizer"})
    assert estimate(slow, fitted).step_time_s != estimate(slow).step_time_s
