"""The shipped curves against the kernel measurements that their fit never saw."""

from __future__ import annotations

import csv
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from planner.catalog import find_accelerator
from planner.device import default_profile
from planner.device import fit as fitting
from planner.device.attention import AttentionCurve
from planner.device.default import measured_parts
from planner.device.gemm import GemmCurve
from planner.device.solver import soft_l1_fit

SHARED = Path(__file__).resolve().parents[3] / "shared"
CURVES = Path(fitting.__file__).parent / "data" / "curves.json"
MAIN = ("a100_sxm", "h100_sxm", "h200_sxm", "b200_sxm")
# The L40S table jumps by 20 to 30 % between neighbouring large products, with no pattern in the shape: at m = 4096, k = 16384 the product
# with n = 51200 takes longer than that with n = 65536. Rows with m and m - 1 scatter by 4.3 % (median), and boosted trees of 63 leaves on
# top of the law, judged on groups that they had not seen, still miss by 4.9 %: about the best that any regression reached.
LARGE = {"l40s": 0.07}
TABLES = {dtype: table for table, (dtype, _) in fitting.DTYPES.items()}

needs_tables = pytest.mark.skipif(
    not (SHARED / "kernels" / "gemm.parquet").exists(), reason="the kernel tables are not part of the repository"
)
needs_evidence = pytest.mark.skipif(
    not (SHARED / "evidence" / "mamf.csv").exists(), reason="the published rates are not part of the repository"
)


@cache
def document():  # type: ignore[no-untyped-def]
    return json.loads(CURVES.read_text(encoding="utf-8"))


def gemm_curves() -> list[tuple[str, str]]:
    return [(key, dtype) for key, part in document()["devices"].items() for dtype in part["gemm"]]


@needs_tables
@pytest.mark.parametrize(("key", "dtype"), gemm_curves())
def test_products_left_out_of_the_fit(key: str, dtype: str) -> None:
    pytest.importorskip("pyarrow")
    shapes, seconds, held = fitting.read_gemm(SHARED / "kernels", key, TABLES[dtype])
    curve = GemmCurve.model_validate(document()["devices"][key]["gemm"][dtype])
    part = find_accelerator(fitting.PARTS[key])
    times = fitting.gemm_seconds(fitting.bind_gemm(curve, part, dtype), shapes)
    large = 2.0 * shapes["m"] * shapes["n"] * shapes["k"] > 2e10
    errors, above = fitting.score(times, seconds, held), fitting.score(times, seconds, held & large)
    assert errors["n"] > 1000 and 0.2 < held.mean() < 0.4
    assert errors["median"] <= (0.06 if key in MAIN else 0.10)
    assert abs(errors["bias"]) < 0.02
    if dtype == "bf16":
        assert above["median"] <= LARGE.get(key, 0.05)
    assert errors == pytest.approx(document()["devices"][key]["errors"][f"gemm/{dtype}"], rel=0.02, abs=1e-4)


@needs_tables
def test_large_products_left_out_of_the_fit_over_all_parts() -> None:
    """Above 20 GFLOP, every part together: the L40S alone misses 5 %."""
    pytest.importorskip("pyarrow")
    errors = []
    for key in fitting.PARTS:
        shapes, seconds, held = fitting.read_gemm(SHARED / "kernels", key, TABLES["bf16"])
        curve = GemmCurve.model_validate(document()["devices"][key]["gemm"]["bf16"])
        times = fitting.gemm_seconds(fitting.bind_gemm(curve, find_accelerator(fitting.PARTS[key]), "bf16"), shapes)
        judged = held & (2.0 * shapes["m"] * shapes["n"] * shapes["k"] > 2e10)
        errors.append(np.abs(times[judged] / seconds[judged] - 1.0))
    assert np.median(np.concatenate(errors)) <= 0.05


@needs_tables
@pytest.mark.parametrize("key", list(fitting.PARTS))
def test_attention_left_out_of_the_fit(key: str) -> None:
    pytest.importorskip("pyarrow")
    shapes, seconds, held = fitting.read_attention(SHARED / "kernels", key)
    curve = AttentionCurve.model_validate(document()["devices"][key]["attention"]["prefill"])
    times = fitting.attention_forward(fitting.bind_attention(curve, find_accelerator(fitting.PARTS[key])), shapes)
    errors = fitting.score(times, seconds, held)
    assert errors["n"] > 1000
    assert errors["median"] <= 0.10
    assert fitting.score(times, seconds, held & (shapes["seq_len"] >= 512))["median"] <= 0.10
    assert errors == pytest.approx(document()["devices"][key]["errors"]["attention"], rel=0.02, abs=1e-4)


