"""A real measurement of this machine's processor: short, complete, resumable, and of use to an estimate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")

from planner import Run, estimate, load_profile
from planner.calibrate import Calibration, Sample, calibrate, runner
from planner.calibrate.benchmarks import Case, benchmarks
from planner.calibrate.budget import parse_budget
from planner.calibrate.focus import cases_of
from planner.calibrate.hardware import open_hardware
from planner.calibrate.partial import Partial
from planner.calibrate.result import load_samples
from planner.calibrate.runner import _queue
from planner.cli import main
from planner.device import DeviceProfile
from planner.device.processor import processor_profile
from planner.errors import PlanError

TINY = {
    "model": {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 256},
    "precision": "fp32",
    "batch": {"micro": 2, "seq_len": 32},
}


@pytest.fixture(scope="module")
def measured() -> Calibration:
    return calibrate("cpu", 5)


def test_a_short_measurement_touches_every_benchmark(measured: Calibration) -> None:
    device = open_hardware("cpu")
    present = {b.name for b in benchmarks() if any(True for _ in b.cases(device))}
    queue = _queue(device, (), set())
    assert {name for name, _, _, _ in queue[: len(present)]} == present
    assert measured.samples[0].benchmark == queue[0][0]
    assert measured.conditions.seconds < 30
    assert measured.conditions.kind == "cpu"
    assert all(s.raw and s.seconds > 0 for s in measured.samples)


def test_the_profile_plans_a_run_on_this_machine(measured: Calibration, tmp_path: Path) -> None:
    path, beside = measured.save(tmp_path / "cpu.json")
    profile = load_profile(path)
    assert profile == measured.profile
    answer = estimate(Run.model_validate(TINY), profile)
    assert answer.basis == "calibrated"
    assert answer.step_time_s is not None
    assert 1e-4 < answer.step_time_s < 1.0
    loaded, samples = load_samples(beside)
    assert (loaded, samples) == (measured.conditions, measured.samples)


def test_the_run_at_hand_is_measured_first(measured: Calibration) -> None:
    wanted = cases_of(Run.model_validate({**TINY, "hardware": {"gpus": 1}}), "cpu")
    shapes = [case.shape for name, case in wanted if name == "matmul"]
    assert {"m": 64, "n": 256, "k": 64, "batch": 1, "dtype": "fp32", "layout": "forward"} in shapes  # the head
    seen: list[Sample] = []
    calibrate("cpu", 5, first=wanted[:3], keep=seen.append, cancelled=lambda: len(seen) >= 3)
    assert [s.case for s in seen] == [case.shape for _, case in wanted[:3]]


def test_cancelling_keeps_what_was_measured_and_resuming_does_not_repeat_it() -> None:
    kept: list[Sample] = []
    first = calibrate("cpu", 5, keep=kept.append, cancelled=lambda: len(kept) >= 4)
    assert first.samples == tuple(kept)
    again: list[Sample] = []
    second = calibrate("cpu", 5, finished=kept, keep=again.append, cancelled=lambda: len(again) >= 4)
    assert second.samples == (*kept, *again)
    assert not {(s.benchmark, str(s.case)) for s in kept} & {(s.benchmark, str(s.case)) for s in again}


def test_samples_survive_a_kill_in_the_middle_of_a_line(tmp_path: Path, measured: Calibration) -> None:
    partial = Partial(tmp_path / "p.jsonl")
    with partial.open(fresh=True) as keep:
        for sample in measured.samples[:3]:
            keep(sample)
    with partial.path.open("a") as handle:
        handle.write('{"benchmark": "matm')
    assert partial.read() == measured.samples[:3]
    partial.path.write_text("no\n" + partial.path.read_text())
    with pytest.raises(PlanError, match="no sample in line 1"):
        partial.read()


def test_a_case_that_does_not_run_here_is_a_warning_and_many_in_a_row_are_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Callable[[], object]:
        raise RuntimeError("this kernel is not for you")

    def work() -> Callable[[], object]:
        return lambda: None

    ran: list[float] = []
    cases = [Case({"n": float(n)}, work if n in (0, 3) else broken) for n in range(60)]
    queue = [("matmul", "Products", case, 0.01) for case in cases]
    monkeypatch.setattr(runner, "_queue", lambda hardware, first, done: queue)
    monkeypatch.setattr(runner, "fit_profile", lambda *_, **__: measured_profile())
    told: list[tuple[str, ...]] = []
    found = calibrate("cpu", 5, progress=lambda label, share: ran.append(share), warned=told.append)
    assert [s.case for s in found.samples] == [{"n": 0.0}, {"n": 3.0}]
    assert len(ran) == 4 + 20
    assert "not_run" in found.conditions.warnings
    assert told[-1] == ("not_run",)


def test_what_takes_long_to_prepare_is_left_to_long_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    quick, slow = (Case({"n": n}, lambda: lambda: None, least) for n, least in ((1.0, 0.0), (2.0, 300.0)))
    monkeypatch.setattr(runner, "_queue", lambda hardware, first, done: [("matmul", "Products", c, 0.01) for c in (slow, quick)])
    monkeypatch.setattr(runner, "fit_profile", lambda *_, **__: measured_profile())
    planned: dict[str, int] = {}
    assert [s.case for s in calibrate("cpu", 5, planned=planned.update).samples] == [{"n": 1.0}]
    assert planned == {"matmul": 1}
    assert {s.case["n"] for s in calibrate("cpu", 300).samples} == {1.0, 2.0}


def measured_profile() -> DeviceProfile:
    return processor_profile("a processor", threads=2)


@pytest.mark.parametrize("budget", ["fast", "-3", "nan", "1", 1e9])
def test_a_budget_is_a_name_or_seconds(budget: str | float) -> None:
    with pytest.raises(PlanError, match="budget"):
        parse_budget(budget)


def test_the_command_writes_a_profile_and_says_so_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine.json"
    assert main(["calibrate", "--device", "cpu", "--budget", "5", "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["profile"] == str(out)
    assert document["cases"] >= 1
    assert load_profile(out).basis == "calibrated"
    assert not list(tmp_path.glob("*.partial.jsonl"))


@pytest.mark.parametrize(
    ("arguments", "field"),
    [(["--device", "abacus"], "device"), (["--budget", "soon"], "budget"), (["--out", "/no/such/folder/p.json"], "out")],
)
def test_bad_input_is_one_line(arguments: list[str], field: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--device", "cpu", *arguments]) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith(f"planner: {field}")
    assert "\n" not in line
