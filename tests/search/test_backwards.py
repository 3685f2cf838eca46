"""Questions asked backwards: the answer fits, the next does not, and it can be applied."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from planner.advise import apply
from planner.catalog import accelerators, find_accelerator
from planner.cli import main
from planner.errors import PlanError
from planner.estimate.engine import estimate
from planner.run import parse_run
from planner.search.backwards import CONTEXT_STEP, Backwards, Proposal, seconds_until
from tests.search.spaces import TINY

RUN: dict[str, Any] = {"model": TINY, "method": {"name": "lora", "rank": 16}, "precision": "bf16", "data": "10M", "hardware": {"gpu": "L40S"}}


def asked(**changes: Any) -> Backwards:
    return Backwards(parse_run({**RUN, **changes}))


@pytest.mark.parametrize(
    ("question", "path", "step"),
    [("largest_micro_batch", "batch.micro", 1), ("longest_context", "batch.seq_len", CONTEXT_STEP), ("largest_rank", "method.rank", 1)],
)
def test_the_largest_fits_and_the_next_does_not(question: str, path: str, step: int) -> None:
    run = parse_run(RUN)
    found: Proposal = getattr(asked(), question)()
    value = found.change[path]
    assert estimate(apply(run, found.change)).fits is True
    assert found.estimate is not None and found.estimate.fits
    assert value == 8192 or estimate(apply(run, {path: value + step})).fits is not True


def test_the_largest_model_is_larger_than_all_that_fit() -> None:
    found = asked().largest_model()
    assert found.estimate is not None and found.estimate.fits
    bigger = estimate(apply(parse_run(RUN), {"model": "meta-llama/Llama-3.1-70B"}))
    assert bigger.fits is not True and 1e9 < found.estimate.parameters < bigger.parameters


def test_the_smallest_gpu_has_the_least_memory_of_those_that_do() -> None:
    full = asked(method="full")
    found = full.smallest_gpu()
    size = find_accelerator(found.change["hardware.gpu"]).memory_bytes
    for part in accelerators():
        if part.memory_bytes < size:
            try:
                assert estimate(apply(full.run, {"hardware.gpu": part.name})).fits is not True
            except PlanError:
                continue


def test_fewest_gpus_share_the_states_and_keep_the_batch() -> None:
    full = asked(method="full", precision="bf16-mixed", batch={"accumulation": 16})
    found = full.fewest_gpus()
    assert found.estimate is not None and found.estimate.fits
    count = found.change["hardware.gpus"]
    assert count > 1 and found.change["parallel.sharding"] == "zero3"
    assert count * found.change["batch.accumulation"] <= 16
    fewer = {"hardware.gpus": count - 1, "parallel.sharding": "zero3" if count > 2 else "none"}
    assert estimate(apply(full.run, fewer)).fits is not True


def test_gpus_by_a_deadline_and_under_a_budget() -> None:
    run = asked(batch={"accumulation": 64})
    one = estimate(run.run)
    assert one.total_time_s is not None and one.cost_usd is not None
    found = run.by_deadline(one.total_time_s / 3)
    assert found.estimate is not None and (found.estimate.total_time_s or 0) <= one.total_time_s / 3
    assert found.change["hardware.gpus"] >= 3
    assert "quick enough" in run.by_deadline(0.001).text and run.by_deadline(0.001).estimate is None
    rich = run.under_budget(2 * one.cost_usd)
    assert rich.estimate is not None and (rich.estimate.cost_usd or 0) <= 2 * one.cost_usd
    assert (rich.estimate.total_time_s or 0) <= one.total_time_s
    assert "cheap enough" in run.under_budget(1e-6).text
    assert "add data" in asked(data=None).by_deadline(100.0).text


def test_moments_are_read() -> None:
    now = dt.datetime(2026, 11, 25, 9, 0)  # a Wednesday
    assert seconds_until("Friday 18:00", now) == 2 * 86400 + 9 * 3600
    assert seconds_until("wed 08:00", now) == 7 * 86400 - 3600
    assert seconds_until("10:30", now) == 5400
    assert seconds_until("2026-11-25 09:10", now) == 600
    assert seconds_until("24h", now) == 86400
    for text in ("Fryday 18:00", "2020-01-01", "2026-13-01", "soon"):
        with pytest.raises(PlanError, match="deadline"):
            seconds_until(text, now)


def test_the_command_answers_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(RUN), encoding="utf-8")
    assert main(["ask", str(path), "--budget", "100", "--deadline", "48h", "--json"]) == 0
    proposals = json.loads(capsys.readouterr().out.splitlines()[-1])["proposals"]
    assert len(proposals) == 8 and all(one["estimate"]["fits"] for one in proposals)
    assert main(["ask", str(path)]) == 0
    assert "Largest micro batch" in capsys.readouterr().out
