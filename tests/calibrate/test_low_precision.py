"""Formats that few devices have are measured where they are, and what is measured reaches the plan."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from planner.calibrate.benchmarks import benchmarks, low_precision
from planner.calibrate.benchmarks.low_precision import EXPERTS, SHAPES
from planner.calibrate.fit import fit_profile
from planner.calibrate.hardware import open_hardware
from planner.catalog import find_accelerator
from planner.device import default_profile
from tests.calibrate.test_fit import conditions, hardware, sample


def test_a_processor_is_not_asked_and_multiplies_for_experts() -> None:
    found = {b.name: b for b in benchmarks()}
    device = open_hardware("cpu")
    assert list(found["low_precision"].cases(device)) == []
    cases = list(found["grouped"].cases(device))
    assert len(cases) == len(EXPERTS)
    smallest = min(cases, key=lambda case: float(case.shape["m"]))
    assert smallest.prepare()().shape == (16 * 32, 512)


@pytest.mark.parametrize(("capability", "formats"), [((7, 5), ()), ((8, 0), ("tf32", "int8")), ((9, 0), ("tf32", "int8", "fp8"))])
def test_a_gpu_is_asked_for_what_it_has(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], formats: tuple[str, ...]) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert low_precision.here(hardware()) == formats
    cases = list(low_precision.low_precision.cases(hardware()))
    assert {case.shape["dtype"] for case in cases} == set(formats)


@pytest.mark.parametrize("dtype", ["fp8", "int8"])
def test_the_kernels_run_where_torch_has_them(dtype: str) -> None:
    work = low_precision._bytes(open_hardware("cpu"), 32, 48, 64, dtype)()
    try:
        assert work().shape == (32, 48)
    except (NotImplementedError, RuntimeError) as error:
        pytest.skip(f"this processor's torch does not multiply {dtype}: {error}")


def test_tf32_is_switched_on_for_the_product_alone() -> None:
    seen = []
    work = low_precision._as_tf32(lambda: lambda: seen.append(torch.backends.cuda.matmul.allow_tf32))()
    before = torch.backends.cuda.matmul.allow_tf32
    work()
    assert seen == [True]
    assert torch.backends.cuda.matmul.allow_tf32 is before


def test_what_is_measured_reaches_the_curves() -> None:
    prior = default_profile(find_accelerator("A100 SXM4 80GB"))
    made = [
        sample("low_precision", float(prior.matmul_seconds(m, n, k, dtype)) / 0.6, m=m, n=n, k=k, batch=1, dtype=dtype, layout="forward")
        for m, n, k in SHAPES
        for dtype in ("tf32", "int8")
    ]
    experts = ((8, 2048, 14336, 4096), (64, 512, 2048, 2048), (128, 128, 768, 2048), (8, 256, 1024, 512))
    made += [
        sample("grouped", 2 * float(prior.matmul_seconds(m, n, k, "bf16", batch=b)), m=m, n=n, k=k, batch=b, dtype="bf16", layout="forward")
        for b, m, n, k in experts
    ]
    numel, seconds = 16777216, 0.01
    made.append(sample("optimizer", seconds, numel=numel, count=2, dtype="bf16"))
    fitted = fit_profile(hardware(), made, conditions())
    for dtype in ("tf32", "int8"):
        assert fitted.matmul_seconds(6000, 4096, 4096, dtype) / prior.matmul_seconds(6000, 4096, 4096, dtype) == pytest.approx(1 / 0.6, rel=0.12)
    assert fitted.matmul_seconds(512, 2048, 2048, "bf16", batch=32) > 1.5 * prior.matmul_seconds(512, 2048, 2048, "bf16", batch=32)
    assert fitted.stream.fractions["optimizer"] == pytest.approx(20 * 2 * 2 * numel / seconds / prior.memory_bandwidth)
