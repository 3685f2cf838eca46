"""Verdicts, rows, and the two commands."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

import yaml

from planner.cli import main
from planner.cli.probe import as_text
from planner.errors import PlanError
from planner.evidence.rows import COLUMNS
from planner.probe import prove as prove_module
from planner.probe.cases import Case
from planner.probe.compare import compare
from planner.probe.measure import Measured, Spread
from planner.probe.predict import Predicted, in_terms
from planner.probe.prove import merged, prove
from planner.probe.row import append
from planner.probe.run import Probe, probe
from planner.probe.table import lines, summary, words
from tests.probe import tiny


def measured(median: float = 1.0, low: float = 0.98, high: float = 1.02, **changes: Any) -> Measured:
    spread = Spread(median=median, low=low, high=high)
    phases = {name: Spread(median=share * median, low=low, high=high) for name, share in (("forward", 0.3), ("backward", 0.6), ("optimizer", 0.1))}
    values = {"outcome": "ok", "device": "d", "device_kind": "cuda", "step_time_s": spread, "phases": phases, "allocated_bytes": 1000, **changes}
    return Measured.model_validate(values)


def predicted(step: float = 1.0, interval: tuple[float, float] = (0.9, 1.1), fits: bool | None = True) -> Predicted:
    return Predicted(
        step_time_s=step, step_time_interval_s=interval, phases={"forward": 0.3, "backward": 0.6 + (step - 1.0), "optimizer": 0.1},
        allocated_bytes=1100.0, reserved_bytes=1200.0, reserved_interval_bytes=(1000.0, 1300.0), static_bytes=500.0, fits=fits, basis="fitted",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "planned", "verdict"),
    [
        (measured(), predicted(), "agrees"),
        (measured(), predicted(1.3, (1.2, 1.4)), "faster"),
        (measured(), predicted(0.7, (0.6, 0.8)), "slower"),
        (measured(high=1.25), predicted(1.3, (1.2, 1.4)), "ambiguous"),
        (measured(low=0.6, high=1.15), predicted(1.3, (1.2, 1.4)), "ambiguous"),
        (measured(low=0.99, high=1.01), predicted(1.005, (0.99, 1.001)), "agrees"),
    ],
)
def test_verdicts(found: Measured, planned: Predicted, verdict: str) -> None:
    assert compare(planned, found).verdict == verdict


def test_a_verdict_says_in_which_phase_and_how_far_they_part() -> None:
    found = compare(predicted(1.3, (1.2, 1.4)), measured())
    assert found.time_error == pytest.approx(0.3)
    assert "100% of the difference is in the backward phase, planned longer" in found.why
    assert "peak memory was planned +10%" in found.why
    assert found.memory_error == pytest.approx(0.1)


def test_out_of_memory_is_judged_against_the_plan() -> None:
    for fits, hit in ((True, False), (False, True), (None, None)):
        found = compare(predicted(fits=fits), measured(outcome="oom"))
        assert found.verdict == "unknown"
        assert found.fit_hit is hit


def test_an_unknown_device_has_no_verdict() -> None:
    assert compare(None, measured()).verdict == "unknown"


def test_an_estimate_in_the_terms_of_a_probe_leaves_the_workspace_out_where_tensors_are_tracked() -> None:
    from planner import estimate

    e = estimate(tiny.run(hardware={"gpu": "H100 SXM 80GB"}, activation_checkpointing="full"))
    tracked, allocated = in_terms(e, tracked=True), in_terms(e, tracked=False)
    assert tracked.allocated_bytes < allocated.allocated_bytes == e.peak_memory_bytes
    bare = e.step_time_s - e.total("time/overhead/loop")  # a probe has no training loop around its steps
    assert allocated.step_time_s == pytest.approx(bare)
    assert allocated.energy_per_step_j == pytest.approx(e.details["board_w"] * bare)
    unclipped = in_terms(e, tracked=False, clipped=False)
    assert unclipped.step_time_s == pytest.approx(bare - e.total("time/optimizer/clip"))
    assert sum(tracked.phases.values()) == pytest.approx(e.total("time") - e.total("time/overhead"))


def test_rounds_are_merged_step_by_step() -> None:
    one = measured(1.0, samples=({"step": 1.0, "forward": 0.3, "backward": 0.6, "optimizer": 0.1},) * 2, tokens_per_s=100.0)
    two = measured(3.0, samples=({"step": 3.0, "forward": 1.0, "backward": 1.8, "optimizer": 0.2},) * 3, tokens_per_s=33.0, allocated_bytes=None)
    both = merged([one, two])
    assert both.step_time_s is not None and both.step_time_s.median == 3.0
    assert both.phases["forward"].median == 1.0
    assert both.tokens_per_s == pytest.approx(100 / 3)
    assert both.allocated_bytes == 1000
    loud = two.model_copy(update={"device_kind": "cpu", "others": 0.4})
    calm = one.model_copy(update={"device_kind": "cpu", "others": 0.02})
    assert merged([loud, calm]).step_time_s == Spread(median=1.0, low=1.0, high=1.0)
    assert merged([loud]).step_time_s == Spread(median=3.0, low=3.0, high=3.0)
    assert merged([measured(outcome="oom"), one]).outcome == "ok"
    assert merged([measured(outcome="oom")]).outcome == "oom"


def entry(error: float, kind: str = "uncalibrated", calibrated: float | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"outcome": "ok", "step_time_s": {"median": 1.0, "low": 0.9, "high": 1.1}, "allocated_bytes": 2**20}
    for name, value in ((kind, error), ("calibrated", calibrated)):
        if value is not None:
            compared = {"verdict": "agrees", "time_error": value, "memory_error": 0.01, "reserved_error": None, "energy_error": None, "fit_hit": True}
            made[name] = {"comparison": compared}
    return made


def test_the_summary_counts_sizes_of_errors() -> None:
    found = summary([entry(0.5, calibrated=-0.1), entry(-0.3, calibrated=0.02), entry(0.2, calibrated=0.04)])
    assert found["uncalibrated"]["time_error"] == {"median": 0.3, "mean": pytest.approx(1 / 3), "p95": 0.5, "cases": 3}
    assert found["calibrated"]["time_error"]["median"] == 0.04
    assert found["times_better"] == pytest.approx(7.5)
    assert found["calibrated"]["fit_hits"] == {"hit": 3, "cases": 3}
    assert "reserved_error" not in found["calibrated"]
    assert any("7.5 times smaller" in sentence for sentence in words(found))
    table = lines({"predicted": {"a": entry(0.5), "b": {**entry(0.1), "step_time_s": None}}})
    assert table[1][:4] == ("a", "1 s", "10%", "+50%")
    assert table[2][1] == "out of memory"


def test_a_probe_writes_a_row_that_validate_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.csv"
    for method in ("full", tiny.LORA):
        result = probe(tiny.run(method=method, precision="bf16"), "cpu", steps=1, rows=path)
        assert result.rows == str(path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and rows[0]["id"] != rows[1]["id"]
    assert list(rows[0]) == list(COLUMNS)
    assert rows[1]["method"] == "lora" and rows[1]["lora_r"] == "4" and rows[1]["lora_targets"] == "all-linear"
    assert rows[0]["mem_kind"] == "allocated" and float(rows[0]["peak_mem_gib"]) > 0
    assert "torch" in rows[0]["source"]
    for row in rows:
        row["gpu"] = "H100 SXM 80GB"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(COLUMNS))
        writer.writeheader()
        writer.writerows(rows)
    out = tmp_path / "out.csv"
    assert main(["validate", str(path), "--out", str(out)]) == 0
    capsys.readouterr()
    with out.open(newline="") as file:
        assert all(row["skipped"] == "" and float(row["predicted_step_time_s"]) > 0 for row in csv.DictReader(file))


def test_rows_are_appended_only_to_a_table_of_runs(tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(PlanError, match="no table of measured runs"):
        append(other, {"id": "x"})
    assert other.read_text() == "a,b\n1,2\n"
    short = tmp_path / "short.csv"
    short.write_text("id,outcome,step_time_s\nold,ok,1")
    append(short, {"id": "new", "outcome": "oom", "step_time_s": "", "model": "m"})
    assert short.read_text() == "id,outcome,step_time_s\nold,ok,1\nnew,oom,\n"
    with pytest.raises(PlanError, match="cannot be read"):
        append(tmp_path, {"id": "x"})
    with pytest.raises(PlanError, match="folder that does not exist"):
        probe(tiny.run(), "cpu", rows=tmp_path / "none" / "rows.csv")


def test_the_command_prints_measured_beside_planned_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"model": tiny.LLAMA, "method": tiny.LORA, "precision": "bf16", "batch": {"micro": 2, "seq_len": 16}}))
    assert main(["probe", str(path), "--device", "cpu", "--steps", "2"]) == 0
    shown = capsys.readouterr().out
    assert "measured" in shown and "Backward" in shown and "Peak of tensors" in shown
    assert main(["probe", str(path), "--device", "cpu", "--steps", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"measured", "predicted", "comparison", "row", "run"} <= set(document)
    assert document["measured"]["outcome"] == "ok"


def test_out_of_memory_prints_the_extrapolation_and_a_gpu_its_energy() -> None:
    found = measured(depths=(2, 4), power_w=400.0, energy_per_step_j=401.0, reserved_bytes=2**30, notes=("2 and 4 layers.",))
    oom = measured(outcome="oom", oom="CUDA out of memory.", step_time_s=None, phases={})
    common = {"predicted": predicted(), "row": {}, "run": tiny.run()}
    shown = as_text(Probe(measured=oom, extrapolated=found, comparison=compare(predicted(), oom), **common))
    for words_shown in ("Out of memory", "CUDA out of memory.", "extrapolated", "401 J", "400 W measured", "Reserved peak", "2 and 4 layers."):
        assert words_shown in shown
    assert "Step" not in as_text(Probe(measured=oom, comparison=compare(predicted(), oom), **common))


@pytest.mark.parametrize(
    ("arguments", "field"),
    [(["--steps", "0"], "steps"), (["--device", "toaster"], "device"), (["--rows", "/none/x.csv"], "rows"), (["--profile", "/none.json"], "profile")],
)
def test_bad_input_is_one_line_and_exit_code_two(arguments: list[str], field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"model": tiny.LLAMA, "batch": {"seq_len": 16}}))
    assert main(["probe", str(path), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"planner: {field}: ") and error.count("\n") == 1


def test_a_proof_is_resumed_and_predicts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "proof.json"
    cases = [Case("a", tiny.run()), Case("b", tiny.run(tiny.VIT, seq=None)), Case("refused", tiny.run(precision="fp8"))]
    real, calls = prove_module.measure, []

    def counted(run: Any, *args: Any, **more: Any) -> Measured:
        calls.append(run)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(run, *args, **more)

    monkeypatch.setattr(prove_module, "measure", counted)
    with pytest.raises(KeyboardInterrupt):
        prove(cases, "cpu", out, rounds=2, seconds=0.0)
    document = prove(cases, "cpu", out, rounds=2, seconds=0.0)
    assert len(calls) == 1 + 1 + 1 + 1 + 2  # a; b, interrupted; b; refused; a and b again
    assert document["missing"] == ["refused"]
    assert "precision" in document["rows"]["refused"]["problem"]
    assert len(document["rows"]["a"]["rounds"]) == 2
    assert document["predicted"]["a"]["allocated_bytes"] > 0  # tracked in the first round
    prove(cases, "cpu", out, rounds=2)
    assert len(calls) == 6
    assert json.loads(out.read_text())["summary"]["cases"] == 2


def test_a_proof_of_something_else_is_not_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "proof.json"
    cases = [Case("a", tiny.run())]
    for text in ("nonsense", "[]", '{"version": 99}'):
        out.write_text(text)
        with pytest.raises(PlanError, match="no proof to go on with"):
            prove(cases, "cpu", out)
    out.write_text(json.dumps({"version": 1, "device": "another", "versions": {}, "rows": {}}))
    with pytest.raises(PlanError, match="another device"):
        prove(cases, "cpu", out)
    with pytest.raises(PlanError, match="folder that does not exist"):
        prove(cases, "cpu", tmp_path / "none" / "proof.json")


def test_prove_refuses_bad_input_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, field in ((["--rounds", "0"], "rounds"), (["--only", "no such run"], "only"), (["--device", "toaster"], "device")):
        assert main(["prove", *arguments]) == 2
        assert capsys.readouterr().err.startswith(f"planner: {field}: ")


def test_the_command_proves_a_part_of_the_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("planner.probe.matrix.matrix", lambda device: [Case("tiny one", tiny.run(), True), Case("tiny two", tiny.run())])
    out = tmp_path / "proof.json"
    assert main(["prove", "--device", "cpu", "--quick", "--rounds", "1", "-o", str(out)]) == 0
    assert "tiny one" in capsys.readouterr().out
    assert main(["prove", "--device", "cpu", "--only", "two", "--rounds", "1", "-o", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["predicted"].keys() == {"tiny two"}
    assert document["missing"] == []
