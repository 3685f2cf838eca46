"""The interval of an estimate from a calibration comes from how such estimates missed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from planner.device.processor import processor_profile
from planner.estimate.engine import estimate
from planner.estimate.uncertainty import CALIBRATED, interval
from planner.evidence import calibrated
from planner.run import parse_run


def proof(errors: dict[str, float]) -> dict[str, object]:
    rows = {name: {"step_time_s": {"median": 1.0}, "calibrated": {"predicted": {"step_time_s": 1.0 / ratio}}} for name, ratio in errors.items()}
    return {"predicted": rows, "device": "d", "kind": "cpu", "versions": {"torch": "2"}, "started": "2026-01-01T00:00:00Z"}


def test_the_range_holds_what_other_families_missed() -> None:
    random = np.random.default_rng(0)
    made = calibrated.table(proof({f"family{i % 6} {i}": float(np.exp(random.normal(0.05, 0.08))) for i in range(120)}))
    assert made["n"] == 120
    assert 0.85 < made["low"] < 0.98 < 1.1 < made["high"] < 1.3
    assert made["held_out_coverage"] == pytest.approx(0.9, abs=0.04)
    skipped = proof({"a 1": 1.0})
    skipped["predicted"]["b 1"] = {"step_time_s": None}  # type: ignore[index]
    assert len(calibrated.residuals(skipped)) == 1


def test_proofs_of_other_hours_count_together_and_the_document_says_what_no_proof_has_said() -> None:
    first, later = (proof({f"family{i % 3} {i}": ratio for i in range(30)}) for ratio in (1.0, 1.2))
    made = calibrated.table(first, later)
    assert made["n"] == 60
    assert made["low"] <= 1.0 < 1.2 <= made["high"]
    assert made["uncalibrated_median"] is made["memory_most"] is None
    said = "\n".join(calibrated.section())
    shipped = json.loads(CALIBRATED.read_text())["processor"]
    assert f"| {shipped['n']} | {100 * shipped['median']:.1f} % |" in said
    assert "Not measured yet: any GPU" in said


def test_a_calibrated_processor_has_a_class_of_its_own_and_a_gpu_none_yet() -> None:
    shipped = json.loads(CALIBRATED.read_text())
    found = interval("time", {"basis": "calibrated", "device": "processor", "gpus": 1})
    assert (found.class_name, found.n) == ("calibrated processor", shipped["processor"]["n"])
    assert found.low_ratio < 1 < found.high_ratio
    assert "GPU" not in shipped
    assert interval("time", {"basis": "calibrated", "device": "GPU", "stack": "hf", "gpus": 1}).class_name != "calibrated GPU"


def test_the_estimate_says_which_class_it_stands_on() -> None:
    run = parse_run({"model": "gpt2", "precision": "fp32", "batch": {"micro": 1, "seq_len": 128}})
    assumed = processor_profile("some processor", threads=2)
    measured = estimate(run, assumed.model_copy(update={"basis": "calibrated"}))
    shipped = json.loads(CALIBRATED.read_text())["processor"]
    assert measured.step_time_s is not None
    assert measured.step_time_interval_s == pytest.approx([measured.step_time_s * shipped[k] for k in ("low", "high")])
    assert "no calibration saw" in measured.interval_note
    assert "no calibration saw" not in estimate(run, assumed).interval_note
