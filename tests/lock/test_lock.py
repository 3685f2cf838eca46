"""A locked plan: it reads back, says what has changed since, and keeps or breaks its limits with an exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner import PlanError, Run, estimate
from planner.catalog import find_accelerator
from planner.cli import main
from planner.device import default_profile
from planner.lock import Limits, Lock, changes, check_limits, load_lock, lock_of, lock_text, parse_lock, pinned
from planner.lock.document import _content_hash

NAME = "H100 SXM 80GB"
RUN: dict[str, Any] = {"model": "gpt2", "hardware": {"gpu": NAME}, "batch": {"micro": 4, "seq_len": 512}, "data": {"tokens": "50M"}}
TINY = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128, "max_position_embeddings": 64, "tie_word_embeddings": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def lock() -> Lock:
    run = Run.model_validate(RUN)
    return lock_of(run, estimate(run))


def edited(lock: Lock, **parts: Any) -> Lock:
    """The lock as it would have been written with other parts."""
    document = lock.model_dump(mode="json")
    for name, more in parts.items():
        document[name] = {**document[name], **more}
    changed = Lock.model_validate(document)
    return changed.model_copy(update={"sha256": _content_hash(changed)})


def now_of(lock: Lock) -> tuple[Any, tuple[Any, ...]]:
    run, moved = pinned(lock)
    return estimate(run), moved


def test_a_lock_reads_back_and_nothing_has_changed(lock: Lock) -> None:
    text = lock_text(lock)
    again = parse_lock(json.loads(text))
    assert again == lock
    assert lock_text(again) == text
    now, moved = now_of(again)
    assert changes(again, now) == moved == ()
    assert now.model_dump() == estimate(Run.model_validate(RUN)).model_dump()


def test_it_holds_inputs_every_default_and_what_it_stands_on(lock: Lock) -> None:
    assert lock.inputs == {**RUN, "data": {"tokens": 50_000_000}}
    assert lock.resolved["optimizer"] == "adamw" and lock.resolved["attention"] == "sdpa"
    assert lock.pins.model["name"] == "openai-community/gpt2" and len(lock.pins.model["config_sha256"]) == 64
    assert lock.pins.accelerators["H100 SXM 80GB"]["tdp_w"] == 700
    assert lock.pins.price and str(lock.pins.price["date"]) <= lock.catalogue["date"]
    assert lock.pins.calibration is None
    assert {"planner", "engine", "python", "numpy"} <= set(lock.versions)


def test_a_model_named_by_its_path_stands_in_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TINY), encoding="utf-8")
    run = Run.model_validate({**RUN, "model": str(path)})
    made = lock_of(run, estimate(run))
    path.unlink()
    assert made.inputs["model"]["hidden_size"] == 32
    now, moved = now_of(parse_lock(json.loads(lock_text(made))))
    assert not [one for one in changes(made, now) if one.kind == "figure"] and not moved
    assert str(tmp_path) not in lock_text(made)


def test_what_has_changed_is_named(lock: Lock) -> None:
    old = edited(
        lock,
        pins={"accelerators": {NAME: {**lock.pins.accelerators[NAME], "tdp_w": 650.0}}, "price": {"usd_per_gpu_hour": 9.0, "provider": "x"}},
        catalogue={"date": "2025-01-01", "prices": "0"},
        versions={"planner": "0.0.9", "engine": "0", "peft": "0.1"},
        figures={"cost_usd": 2 * (lock.figures.cost_usd or 0), "fits": None},
    )
    now, moved = now_of(old)
    assert not moved
    found = {(one.kind, one.name): one.text for one in changes(old, now)}
    assert found["accelerator", "H100 SXM 80GB.tdp_w"] == "Accelerator H100 SXM 80GB: tdp_w was 650, is 700."
    assert found["price", "price"].startswith("Price of a GPU-hour: $9.00 (x) then, $")
    assert "2025-01-01" in found["catalogue", "date"] and ("catalogue", "prices") in found
    assert found["version", "planner"].startswith("Locked by Plumbline 0.0.9")
    assert ("version", "engine") in found and found["version", "peft"].startswith("peft 0.1 then, ")
    assert found["figure", "fits"] == "Verdict: too close to call then, fits now."
    assert "(−50 %)" in found["figure", "cost_usd"]
    assert len(found) == 9


def test_a_default_that_has_moved_is_pinned_to_what_it_was(lock: Lock) -> None:
    old = edited(lock, resolved={"attention": "eager"})
    run, moved = pinned(old)
    assert run.attention == "eager" and run.optimizer == "adamw"
    assert [one.text for one in moved] == ["attention: the default was eager and is sdpa now; the plan keeps eager."]
    formats = {"weights": "fp32", "compute": "bf16", "autocast": True, "master_weights": False}
    assert now_of(edited(lock, resolved={"precision": formats}))[0].run.precision.model_dump(include=set(formats)) == formats
    assert [one.text for one in pinned(edited(lock, resolved={"colour": "red"}))[1]] == ["Fields of the plan that a run does not have: colour."]
    gone = edited(lock, resolved={"attention": "ring of fire"})
    run, moved = pinned(gone)
    assert run.attention is None and "not possible any more" in moved[0].text


def test_another_calibration_is_named(lock: Lock) -> None:
    profile = default_profile(find_accelerator(NAME))
    run = Run.model_validate(RUN)
    measured = lock_of(run, estimate(run, profile), profile)
    assert not [one for one in changes(measured, estimate(run, profile), profile) if one.kind == "calibration"]
    other = profile.model_copy(update={"name": "another"})
    assert next(one.text for one in changes(measured, estimate(run, other), other) if one.kind == "calibration").endswith(").")
    assert "load its profile" in next(one.text for one in changes(measured, estimate(run)) if one.kind == "calibration")
    assert "no calibration" in next(one.text for one in changes(lock, estimate(run, profile), profile) if one.kind == "calibration")


def test_limits_hold_or_break_and_what_is_unknown_does_not_hold(lock: Lock) -> None:
    one = estimate(Run.model_validate(RUN))
    assert one.cost_usd and one.total_time_s and one.energy_kwh and one.co2e_kg and one.step_time_s and one.step_time_interval_s
    limits = Limits(one.cost_usd, one.total_time_s, one.peak_reserved_bytes, one.energy_kwh, one.co2e_kg)
    assert [check.holds for check in check_limits(one, limits)] == [True] * 6
    sure = Limits(one.cost_usd, one.total_time_s, one.peak_reserved_bytes, one.energy_kwh, one.co2e_kg, sure=True)
    assert [check.holds for check in check_limits(one, sure)] == [True] + [False] * 5
    high = check_limits(one, Limits(time_s=1.0, sure=True))[1].value
    assert high == pytest.approx(one.total_time_s * one.step_time_interval_s[1] / one.step_time_s)
    unknown = check_limits(one.model_copy(update={"cost_usd": None}), Limits(cost_usd=1e9))[1]
    assert not unknown.holds and "not known" in unknown.text
    close = one.model_copy(update={"fits": None})
    assert not check_limits(close, Limits())[0].holds and check_limits(close, Limits(close=True))[0].holds
    assert not check_limits(close.model_copy(update={"usable_memory_bytes": None}), Limits(close=True))[0].holds


def test_the_commands_and_their_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, path = tmp_path / "run.json", tmp_path / "plan.lock"
    run.write_text(json.dumps(RUN), encoding="utf-8")
    assert main(["lock", str(run), "-o", str(path)]) == 0
    first = path.read_bytes()
    assert main(["lock", str(run), "-o", str(path)]) == 0 and path.read_bytes() == first
    capsys.readouterr()
    assert main(["check", str(path), "--max-cost", "500", "--deadline", "24h", "--max-memory", "70 GiB", "--unchanged"]) == 0
    assert "Nothing has changed" in capsys.readouterr().out
    assert main(["check", str(path), "--max-cost", "0.01", "--json"]) == 3
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert not told["holds"] and [one["holds"] for one in told["checks"]] == [True, False] and told["changes"] == []
    assert main(["check", str(run), "--deadline", "1s"]) == 3  # a run file can be checked as well
    assert main(["check", str(path), "--max-cost", "much"]) == 2
    old = edited(load_lock(path), resolved={"attention": "eager"})
    path.write_text(lock_text(old), encoding="utf-8")
    assert main(["check", str(path)]) == 0 and main(["check", str(path), "--unchanged"]) == 3
    path.write_text(lock_text(old).replace("eager", "flash"), encoding="utf-8")
    capsys.readouterr()
    assert main(["check", str(path)]) == 2
    assert "changed by hand" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"lock_version": 2}', '{"lock_version": 1}', "[" * 5000, "\x00"])
def test_what_is_no_lock_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.lock"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PlanError) as caught:
        load_lock(path)
    assert "\n" not in str(caught.value)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "plan.lock"
    with path.open("wb") as file:
        file.truncate(5 * 2**20)
    with pytest.raises(PlanError, match="larger than 4 MiB"):
        load_lock(path)
