"""A probe is kept, and the plan of that very run on that device then stands on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from planner import estimate
from planner.cli import main
from planner.device.conditions import Conditions
from planner.device.processor import processor_profile
from planner.device.profile import DeviceProfile
from planner.evidence import own
from planner.probe.device import open_device
from tests.probe import tiny


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANNER_DATA", str(tmp_path / "data"))


def profile_of_this_machine() -> DeviceProfile:
    device = open_device("cpu")
    where = Conditions(device=device.name, kind="cpu", torch="x", python="3", date="2026-01-01T00:00:00+00:00", seconds=1.0)
    return processor_profile(device.name, threads=2).model_copy(update={"conditions": where, "basis": "calibrated"})


def kept(key: str, steps: tuple[float, ...] = (0.9, 1.0, 1.1), **changes: Any) -> own.Own:
    values = {"key": key, "device": open_device("cpu").name, "steps": steps, "versions": {"torch": "2"}, "date": "2026-01-01", **changes}
    return own.Own.model_validate(values)


def test_a_probe_then_an_estimate_stands_on_the_measurement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, profile = tmp_path / "run.json", tmp_path / "cpu.json"
    run.write_text(tiny.run(tiny.GPT2).model_dump_json(exclude_unset=True))
    profile_of_this_machine().dump(profile)
    told = ["--profile", str(profile), "--json"]
    assert main(["probe", str(run), "--device", "cpu", "--steps", "4", *told]) == 0
    probed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert probed["kept"] == str(tmp_path / "data" / own.FILE)
    assert main(["estimate", str(run), *told]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    median = probed["measured"]["step_time_s"]["median"]
    assert found["basis"] == "measured"
    assert found["step_time_s"] == pytest.approx(median)
    low, high = found["step_time_interval_s"]
    assert low <= 0.98 * median < 1.02 * median <= high
    parts = sum(term["value"] for term in found["terms"] if term["name"].startswith("time/"))
    assert parts == pytest.approx(median)
    assert main(["estimate", str(run), *told, "--no-measured"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["basis"] == "calibrated"


def test_another_run_another_device_and_two_gpus_do_not_stand_on_it(tmp_path: Path) -> None:
    profile, run = profile_of_this_machine(), tiny.run()
    key = own.key_of(own.resolve(run, profile))
    own.keep(kept(key))
    assert own.find(run, profile) is not None
    assert own.find(tiny.run(seq=16), profile) is None
    assert own.find(tiny.run(method=tiny.LORA), profile) is None
    other = profile.conditions.model_copy(update={"device": "another"}) if profile.conditions else None
    assert own.find(run, profile.model_copy(update={"conditions": other})) is None
    assert own.find(tiny.run(hardware={"gpu": "H100 SXM 80GB"}), None) is None
    assert own.key_of(own.resolve(tiny.run(data={"tokens": 1e6}), profile)) == key


def test_several_probes_speak_together_and_bad_lines_are_left_out(tmp_path: Path) -> None:
    profile, run = profile_of_this_machine(), tiny.run()
    key = own.key_of(own.resolve(run, profile))
    for steps in ((9.0,), (1.0, 1.0), (1.2,)):
        own.keep(kept(key, steps, versions={"torch": "1" if steps == (9.0,) else "2"}))
    with (tmp_path / "data" / own.FILE).open("a") as handle:
        handle.write('{"key": "cut o')
    seen = own.find(run, profile)
    assert seen is not None
    assert seen.seconds == 1.0  # steps under another torch are another run
    assert seen.low == pytest.approx(0.98)
    assert seen.high > 1.1
    assert "3 steps" in seen.source
    assert "2 probes" in seen.source
    made = estimate(run, profile, seen)
    assert made.step_time_interval_s == (seen.low, seen.high)
    assert made.tokens_per_s == pytest.approx(64 / seen.seconds)
    assert seen.source in made.interval_note
