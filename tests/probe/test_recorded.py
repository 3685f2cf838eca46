"""Rows that a plain recorder wrote (kernels and steps, one JSON object a line) become a profile and judged steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from planner import load_profile
from planner.calibrate.recorded import calibration_of, read_lines, samples_of
from planner.catalog import find_accelerator
from planner.cli import main
from planner.device import default_profile
from planner.errors import PlanError
from planner.probe.recorded import judge, run_of

PART = find_accelerator("H100 SXM 80GB")
DEVICE = {
    "kind": "device", "torch": "2.11.0", "cuda": "13.0", "utc": "2026-01-01T00:00:00Z", "name": "NVIDIA H100 80GB HBM3", "total_memory": 85029158912,
    "sms": 132, "l2": 52428800, "driver": "580.65", "power_limit_mw": 700000, "sm_mhz": 1980, "temp_c": 35,
}  # fmt: skip
LLAMA = {
    "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256, "tie_word_embeddings": True,
}  # fmt: skip


def kernels(rate: float = 0.7) -> list[dict[str, Any]]:
    """A device that multiplies at `rate` of the published curves."""
    profile, rows = default_profile(PART), []
    for m, n, k in ((4096, 4096, 4096), (8192, 8192, 2048), (2048, 14336, 4096), (1024, 1024, 1024), (16384, 4096, 4096)):
        for layout, sizes in (("fwd", (m, n, k)), ("dgrad", (m, k, n)), ("wgrad", (n, k, m))):
            known: Any = "forward" if layout == "fwd" else layout
            seconds = float(profile.matmul_seconds(*sizes, "bf16", layout=known)) / rate
            rows.append({"kind": "matmul", "m": m, "n": n, "k": k, "layout": layout, "dtype": "bfloat16", "seconds": seconds, "iqr": 0.0, "repeats": 5})
    for length, backend in ((2048, "FLASH_ATTENTION"), (4096, "FLASH_ATTENTION"), (2048, "CUDNN_ATTENTION")):
        for mode, seconds in (("fwd", 1e-3), ("fwd+bwd", 3.5e-3)):
            rows.append(
                {"kind": "attention", "batch": 4, "seq": length, "heads": 32, "head_dim": 128, "causal": 1, "backend": backend, "mode": mode,
                 "dtype": "bfloat16", "seconds": seconds}
            )  # fmt: skip
    rows += [
        {"kind": "elementwise", "op": op, "elements": 2**24, "dtype": "bfloat16", "seconds": 1e-4} for op in ("copy", "add", "gelu", "silu_mul", "dropout")
    ]
    rows += [{"kind": "norm", "op": op, "rows": 8192, "width": 4096, "mode": m, "dtype": "bfloat16", "seconds": s}
             for op in ("layer", "rms-eager") for m, s in (("fwd", 1e-4), ("fwd+bwd", 4e-4))]  # fmt: skip
    rows += [{"kind": "optimizer", "op": "adamw", "impl": impl, "tensors": 200, "elements_each": 2**20, "dtype": "bfloat16", "seconds": 3e-3}
             for impl in ("foreach", "fused", "forloop")]  # fmt: skip
    rows += [{"kind": "transfer", "way": way, "bytes": 2**28, "pinned": 1, "seconds": 2**28 / 50e9} for way in ("h2d", "d2h")]
    rows += [{"kind": "launch", "op": "1000 tiny in-place adds", "seconds": 4e-3}, {"kind": "cross_entropy", "rows": 8, "vocab": 9, "seconds": 1e-3}]
    return [*rows, {"kind": "matmul", "m": 1, "error": "OutOfMemoryError: no"}, {"kind": "end", "seconds": 200}]


def step(case: str, **changes: Any) -> dict[str, Any]:
    known = {
        "kind": "step", "case": case, "model": "llama-1b", "config": LLAMA, "method": "full", "rank": 0, "targets": None, "precision": "bf16",
        "micro_batch": 4, "seq_len": 1024, "checkpointing": 0, "attention": "sdpa", "transformers": "5.24", "peft": "0.21", "parameters": 1,
        "step_time_s": 0.2, "step_min_s": 0.19, "step_max_s": 0.22, "steps": 10, "forward_s": 0.05, "backward_s": 0.1, "optimizer_s": 0.05,
        "static_bytes": 2**33, "peak_allocated": 2**34, "peak_reserved": 2**34 + 2**30, "energy_j_per_step": 120.0, "mean_power_w": 600.0,
        "sm_mhz": 1900,
    }  # fmt: skip
    return known | changes


def write(path: Path, rows: list[dict[str, Any]], tail: str = "") -> Path:
    path.write_text("\n".join(json.dumps(row) for row in [DEVICE, *rows]) + "\n" + tail)
    return path


def test_kernels_become_a_profile_that_has_learned_the_device(tmp_path: Path) -> None:
    calibration = calibration_of(write(tmp_path / "k.jsonl", kernels(), tail='{"kind": "mat'))
    profile, prior = calibration.profile, default_profile(PART)
    assert (profile.basis, profile.accelerator_name) == ("calibrated", "H100 SXM 80GB")
    assert profile.matmul_seconds(6000, 4096, 4096, "bf16") / prior.matmul_seconds(6000, 4096, 4096, "bf16") == pytest.approx(1 / 0.7, rel=0.08)
    assert calibration.conditions.power_limit_w == 700.0
    measured = profile.measured
    assert measured is not None
    assert measured.host_link == pytest.approx(50e9)
    assert set(measured.updates) == {"adamw", "adamw-fused"}
    assert profile.dispatch_seconds == pytest.approx(4e-6)
    assert measured.operators["layer_norm/bf16/backward"].seconds == pytest.approx((3e-4,))
    backward = [s for s in calibration.samples if s.benchmark == "backends" and s.case["backward"]]
    assert {s.case["backend"] for s in backward} == {"flash", "cudnn"}
    assert all(s.seconds == pytest.approx(2.5e-3) for s in backward)


def test_steps_are_judged_like_those_of_a_probe(tmp_path: Path) -> None:
    rows = [
        step("full"), step("lora", method="lora", rank=16, targets="all-linear"), step("sgd", precision="bf16-sgd", checkpointing=1),
        step("oom", outcome="oom"), step("bad", method="nonsense"), step("ln", method="ln"), step("prompt", method="prompt", rank=8),
        step("bert", config={"model_type": "bert"}, method="bitfit", precision="fp32", seq_len=128),
        step("head", config={"model_type": "bert"}, method="head", precision="fp32", seq_len=128),
        step("vit", config={"model_type": "vit"}, precision="bf16-mixed", seq_len=197),
        step("broken", error="RuntimeError: no"), {"kind": "stopped", "why": "budget"},
    ]  # fmt: skip
    document = judge(write(tmp_path / "s.jsonl", rows), default_profile(PART))
    assert set(document["predicted"]) == {"full", "lora", "sgd", "oom", "ln", "prompt", "bert", "head", "vit"}
    assert "nonsense" in document["rows"]["bad"]["problem"]
    full = document["predicted"]["full"]
    assert full["step_time_s"] == {"median": 0.2, "low": 0.19, "high": 0.22}
    for kind in ("uncalibrated", "calibrated"):
        assert full[kind]["comparison"]["verdict"] in ("agrees", "faster", "slower", "ambiguous")
        assert full[kind]["comparison"]["memory_error"] is not None
        assert full[kind]["comparison"]["energy_error"] is not None
    assert document["summary"]["out_of_memory"] == 1
    assert document["summary"]["uncalibrated"]["time_error"]["cases"] == 8


def test_what_was_switched_off_in_the_recording_is_off_in_the_run() -> None:
    run = run_of(step("x", config={"model_type": "bert"}, method="bitfit", precision="fp32"))
    assert isinstance(run.model, dict)
    assert (run.model["hidden_dropout_prob"], run.model["attention_probs_dropout_prob"]) == (0.0, 0.0)
    lora = run_of(step("x", method="lora", rank=16, targets=["q_proj"]))
    assert (lora.method.rank, lora.method.alpha) == (16, 32)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "does not say on which device"), ("no json\n{}", "no row in line 1"), ('{"kind": 3}\n{}', "no row in line 1")],
)
def test_a_file_of_another_kind_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(PlanError, match=words):
        read_lines(path)
    with pytest.raises(PlanError, match="cannot be read"):
        read_lines(tmp_path / "none.jsonl")


def test_rows_without_what_is_asked_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="holds no training step"):
        judge(write(tmp_path / "a.jsonl", kernels()))
    with pytest.raises(PlanError, match="holds no kernel"):
        calibration_of(write(tmp_path / "b.jsonl", [step("x")]))
    with pytest.raises(PlanError, match="lacks"):
        samples_of([{"kind": "matmul", "m": 3}])


def test_both_commands_read_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "r.jsonl", [*kernels(), step("full"), step("oom", outcome="oom")])
    profile = tmp_path / "h100.json"
    assert main(["calibrate", "--recorded", str(source), "--out", str(profile), "--json"]) == 0
    assert load_profile(profile).basis == "calibrated"
    proof = tmp_path / "proof.json"
    capsys.readouterr()
    assert main(["prove", "--recorded", str(source), "--profile", str(profile), "--out", str(proof)]) == 0
    said = capsys.readouterr().out
    assert "2 of 2 runs" in said
    assert "calibrated: step time off by" in said
    assert set(json.loads(proof.read_text())["predicted"]) == {"full", "oom"}
    assert main(["prove", "--recorded", str(tmp_path / "none"), "--out", str(proof)]) == 2
