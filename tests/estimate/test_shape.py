"""Lengths of samples: the statistics against simulation, and what packing and padding make of a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from planner.errors import PlanError
from planner.estimate.engine import estimate
from planner.estimate.shape import quantiles, shape_of
from planner.run import parse_run

SPREAD = {"samples": 50_000, "mean_tokens": 300, "std_tokens": 250}
BASE: dict[str, Any] = {
    "model": {"base": "gpt2", "n_layer": 4},
    "hardware": {"gpu": "H100 SXM 80GB"},
    "batch": {"micro": 8, "seq_len": 1024},
}


def run_of(data: dict[str, Any], **changes: Any) -> Any:
    return parse_run({**BASE, "data": data, **changes})


def plan(data: dict[str, Any], **changes: Any) -> Any:
    return estimate(run_of(data, **changes))


@pytest.mark.parametrize(
    "data",
    [
        {"samples": 9, "mean_tokens": 300, "std_tokens": 250},
        {"samples": 9, "lengths": {"64": 0.5, "256": 0.3, "900": 0.2}},
        {"samples": 9, "lengths": {"p1": 20, "p50": 200, "p90": 700, "p100": 2000}},
    ],
)
@pytest.mark.parametrize(("micro", "gpus"), [(1, 1), (8, 1), (4, 4)])
def test_padded_length_is_that_of_drawn_batches(data: dict[str, Any], micro: int, gpus: int) -> None:
    run = run_of(
        {**data, "packing": "padded"},
        batch={"micro": micro, "seq_len": 1024},
        hardware={"gpu": "H100 SXM 80GB", "gpus": gpus},
    )
    shape = shape_of(run, 1024)
    assert run.data is not None
    drawn = np.random.default_rng(0).choice(quantiles(run.data), (20_000, micro * gpus)).clip(max=1024)
    assert shape.timed == pytest.approx(drawn.max(axis=1).mean(), rel=0.02, abs=1)
    assert shape.real == pytest.approx(drawn.mean(), rel=0.02)


def test_bucketed_length_is_that_of_sorted_groups() -> None:
    run = run_of({**SPREAD, "packing": "bucketed"})
    assert run.data is not None
    drawn = np.random.default_rng(0).choice(quantiles(run.data), (500, 400)).clip(max=1024)
    drawn.sort(axis=1)
    assert shape_of(run, 1024).timed == pytest.approx(drawn.reshape(500, 50, 8).max(axis=2).mean(), rel=0.03)


def test_a_lognormal_has_the_given_mean_and_spread() -> None:
    run = run_of(SPREAD)
    assert run.data is not None
    lengths = quantiles(run.data)
    assert (lengths.mean(), lengths.std()) == (pytest.approx(300, rel=0.01), pytest.approx(250, rel=0.05))


def test_packing_wastes_nothing_and_padding_most() -> None:
    packed, bucketed, padded = (plan({**SPREAD, "packing": p}) for p in ("packed", "bucketed", "padded"))
    assert packed.total_time_s < bucketed.total_time_s < padded.total_time_s
    assert packed.tokens_per_s > bucketed.tokens_per_s > padded.tokens_per_s
    assert padded.details["steps"] == bucketed.details["steps"] == 50_000 // 8
    assert padded.peak_memory_bytes == packed.peak_memory_bytes  # the longest of 50000 samples reaches the cut
    assert any("padding" in line for line in padded.assumptions)


def test_tokens_per_second_count_real_tokens() -> None:
    e = plan({**SPREAD, "packing": "padded"})
    shape = shape_of(run_of({**SPREAD, "packing": "padded"}), 1024)
    assert e.tokens_per_s * e.step_time_s == pytest.approx(8 * shape.real, abs=1)


def test_equal_lengths_pad_nothing() -> None:
    equal = {"samples": 1000, "lengths": {1024: 1}}
    padded, packed = plan({**equal, "packing": "padded"}), plan(equal)
    assert (padded.step_time_s, padded.peak_memory_bytes) == (packed.step_time_s, packed.peak_memory_bytes)
    assert padded.details["steps"] == packed.details["steps"] == 125


def test_short_samples_lower_the_peak() -> None:
    short = plan({"samples": 1000, "lengths": {128: 0.9, 256: 0.1}, "packing": "padded"})
    assert short.peak_memory_bytes == plan({"tokens": 1000}, batch={"micro": 8, "seq_len": 256}).peak_memory_bytes


def test_a_distribution_counts_the_tokens_of_packed_samples() -> None:
    assert plan({"samples": 1000, "lengths": {128: 1, 384: 1}}).details["steps"] == -(-1000 * 256 // (8 * 1024))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"samples": 5, "packing": "padded"}, "needs to know how lengths spread"),
        ({"samples": 5, "mean_tokens": 9, "packing": "bucketed"}, "needs to know how lengths spread"),
        ({"samples": 5, "std_tokens": 9}, "data.std_tokens: '9.0' needs a mean"),
        ({"samples": 5, "lengths": {"64": 1}, "mean_tokens": 9}, "beside mean_tokens or std_tokens"),
        ({"samples": 5, "lengths": {"64": 1, "p50": 9}}, "neither lengths nor percentiles"),
        ({"samples": 5, "lengths": {"p50": 90, "p60": 9}}, "no rising percentiles"),
        ({"samples": 5, "lengths": {"p500": 9}}, "no rising percentiles"),
        ({"samples": 5, "lengths": {}}, "neither lengths nor percentiles"),
        ({"samples": 5, "packing": "tight"}, "packing"),
    ],
)
def test_unclear_lengths_are_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan(data)
