"""Profiles beside each other, and one carried to a part that was not measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner import Run, estimate
from planner.catalog import find_accelerator
from planner.cli import main
from planner.device import DeviceProfile, default_profile, load_profile
from planner.device.carry import FURTHEST, carry
from planner.device.conditions import Conditions
from planner.device.processor import processor_profile
from planner.errors import PlanError

H100, H200 = "H100 SXM 80GB", "H200 SXM 141GB"


def measured(name: str, rate: float, driver: str = "580.1") -> DeviceProfile:
    """A calibrated profile of a part that runs at `rate` of its published curves."""
    base = default_profile(find_accelerator(name))
    conditions = Conditions(device=name, kind="cuda", torch="2.13.0", driver=driver, python="3.11", date="2026-01-01T00:00:00", seconds=60)
    peaks = {dtype: peak * rate for dtype, peak in base.peak_flops.items()}
    return base.model_copy(update={"basis": "calibrated", "name": f"my {name}", "conditions": conditions}).model_validate(
        {**dict(base), "basis": "calibrated", "name": f"my {name}", "conditions": conditions, "peak_flops": peaks}
    )


def test_what_was_learned_of_one_part_moves_the_other_by_the_same_ratio() -> None:
    target = find_accelerator(H200)
    made, plain = carry(measured(H100, 0.8), target), default_profile(target)
    assert made.accelerator_name == H200
    assert made.basis == "datasheet"
    ratio = plain.matmul_seconds(8192, 8192, 8192, "bf16") / made.matmul_seconds(8192, 8192, 8192, "bf16")
    assert ratio == pytest.approx(0.8, rel=0.06)
    assert carry(measured(H100, 1.0), target).matmul_seconds(4096, 4096, 4096, "bf16") == pytest.approx(plain.matmul_seconds(4096, 4096, 4096, "bf16"))


def test_a_carried_profile_has_the_wider_interval() -> None:
    run = Run.model_validate({"model": "gpt2", "batch": {"micro": 8, "seq_len": 1024}})
    own = estimate(run, measured(H200, 0.8))
    carried = estimate(run, carry(measured(H100, 0.8), find_accelerator(H200)))
    assert own.basis == "calibrated"
    assert carried.basis == "datasheet"

    def width(e: object) -> float:
        low, high = e.step_time_interval_s  # type: ignore[attr-defined]
        return float(high / low)

    assert width(carried) >= width(own)


def test_no_ratio_is_carried_too_far() -> None:
    made, plain = carry(measured(H100, 0.1), find_accelerator(H200)), default_profile(find_accelerator(H200))
    ratio = made.matmul_seconds(8192, 8192, 8192, "bf16") / plain.matmul_seconds(8192, 8192, 8192, "bf16")
    assert ratio < FURTHEST * 1.05


def test_what_cannot_be_carried_says_why() -> None:
    with pytest.raises(PlanError, match="was not measured"):
        carry(default_profile(find_accelerator(H100)), find_accelerator(H200))
    with pytest.raises(PlanError, match="outside the catalogue"):
        carry(processor_profile("A processor", threads=2).model_copy(update={"basis": "calibrated"}), find_accelerator(H200))


def test_the_command_shows_compares_and_carries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two, out = tmp_path / "one.json", tmp_path / "two.json", tmp_path / "carried.json"
    measured(H100, 0.8).dump(one)
    measured(H100, 0.9, driver="570.1").dump(two)
    assert main(["profile", str(one), str(two)]) == 0
    text = capsys.readouterr().out
    assert "ratio" in text
    assert "driver: measured with 580.1, now 570.1" in text
    assert main(["profile", str(one), "--carry-to", H200, "--out", str(out), "--json"]) == 0
    (document,) = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["accelerator"] == H200
    assert load_profile(out).accelerator_name == H200


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["{one}", "{one}", "{one}"], "profile"),
        (["{one}", "--out", "x.json"], "out"),
        (["{one}", "--carry-to", "abacus"], "carry-to"),
        (["none.json"], "profile"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = tmp_path / "one.json"
    measured(H100, 0.8).dump(one)
    assert main(["profile", *(a.format(one=one) for a in arguments)]) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith(f"planner: {field}")
    assert "\n" not in line
