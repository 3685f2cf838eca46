"""Suggestions are the engine's own answers about changed runs, within a budget, and the verdict and figures say what is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import planner.advise
from planner import Estimate, PlanError, Run, estimate, load_profile
from planner.advise import MAX_ESTIMATES, Suggestion, advise, apply, delta_texts, suggest
from planner.catalog import find_accelerator
from planner.device.default import default_profile
from planner.run import parse_run
from planner.summary import (
    NARROW,
    duration_text,
    facts,
    headline,
    key_figures,
    kind_parts,
    known_digits,
    memory_parts,
    spread_text,
    time_parts,
    verdict,
)
from planner.units import GIB

FITTING: dict[str, Any] = {
    "model": "google-bert/bert-base-uncased",
    "hardware": "T4",
    "precision": "fp32",
    "attention": "eager",
    "activation_checkpointing": "full",
    "batch": {"micro": 8, "accumulation": 4, "seq_len": 384},
    "data": {"samples": 80000},
}
TOO_LARGE: dict[str, Any] = {
    "model": "meta-llama/Llama-3.1-8B",
    "hardware": "H100 SXM 80GB",
    "precision": "bf16",
    "batch": {"micro": 4, "accumulation": 4, "seq_len": 2048},
    "data": {"samples": 50000},
}
FAR_TOO_LARGE: dict[str, Any] = {
    "task": "pretrain",
    "model": "EleutherAI/gpt-neox-20b",
    "hardware": {"gpu": "V100 SXM2 32GB", "gpus": 4},
    "precision": "fp16-mixed",
}
RUNS = [FITTING, TOO_LARGE, FAR_TOO_LARGE]


def answers(mapping: dict[str, Any], limit: int = 6) -> tuple[Run, Estimate, tuple[Suggestion, ...]]:
    run = parse_run(mapping)
    result = estimate(run)
    return run, result, suggest(run, result, limit=limit)


@pytest.mark.parametrize("mapping", RUNS, ids=lambda m: str(m["model"]))
def test_a_suggestion_is_the_estimate_of_the_changed_run(mapping: dict[str, Any]) -> None:
    run, before, suggestions = answers(mapping)
    assert suggestions
    assert len({s.title for s in suggestions}) == len(suggestions) <= 6
    for s in suggestions:
        again = estimate(apply(run, s.change))
        assert again.step_time_s == s.estimate.step_time_s
        assert again.fits == s.fits == s.estimate.fits
        assert s.delta_memory_bytes == again.peak_reserved_bytes - before.peak_reserved_bytes
        if before.cost_usd is not None and again.cost_usd is not None:
            assert s.delta_cost_usd == pytest.approx(again.cost_usd - before.cost_usd)
        if before.total_time_s is not None:
            assert s.delta_time_s == pytest.approx(again.total_time_s - before.total_time_s)


def test_changes_of_a_fitting_run_fit_and_save_time_or_money() -> None:
    _, before, suggestions = answers(FITTING)
    assert before.fits
    topics = {s.topic for s in answers(FITTING, limit=20)[2]}
    assert {"checkpointing", "precision", "hardware"} <= topics
    for s in suggestions:
        assert s.fits
        cheaper = s.delta_cost_usd is not None and s.delta_cost_usd < -0.009 * (before.cost_usd or 0)
        assert cheaper or (s.time_ratio is not None and s.time_ratio < 0.991)


def test_changes_of_a_run_that_does_not_fit_make_it_fit_or_nearly() -> None:
    _, before, suggestions = answers(TOO_LARGE)
    assert before.fits is False
    assert all(s.fits is not False for s in suggestions)
    certain = [s.fits is True for s in suggestions]
    assert certain == sorted(certain, reverse=True)
    for part in (True, None):
        lost = [max(0.0, round((s.time_ratio or 0) - 1, 2)) for s in suggestions if s.fits is part]
        assert lost == sorted(lost)
    assert any(s.topic == "gpus" for s in suggestions)


def test_the_global_batch_is_held() -> None:
    run, _, suggestions = answers(TOO_LARGE, limit=20)
    batch = 16
    assert run.batch.micro * run.batch.accumulation == batch
    for s in suggestions:
        after = s.estimate.run
        assert after.batch.micro * after.batch.accumulation * after.dp == batch or "global batch" in s.title


def test_more_gpus_are_the_fewest_that_help() -> None:
    run, _, suggestions = answers(TOO_LARGE)
    more = next(s for s in suggestions if s.topic == "gpus")
    gpus = more.estimate.run.hardware.gpus
    assert gpus > 1
    smaller = {"hardware.gpus": gpus // 2, "batch.micro": max(1, 8 // gpus), "batch.accumulation": 32 // gpus // max(1, 8 // gpus)}
    assert gpus == 2 or estimate(apply(run, dict(more.change) | smaller)).fits is not True


def test_advice_stays_within_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    for mapping in RUNS:
        run = parse_run(mapping)
        advice = advise(run, estimate(run))
        assert 5 <= advice.tried <= MAX_ESTIMATES
        assert advice.impossible < advice.tried
    monkeypatch.setattr(planner.advise, "MAX_ESTIMATES", 3)
    assert advise(run, estimate(run)).tried == 3


def test_a_change_that_cannot_be_planned_is_counted_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    run = parse_run(FITTING)
    result = estimate(run)

    def refuse(run: Run, change: object) -> Run:
        raise PlanError("batch.micro", 0, "is refused", "None.")

    monkeypatch.setattr(planner.advise, "apply", refuse)
    advice = advise(run, result)
    assert advice.suggestions == ()
    assert advice.impossible == advice.tried > 0


def test_apply_keeps_what_was_left_out_and_refuses_what_is_wrong() -> None:
    run = parse_run({"model": "gpt2", "method": {"name": "lora", "r": 4}, "hardware": "T4", "data": "1M"})
    changed = apply(run, {"method.name": "qlora", "batch.micro": 2, "precision": "fp16-mixed"})
    assert changed.method.name == "qlora"
    assert changed.method.rank == 4
    assert changed.batch.micro == 2
    assert changed.model_fields_set == {"model", "method", "hardware", "data", "batch", "precision"}
    assert apply(run, {}) == run
    assert apply(changed, {"precision": None}).precision is None
    with pytest.raises(PlanError, match=r"^batch\.micro: '0' is not possible"):
        apply(run, {"batch.micro": 0})


def test_delta_texts_are_short_and_signed() -> None:
    _, before, suggestions = answers(FITTING)
    for s in suggestions:
        for text in delta_texts(s):
            assert text in ("same", "–") or text[0] in "+−×", text
    same = suggestions[0]
    unknown = Suggestion("", {}, before, None, 0.0, None, None, None, "")
    assert delta_texts(unknown) == ("–", "same", "–")
    assert delta_texts(same)[0].endswith("%")


def test_verdicts() -> None:
    fits = estimate(parse_run({"model": "gpt2", "hardware": "H100 SXM 80GB"}))
    peak = 10.0 * GIB

    def changed(**update: Any) -> Any:
        return verdict(fits.model_copy(update={"peak_reserved_bytes": peak, "peak_memory_interval_bytes": (9.6 * GIB, 10.4 * GIB)} | update))

    assert verdict(fits).state == "fits"
    assert changed(fits=True, usable_memory_bytes=51 * GIB) == ("fits", "Fits, with 41 GiB to spare")
    assert changed(fits=False, usable_memory_bytes=3.7 * GIB) == ("does-not-fit", "Does not fit: 6.3 GiB over")
    assert changed(fits=None, usable_memory_bytes=10.2 * GIB) == ("close", "Too close to call: 10 of 10.2 GiB, within our 4 % error")
    assert changed(fits=None, usable_memory_bytes=None, fits_reason="Nobody knows.") == ("unknown", "Not known whether it fits: nobody knows")
    several = parse_run({"model": "gpt2", "hardware": {"gpu": "H100 SXM 80GB", "gpus": 8}})
    assert changed(fits=True, usable_memory_bytes=51 * GIB, run=several).sentence.endswith("to spare per GPU")
    assert changed(fits=False, usable_memory_bytes=3.7 * GIB, run=several).sentence.endswith("over on each GPU")


def test_the_four_figures_have_one_order_and_say_why_they_are_missing() -> None:
    with_data, without = estimate(parse_run(FITTING)), estimate(parse_run({**FITTING, "data": None}))
    for result in (with_data, without):
        assert [f.name for f in key_figures(result)] == ["time", "throughput", "memory", "cost"]
    time, _, memory, cost = key_figures(with_data)
    assert time.label == "Time to train"
    assert time.interval_text
    assert "usable" in memory.chip
    assert cost.value_text.startswith("$")
    assert "GPU-hours at $" in cost.chip
    time, _, _, cost = key_figures(without)
    assert time.label == "Time per step"
    assert (cost.value_text, cost.chip) == ("–", "no data given: add tokens or samples")
    assert "Steps" not in dict(facts(without))
    assert headline(with_data)[0] == "google-bert/bert-base-uncased"


def test_figures_are_rounded_to_what_is_known() -> None:
    result = estimate(parse_run(FITTING))
    assert known_digits(result, 0.3) == 2
    assert known_digits(result, NARROW / 2) == 3
    assert known_digits(result.model_copy(update={"basis": "calibrated"}), 0.1) == 3
    assert known_digits(result.model_copy(update={"basis": "calibrated"}), 0.5) == 2
    assert duration_text(11_520.0, 2) == "3 h 10 min"
    assert duration_text(11_520.0, 3) == "3 h 12 min"
    assert duration_text(50_400.0, 2) == "14 h"
    assert duration_text(None, 2) == "unknown"
    assert spread_text((0.91, 1.09), 1.0) == "± 9 %"
    assert spread_text((0.5, 2.0), 1.0) == "−50 % / +100 %"
    assert spread_text(None, 1.0) == ""


@pytest.mark.parametrize("mapping", RUNS, ids=lambda m: str(m["model"]))
def test_breakdowns_sum_to_their_totals(mapping: dict[str, Any]) -> None:
    result = estimate(parse_run(mapping))
    assert sum(p.value for p in memory_parts(result)) == pytest.approx(result.peak_reserved_bytes, rel=1e-9)
    for parts in (time_parts(result), kind_parts(result)):
        assert sum(p.value for p in parts) == pytest.approx(result.step_time_s, rel=1e-9)
        assert sum(p.share for p in parts) == pytest.approx(1)


def test_where_the_memory_is_not_known_speed_counts(tmp_path: Path) -> None:
    part = default_profile(find_accelerator("T4")).model_copy(update={"basis": "calibrated", "accelerator_name": "A part of no catalogue"})
    part.dump(tmp_path / "profile.json")
    profile = load_profile(tmp_path / "profile.json")
    run = parse_run({name: value for name, value in FITTING.items() if name != "hardware"})
    result = estimate(run, profile)
    assert result.fits is None
    assert verdict(result).state == "unknown"
    suggestions = suggest(run, result, profile)
    assert suggestions
    assert all(s.fits is None and s.estimate.basis == "calibrated" and (s.time_ratio or 1) < 0.991 for s in suggestions)
