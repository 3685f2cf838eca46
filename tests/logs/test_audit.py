"""Logs beside their plan: what ran otherwise is found, what the log shows is seen, what is kept corrects later plans."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from planner import Run, estimate
from planner.advise import apply
from planner.cli import main
from planner.errors import PlanError
from planner.estimate.result import Estimate
from planner.evidence import own
from planner.evidence.kin import stands_on
from planner.logs import Audit, Record, Source, audit, read
from planner.logs.keep import keep, keep_both
from planner.logs.steps import steps_of
from planner.store import open_store
from tests.logs import samples

PLAN: dict[str, Any] = {
    "model": "meta-llama/Llama-3.2-1B", "method": {"name": "lora", "rank": 16, "targets": "all-linear"}, "hardware": {"gpu": "A100 SXM 80GB"},
    "batch": {"micro": 4, "seq_len": 2048}, "attention": "sdpa",
}  # fmt: skip
RUN = Run.model_validate(PLAN)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANNER_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("PLANNER_DATABASE_URL", raising=False)


def state(step: float, count: int = 12, memory: tuple[float, float] | None = None, **more: float) -> str:
    """A trainer_state.json of equal steps, after a slow first one."""
    entries = []
    for number in range(1, count + 1):
        entry: dict[str, Any] = {"loss": 2.0, "step": number, "step_seconds": step * (9 if number == 1 else 1 + 0.002 * (number % 3 - 1)), **more}
        if memory is not None:
            entry |= {"peak_allocated_bytes": memory[0], "peak_reserved_bytes": memory[1]}
        entries.append(entry)
    return json.dumps({"global_step": count, "log_history": entries})


def record(text: str | bytes) -> Record:
    return read(Source("log", text.encode() if isinstance(text, str) else text))


def log_of(ran: Estimate, factor: float = 1.0) -> Record:
    assert ran.step_time_s is not None
    return record(state(ran.step_time_s * factor, memory=(ran.peak_memory_bytes, ran.peak_reserved_bytes)))


def test_a_run_as_planned_agrees_and_asks_for_nothing() -> None:
    found = audit(RUN, [log_of(estimate(RUN), 1.01)])
    assert found.verdict == "agrees" and not [one for one in found.findings if one.status != "seen"]
    step = found.figures[0]
    assert step.within and step.error == pytest.approx(-0.01, abs=0.005)
    assert found.step_count == 11 and [one.key for one in found.findings] == ["warm-up"]


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("eager", {"attention": "eager"}),
        ("recomputed", {"activation_checkpointing": "full"}),
        ("fp32", {"precision": {"weights": "fp32", "compute": "fp32"}}),
        ("fp32-weights", {"precision": {"weights": "fp32", "compute": "bf16", "autocast": True}}),
        ("liger", {"stack": "hf-liger"}),
        ("larger-batch", {"batch.micro": 8}),
        ("smaller-batch", {"batch.micro": 2}),
        ("full", {"method": {"name": "full"}}),
    ],
)
def test_what_ran_in_place_of_the_plan_explains_the_difference(key: str, change: dict[str, Any]) -> None:
    ran = estimate(apply(RUN, change))
    found = audit(RUN, [log_of(ran, 1.02)])
    tested = [one for one in found.findings if one.status != "seen"]
    assert tested[0].status == "explains" and key in [one.key for one in tested if one.status == "explains"]
    assert tested[0].key == key, [(one.key, one.status) for one in tested]
    assert ran.step_time_s is not None and tested[0].step_time_s == pytest.approx(ran.step_time_s)
    assert "the plan says" in tested[0].sentence and "measured" in tested[0].sentence
    assert any(proposal.target == "plan" and proposal.change for proposal in found.proposals)
    again = audit(apply(RUN, dict(tested[0].change)), [log_of(ran, 1.02)])
    assert again.verdict == "agrees", "applied, the plan is of what ran"


def test_time_and_memory_must_both_agree() -> None:
    """Eager attention would explain the time; the memory that it takes was not taken."""
    eager, plan = estimate(apply(RUN, {"attention": "eager"})), estimate(RUN)
    assert eager.step_time_s is not None
    found = audit(RUN, [record(state(eager.step_time_s, memory=(plan.peak_memory_bytes, plan.peak_reserved_bytes)))])
    assert next(one for one in found.findings if one.key == "eager").status == "does not"
    assert all(one.key != "eager" for one in audit(RUN, [log_of(eager)]).findings if one.status == "does not")


def test_waiting_for_data_is_taken_off_before_anything_is_tested() -> None:
    plan = estimate(RUN)
    assert plan.step_time_s is not None
    found = audit(RUN, [record(state(1.5 * plan.step_time_s, data_seconds=0.5 * plan.step_time_s))])
    data = next(one for one in found.findings if one.key == "data")
    assert data.seconds == pytest.approx(0.5 * plan.step_time_s)
    assert not [one for one in found.findings if one.status == "explains"]
    slowed = apply(RUN, next(p.change for p in found.proposals if "whole_run.loader_tokens_per_s" in p.change) | {"data": {"tokens": 10_000_000}})
    plain = estimate(apply(RUN, {"data": {"tokens": 10_000_000}}))
    assert (estimate(slowed).total_time_s or 0) > 1.3 * (plain.total_time_s or 0), "planned with the loader that was seen"


def test_what_the_log_is_certain_of_goes_into_the_plan_first() -> None:
    ran = estimate(apply(RUN, {"batch.micro": 8}))
    assert ran.step_time_s is not None
    document = json.loads(state(ran.step_time_s)) | {"train_batch_size": 8}
    found = audit(RUN, [record(json.dumps(document))])
    assert found.verdict == "agrees" and found.ran.batch.micro == 8 and found.planned.batch.micro == 4
    assert found.corrections[0].change == {"batch.micro": 8} and "as written it was" in found.why
    assert found.proposals[0].change == {"batch.micro": 8}


def test_a_global_batch_and_a_device_by_the_log() -> None:
    run = apply(RUN, {"hardware": {"gpu": "H100 SXM 80GB", "gpus": 8}, "stack": "megatron", "precision": "bf16", "method": {"name": "full"}})
    found = audit(run, [read(samples.source("megatron.txt")), read(samples.source("nvidia-smi.csv"))])
    assert found.device == "A100 SXM4 40GB"
    assert found.ran.batch.accumulation == 4, "128 samples over 8 ranks of micro batch 4"
    assert {one.key for one in found.findings} >= {"throttled", "warm-up"}
    named = {figure.name for figure in found.figures}
    assert {"step_time_s", "peak_reserved_bytes", "power_w", "clock_hz"} <= named


def test_fewer_tokens_are_padding_or_shorter_sequences() -> None:
    ran = estimate(apply(RUN, {"batch.seq_len": 1024}))
    assert ran.step_time_s is not None
    document = json.loads(state(ran.step_time_s))
    for entry in document["log_history"]:
        entry["num_input_tokens_seen"] = entry["step"] * 4096
    found = audit(RUN, [record(json.dumps(document))])
    assert "50 %" in next(one for one in found.findings if one.key == "padding").sentence
    assert next(one for one in found.findings if one.key == "shorter").status == "explains"


def test_rates_are_of_the_planned_batch() -> None:
    plan = estimate(RUN)
    found = audit(RUN, [read(samples.source("torchtune.txt"))])
    assert found.figures[0].measured == pytest.approx(8192 / 2812.5, rel=0.6) and found.step_means == "rate"
    assert plan.details["tokens_per_step"] == 8192


def test_a_log_without_step_times_gives_the_mean() -> None:
    document = {"global_step": 100, "log_history": [{"loss": 2.0, "step": 100}, {"eval_loss": 2, "eval_runtime": 5.0, "step": 100}]}
    document["log_history"].append({"train_runtime": 65.0, "train_loss": 2.0, "step": 100})  # type: ignore[attr-defined]
    steps = steps_of(record(json.dumps(document)), 8192, 4, 1)
    assert steps is not None and steps.means == "mean" and steps.median == pytest.approx(0.6)


def test_the_clock_of_a_console_gives_steps_and_pauses() -> None:
    steps = steps_of(read(samples.source("torchtitan.txt")), None, None, 1)
    assert steps is not None and steps.means == "clock"
    assert steps.median == pytest.approx(1.1667, rel=1e-3)
    assert [pause.kind for pause in steps.pauses] == ["evaluation or checkpoint"]
    assert steps.pauses[0].seconds == pytest.approx(14.68 - 11.667, abs=0.1)


def test_a_log_of_another_machine_is_called_so() -> None:
    plan = estimate(RUN)
    found = audit(RUN, [record(state(20 * (plan.step_time_s or 0)))])
    assert "another run or another machine" in found.why
    assert keep(found)[0] is None


def test_telemetry_alone_says_something_and_a_loss_alone_does_not() -> None:
    assert audit(RUN, [read(samples.source("nvidia-smi.csv"))]).verdict == "unknown"
    with pytest.raises(PlanError, match="says neither time nor memory"):
        audit(RUN, [record(json.dumps({"global_step": 1, "log_history": [{"loss": 2.0, "step": 1}]}))])


def oom(tried: str, allocated: float, more: str = "") -> str:
    return (
        f"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {tried}. GPU 0 has a total capacity of 79.25 GiB of which 10.00 MiB is free. {more}"
        f"Of the allocated memory {allocated:.2f} GiB is allocated by PyTorch, and 100.00 MiB is reserved by PyTorch but unallocated."
    )


def test_out_of_memory_names_the_tensor_that_the_plan_lacks() -> None:
    run = apply(RUN, {"batch": {"micro": 8, "seq_len": 4096}})
    found = audit(run, [record(oom("16.00 GiB", 75.0))])
    assert found.shortage is not None and found.shortage.verdict == "foreseen"
    cause = next(one for one in found.shortage.causes if one.key == "tensor")
    assert "8 × 32 × 4096 × 4096 × 4 bytes (fp32)" in cause.sentence and cause.change == {"attention": "eager"}


def test_out_of_memory_in_a_tensor_of_the_plan() -> None:
    found = audit(RUN, [record(oom("3.91 GiB", 12.0))])
    assert found.shortage is not None and found.shortage.verdict == "not foreseen"
    assert "4 × 2048 × 128256 × 4 bytes (fp32)" in next(one for one in found.shortage.causes if one.key == "tensor").sentence
    assert any(one.key == "covered" for one in found.shortage.causes)


def test_out_of_memory_by_others_on_the_device() -> None:
    message = oom("3.91 GiB", 12.0, "Including non-PyTorch memory, this process has 15.00 GiB memory in use. Process 7 has 60.00 GiB memory in use. ")
    found = audit(RUN, [record(message)])
    assert found.shortage is not None
    keys = [one.key for one in found.shortage.causes]
    assert "others" in keys and "outside" in keys
    assert any("60 GiB" in one.sentence for one in found.shortage.causes)


def test_out_of_memory_that_the_plan_foresaw_says_what_fits() -> None:
    run = apply(RUN, {"method": {"name": "full"}, "hardware": {"gpu": "A100 SXM 40GB"}})
    found = audit(run, [record(samples.OOM["2.4"])])
    assert found.shortage is not None and found.shortage.verdict == "foreseen"
    assert any(estimate(apply(run, p.change)).fits for p in found.proposals if p.change and p.target == "plan")


def test_a_kept_log_corrects_later_plans_and_a_probe_goes_before_it() -> None:
    plan = estimate(RUN)
    assert plan.step_time_s is not None
    found = audit(RUN, [log_of(plan, 1.05)])
    where, why = keep(found)
    assert where and not why
    assert keep(found) == (None, "This log is kept already.")
    seen = own.find(RUN)
    assert seen is not None and seen.seconds == pytest.approx(1.05 * plan.step_time_s, rel=0.01)
    assert (seen.high - seen.low) / seen.seconds >= 0.1 - 1e-9, "a log's interval is wider than a probe's"
    later = estimate(RUN, None, seen)
    assert later.basis == "measured" and "log of a run" in later.interval_note
    kept = own.rows()[0]
    own.keep(kept.model_copy(update={"origin": "probe", "least": own.REPEATABLE, "steps": (2.0,), "log": ""}))
    assert own.find(RUN).seconds == 2.0  # type: ignore[union-attr]
    assert own.find(apply(RUN, {"batch.micro": 2})) is None


def test_a_log_of_several_devices_stands_for_that_division_alone() -> None:
    run = apply(RUN, {"hardware": {"gpu": "A100 SXM 80GB", "gpus": 8}, "method": {"name": "full"}})
    assert keep(audit(run, [log_of(estimate(run))]))[0]
    assert own.find(run) is not None
    assert own.find(apply(run, {"hardware.gpus": 4})) is None
    assert own.find(apply(run, {"parallel": {"sharding": "zero3"}})) is None


def test_kin_of_a_kept_run_are_corrected_in_part() -> None:
    keep(audit(RUN, [log_of(estimate(RUN), 1.2)]))
    other = apply(RUN, {"batch.micro": 2})
    plain, seen = estimate(other), stands_on(other)
    assert seen is not None and not seen.exact
    moved = estimate(other, None, seen)
    assert plain.step_time_s is not None and plain.step_time_interval_s is not None and moved.step_time_interval_s is not None
    assert moved.step_time_s == pytest.approx(plain.step_time_s * 1.2**0.5, rel=0.01), "half of what one run says"
    assert moved.step_time_interval_s[0] == pytest.approx(plain.step_time_interval_s[0] * 1.2**0.5, rel=0.01)
    assert moved.basis == plain.basis and "1 run like it" in moved.interval_note
    assert sum(t.value for t in moved.terms if t.name.startswith("time/")) == pytest.approx(moved.step_time_s)
    keep(audit(apply(RUN, {"batch.micro": 8}), [log_of(estimate(apply(RUN, {"batch.micro": 8})), 1.1)]))
    two = stands_on(other)
    assert two is not None and two.seconds == pytest.approx(plain.step_time_s * (1.2 * 1.1) ** (0.5 * 0.7), rel=0.01)
    assert stands_on(RUN).exact  # type: ignore[union-attr]
    for change in ({"method": {"name": "full"}}, {"hardware": {"gpu": "H100 SXM 80GB"}}, {"attention": "eager"}, {"stack": "hf-liger"}):
        assert stands_on(apply(RUN, change)) is None


def test_what_ran_otherwise_is_not_kept_for_the_plan() -> None:
    eager = estimate(apply(RUN, {"attention": "eager"}))
    assert eager.step_time_s is not None
    assert keep(audit(RUN, [log_of(eager)]))[0] is None
    plan = estimate(RUN)
    few = audit(RUN, [record(state(plan.step_time_s or 1, count=3))])
    assert "too few" in keep(few)[1]


def test_saved_as_a_log_once_and_found() -> None:
    found = audit(RUN, [log_of(estimate(RUN))])
    assert keep_both(found).kept
    again = keep_both(found)
    assert again.kept is None and "kept already" in again.notes[0]
    with open_store() as store:
        entries = store.find("llama agrees", kind="log")
        assert len(entries) == 1 and entries[0].figures["verdict"] == "agrees"
        assert Audit.model_validate(store.document(entries[0].id).document).planned == RUN


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, log = tmp_path / "run.json", tmp_path / "out" / "checkpoint-12" / "trainer_state.json"
    run.write_text(json.dumps(PLAN), encoding="utf-8")
    log.parent.mkdir(parents=True)
    plan = estimate(RUN)
    log.write_text(state((plan.step_time_s or 0) * 1.02, memory=(plan.peak_memory_bytes, plan.peak_reserved_bytes)), encoding="utf-8")
    assert main(["audit", str(run), str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "Agrees" in text and "First steps" in text and "now stand on it" in text
    assert main(["estimate", str(run)]) == 0
    assert "this very run" in capsys.readouterr().out
    assert main(["audit", str(run), str(log), "--json", "--no-keep"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "agrees" and document["logs"][0]["reader"] == "trainer_state" and document["kept"] is None
    assert main(["saved", "list", "--kind", "log"]) == 0
    assert "trainer_state.json" in capsys.readouterr().out
    assert main(["audit", str(run), str(run)]) == 2
    assert "is nothing that a reader knows" in capsys.readouterr().err
    assert main(["audit", str(run), str(tmp_path / "none")]) == 2


def test_a_pasted_message(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run.json"
    run.write_text(json.dumps(PLAN), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(oom("3.91 GiB", 12.0).encode())))
    assert main(["audit", str(run), "-"]) == 0
    text = capsys.readouterr().out
    assert "Out of memory, not foreseen" in text and "3.91 GiB is the size of logits upcast" in " ".join(text.split())