@needs_tables
@pytest.mark.parametrize(
    ("key", "donor", "limit"),
    [
        ("h200_sxm", "h100_sxm", 0.10),
        ("b300_sxm", "b200_sxm", 0.10),
        ("b200_sxm", "h100_sxm", 0.20),
        ("a100_sxm", "h100_sxm", 0.25),
        ("h100_sxm", "a100_sxm", 0.25),
        ("rtx_pro_6000_server", "l40s", 0.25),
        ("l40s", "rtx_pro_6000_server", 0.25),
    ],
)
def test_carried_curves_predict_a_part_that_they_were_not_fitted_to(key: str, donor: str, limit: float) -> None:
    pytest.importorskip("pyarrow")
    shapes, seconds, _ = fitting.read_gemm(SHARED / "kernels", key, "bfloat16")
    profile = default_profile(find_accelerator(fitting.PARTS[key]), donor=donor)
    assert profile.basis == "datasheet"
    error = profile.matmul_seconds(shapes["m"], shapes["n"], shapes["k"], "bf16") / seconds - 1.0
    print(f"{donor} carried to {key}: median {np.median(np.abs(error)):.1%}, bias {np.median(error):+.1%}")
    assert np.median(np.abs(error)) <= limit


@needs_evidence
def test_best_published_matmul_rates() -> None:
    names = {
        "NVIDIA A100 SXM": "A100 SXM4 80GB",
        "NVIDIA A100 PCIe": "A100 PCIe 80GB",
        "NVIDIA H100 SXM": "H100 SXM 80GB",
        "NVIDIA GH200 SXM": "GH200 144GB",
        "NVIDIA B200 SXM": "B200 SXM",
        "NVIDIA B300 SXM": "B300 SXM",
        "NVIDIA GB200 SXM": "GB200 (per GPU)",
        "AMD MI250X": "MI250X (one GCD)",
        "AMD MI300X": "MI300X",
        "AMD MI325X": "MI325X",
        "AMD MI355X": "MI355X",
        "Intel Gaudi 2": "Gaudi2",
        "Intel Gaudi 3": "Gaudi3",
    }
    errors = []
    with (SHARED / "evidence" / "mamf.csv").open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            if row["precision"] != "bf16" or row["accelerator"] not in names:
                continue
            found = re.match(r"(\d+)x(\d+)x(\d+)", row["shape"])
            assert found
            m, n, k = (int(size) for size in found.groups())
            if "MxKxN" in row["shape"]:
                n, k = k, n
            profile = default_profile(find_accelerator(names[row["accelerator"]]))
            rate = 2.0 * m * n * k / profile.matmul_seconds(m, n, k, "bf16")
            errors.append(rate / (float(row["mamf_tflops"]) * 1e12) - 1.0)
            print(f"{row['accelerator']:18} {row['shape']:20} {errors[-1]:+.1%}")
    size = np.abs(errors)
    assert len(errors) > 25
    assert np.median(size) < 0.08 and np.max(size) < 0.25


def test_the_shipped_curves_name_their_source_and_hold_every_measured_part() -> None:
    assert set(document()["devices"]) == set(fitting.PARTS)
    assert "Apache-2.0" in document()["source"] and "crc32" in document()["split"]
    assert set(measured_parts().values()) == set(fitting.PARTS)
    for part in document()["devices"].values():
        for figures in part["errors"].values():
            assert figures["n"] >= 20 and 0.0 <= figures["median"] <= figures["p90"]


def test_the_split_is_by_group_and_repeatable() -> None:
    groups = [f"{n}x{k}" for n in range(64, 2048, 64) for k in range(64, 2048, 64)]
    held = fitting.left_out(groups)
    assert 0.25 < held.mean() < 0.35
    assert np.array_equal(held, fitting.left_out(groups))


def test_the_fit_recovers_a_known_curve() -> None:
    part = find_accelerator("H100 SXM 80GB")
    truth = GemmCurve.model_validate(document()["devices"]["h100_sxm"]["gemm"]["bf16"])
    rng = np.random.default_rng(1)
    shapes = {name: rng.choice([128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0], 600) for name in "mnk"}
    seconds = fitting.gemm_seconds(fitting.bind_gemm(truth, part, "bf16"), shapes)
    noisy = seconds * np.exp(rng.normal(0.0, 0.02, seconds.size))
    noisy[:20] *= 3.0
    fitted = fitting.fit_gemm(shapes, noisy, part, "bf16", 2.0, None)
    error = fitting.gemm_seconds(fitting.bind_gemm(fitted, part, "bf16"), shapes) / seconds - 1.0
    assert np.median(np.abs(error)) < 0.02
    assert np.quantile(np.abs(error), 0.9) < 0.06


def test_the_solver_ignores_outliers_and_keeps_its_bounds() -> None:
    x = np.linspace(0.0, 1.0, 200)
    y = 1.5 + 2.0 * x
    y[::20] += 40.0
    found = soft_l1_fit(
        lambda p: p[0] + p[1] * x - y, np.zeros(2), np.array([-9.0, -9.0]), np.array([9.0, 9.0]), prior=0.0
    )
    np.testing.assert_allclose(found, [1.5, 2.0], atol=0.02)
    bound = soft_l1_fit(
        lambda p: p[0] + p[1] * x - y, np.zeros(2), np.array([-9.0, -9.0]), np.array([9.0, 1.0]), prior=0.0
    )
    assert bound[1] == pytest.approx(1.0)
