"""The accelerator table: every row valid, names exact, derived figures close to the measured ones."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from planner import units
from planner.catalog import Accelerator, accelerators, customise, find_accelerator, identify
from planner.catalog.accelerators import PEAK_KEYS, _memory_row, normalise
from planner.catalog.tables import read_table
from planner.catalog.usable_memory import usable_memory
from planner.errors import PlanError

REFERENCE = Path(__file__).parents[3] / "shared" / "catalog" / "accelerators.csv"


def test_every_row_is_plausible() -> None:
    rows = accelerators()
    assert len(rows) >= 114
    for row in rows:
        assert set(row.peak_flops) <= set(PEAK_KEYS)
        assert row.source
        assert 4 * units.GIB <= row.memory_bytes <= 600 * units.GIB, row.name
        assert 0.7 * row.memory_bytes <= row.usable_memory_bytes <= row.memory_bytes, row.name
        assert 1e11 <= row.memory_bandwidth <= 1e13, row.name
        assert all(1e12 <= peak <= 2e16 for peak in row.peak_flops.values()), row.name
        if "bf16" in row.peak_flops and "fp16" in row.peak_flops and row.name != "Gaudi3":
            assert row.peak_flops["bf16"] == row.peak_flops["fp16"], row.name
        if row.vendor == "NVIDIA":
            assert row.compute_capability is not None


def test_peaks_follow_from_clock_and_processors() -> None:
    checked = 0
    for row in accelerators():
        if row.tensor_flop_per_clock_per_sm and row.sm_count and row.boost_hz:
            peak = row.peak_flops.get("bf16", row.peak_flops["fp16"])
            product = row.sm_count * row.boost_hz * row.tensor_flop_per_clock_per_sm
            assert product == pytest.approx(peak, rel=0.02), row.name
            checked += 1
    assert checked > 40


def test_names_and_aliases_are_unique_and_found() -> None:
    owner: dict[str, str] = {}
    families: dict[str, set[str]] = {}
    for row in accelerators():
        for name in (row.name, *row.aliases):
            assert owner.setdefault(normalise(name), row.name) == row.name, name
            assert find_accelerator(name) is row
        for name in row.family_names:
            families.setdefault(normalise(name), set()).add(row.name)
    assert not set(owner) & set(families)
    for name, members in families.items():
        assert len(members) > 1, name
        with pytest.raises(PlanError, match="names several") as caught:
            find_accelerator(name)
        assert all(member in caught.value.fix for member in members)


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("H100 SXM 80GB", "H100 SXM 80GB"),
        ("nvidia h100 80gb hbm3", "H100 SXM 80GB"),
        ("H20", "H20 96GB"),
        ("H200", "H200 SXM 141GB"),
        ("NVIDIA H200 NVL", "H200 NVL 141GB"),
        ("A10", "A10"),
        ("A10G", "A10G"),
        ("NVIDIA A100-SXM4-80GB", "A100 SXM4 80GB"),
        ("L4", "L4"),
        ("L40", "L40"),
        ("l40s", "L40S"),
        ("4080", "RTX 4080"),
        ("4080 Super", "RTX 4080 SUPER"),
        ("rtx4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090 D", "RTX 4090 D"),
        ("B200", "B200 SXM"),
        ("GB200", "GB200 (per GPU)"),
        ("NVIDIA GH200 480GB", "GH200 96GB"),
        ("Tesla T4", "T4"),
        ("  MI300X ", "MI300X"),
    ],
)
def test_exact_names(typed: str, name: str) -> None:
    assert find_accelerator(typed).name == name


@pytest.mark.parametrize("typed", ["A100", "H100", "V100", "GH200", "A100 80GB", "RTX 6000", "MI250X", "H100 80GB"])
def test_shared_names_are_refused(typed: str) -> None:
    with pytest.raises(PlanError, match="names several") as caught:
        find_accelerator(typed)
    assert caught.value.field == "hardware.gpu"


@pytest.mark.parametrize(
    "typed", ["H1000", "100", "RTX", "", "  ", "A", "NVIDIA", "RTX 4090 Laptop GPU", "<script>", "x" * 10_000]
)
def test_unknown_names_are_refused_with_suggestions(typed: str) -> None:
    with pytest.raises(PlanError) as caught:
        find_accelerator(typed)
    assert caught.value.field == "hardware.gpu"
    assert len(str(caught.value)) < 500
    if typed.strip():
        assert caught.value.fix.count('"') == 6


def test_suggestions_are_near() -> None:
    with pytest.raises(PlanError, match="RTX 4090"):
        find_accelerator("RTX 409O")


def test_identify_checks_memory_and_processors() -> None:
    found = identify("NVIDIA H100 80GB HBM3", int(79.1 * units.GIB), 132)
    assert found is not None
    assert found.name == "H100 SXM 80GB"
    assert identify("NVIDIA GeForce RTX 3080", int(11.8 * units.GIB), 70) is None
    assert identify("NVIDIA GeForce RTX 4090", int(47.4 * units.GIB), 128) is None
    assert identify("Some CPU") is None
    gcd = identify("AMD Instinct MI250X/MI250", int(63.98 * units.GIB), 110)
    assert gcd is not None
    assert gcd.name == "MI250X (one GCD)"


def test_customise() -> None:
    base = find_accelerator("RTX 4090")
    edited = customise(base, memory_bytes=48 * units.GIB, peak_flops={"bf16": 1.7e14})
    assert edited.name == "RTX 4090 (edited)"
    assert edited.peak_flops["bf16"] == 1.7e14
    assert edited.peak_flops["fp16"] == base.peak_flops["fp16"]
    assert edited.usable_memory_bytes == pytest.approx(2 * base.usable_memory_bytes, abs=2)
    assert "usable_memory_bytes" in edited.assumed[-1]
    assert edited.aliases == ()
    assert customise(edited, tdp_w=300).name == "RTX 4090 (edited)"
    smaller = customise(base, memory_bytes=12 * units.GIB)
    assert smaller.usable_memory_bytes < 12 * units.GIB
    assert base.memory_bytes == 24 * units.GIB


@pytest.mark.parametrize(
    "fields",
    [
        {"memory_bytes": 0},
        {"memory_bandwidth": -1.0},
        {"memory_bandwidth": math.nan},
        {"tdp_w": math.inf},
        {"peak_flops": {"bf16": 0.0}},
        {"peak_flops": {"bf17": 1.0}},
        {"peak_flops": "much"},
        {"gpus_per_node": 0},
        {"colour": "green"},
        {"usable_memory_bytes": 25 * units.GIB},
    ],
)
def test_customise_refuses(fields: dict[str, object]) -> None:
    with pytest.raises(PlanError) as caught:
        customise(find_accelerator("RTX 4090"), **fields)
    assert caught.value.field.startswith("hardware.gpu.")


def test_frozen() -> None:
    with pytest.raises(ValidationError):
        accelerators()[0].name = "x"  # type: ignore[misc]


def test_derived_memory_is_close_where_the_truth_is_known() -> None:
    """Each measured row is hidden in turn and derived from the others."""
    rows = [_memory_row(row) for row in read_table("accelerators.csv")]
    errors = []
    for index, row in enumerate(rows):
        if row.reported is not None and row.vendor in ("NVIDIA", "AMD"):
            hidden = [*rows[:index], replace(row, reported=None), *rows[index + 1 :]]
            derived, words = usable_memory(hidden, index)
            assert words
            errors.append(abs(derived / row.reported - 1))
    assert len(errors) > 30
    assert max(errors) < 0.02
    assert sorted(errors)[len(errors) // 2] < 0.005


def test_every_derived_figure_is_marked() -> None:
    known = {row["name"] for row in read_table("accelerators.csv") if row["usable_gib"]}
    for row in accelerators():
        assert bool(row.assumed) == (row.name not in known)


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference table is not there")
def test_all_rows_of_the_reference_are_shipped_unchanged() -> None:
    with REFERENCE.open(encoding="utf-8", newline="") as file:
        reference = {row["name"]: row for row in csv.DictReader(file)}
    shipped = {row.name: row for row in accelerators()}
    assert set(shipped) == set(reference)
    for name, row in reference.items():
        own: Accelerator = shipped[name]
        assert own.memory_bytes == float(row["memory_gb"]) * units.GIB
        assert own.memory_bandwidth == pytest.approx(float(row["mem_bw_gbs"]) * 1e9)
        for key, column in (("bf16", "bf16_dense_tflops"), ("fp8", "fp8_dense_tflops"), ("fp32", "fp32_tflops")):
            if row[column]:
                assert own.peak_flops[key] == pytest.approx(float(row[column]) * 1e12)
            else:
                assert key not in own.peak_flops
