"""Lengths of samples: the statistics against simulation, and what packing and padding make of a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import PlanError
from planner.estimate.engine import estimate
from planner.estimate.filling import sequences_of
from planner.estimate.shape import lengths_of, shape_of
from planner.run import parse_run

SPREAD = {"samples": 50_000, "mean_tokens": 300, "std_tokens": 250}
BASE: dict[str, Any] = {
    "model": {"base": "gpt2", "n_layer": 4},
    "hardware": {"gpu": "H100 SXM 80GB"},
    "batch": {"micro": 8, "seq_len": 1024},
}


def run_of(data: dict[str, Any], **changes: Any) -> Any:
    return parse_run({**BASE, "data": data, **changes})


def draw(data: Any, size: tuple[int, ...]) -> Any:
    lengths = lengths_of(data)
    return np.random.default_rng(0).choice(lengths.tokens, size, p=lengths.weights)


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
    drawn = draw(run.data, (20_000, micro * gpus)).clip(max=1024)
    assert shape.timed == pytest.approx(drawn.max(axis=1).mean(), rel=0.02, abs=1)
    assert shape.real == pytest.approx(drawn.mean(), rel=0.02)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    lengths=st.dictionaries(st.integers(1, 3000), st.integers(1, 1000), min_size=1, max_size=12),
    micro=st.integers(1, 16),
    ranks=st.integers(1, 4),
    seq=st.integers(64, 2048),
)
def test_batches_are_those_of_a_simulation(lengths: dict[int, int], micro: int, ranks: int, seq: int) -> None:
    """Every way to fill sequences against batches that are drawn and padded one by one."""
    data = {"samples": 50_000, "lengths": lengths}
    batch, hardware = {"micro": micro, "seq_len": seq}, {"gpu": "H100 SXM 80GB", "gpus": ranks}
    shapes = {
        kind: shape_of(run_of({**data, "packing": kind}, batch=batch, hardware=hardware), seq)
        for kind in ("padded", "fixed", "bucketed", "best-fit", "packed")
    }
    whole = draw(run_of(data).data, (400, 50 * micro * ranks))
    cut = whole.clip(max=seq)
    noise = 5 * cut.max(axis=1).std() / np.sqrt(len(cut)) + 0.02 * cut.mean() + 1.5
    batches = cut.reshape(-1, micro * ranks)
    assert shapes["padded"].timed == pytest.approx(batches.max(axis=1).mean(), abs=noise)
    grouped = np.sort(cut.reshape(-1, 50 * micro), axis=1).reshape(-1, 50, micro)
    assert shapes["bucketed"].timed == pytest.approx(grouped.max(axis=2).mean(), abs=noise)
    for kind in ("padded", "bucketed", "fixed"):
        assert shapes[kind].real == pytest.approx(cut.mean(), abs=noise)
        assert shapes[kind].cut == pytest.approx(1 - cut.sum() / whole.sum(), abs=0.02)
    assert (shapes["fixed"].timed, shapes["fixed"].longest) == (seq, seq)
    assert shapes["packed"].waste == shapes["packed"].cut == 0
    part = cut.reshape(-1)[:1000]
    opened = plainly_packed(part.tolist(), seq)
    assert shapes["best-fit"].real == pytest.approx(part.sum() / opened, rel=0.12)  # another 1000 samples of the same spread
    reached = max(n for n, weight in lengths.items() if weight / sum(lengths.values()) >= 1 / 50_000)
    assert shapes["padded"].longest == min(seq, reached)


def plainly_packed(samples: list[int], room: int) -> int:
    """Best-fit decreasing by looking at every open sequence."""
    free: list[int] = []
    for length in sorted(samples, reverse=True):
        open_ones = [i for i, left in enumerate(free) if left >= length]
        if open_ones:
            free[min(open_ones, key=lambda i: free[i])] -= length
        else:
            free.append(room - length)
    return len(free)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 100), min_size=1, max_size=80), st.integers(100, 140))
def test_best_fit_decreasing_is_what_it_says(samples: list[int], room: int) -> None:
    assert sequences_of(samples, room) == plainly_packed(samples, room)


def test_steps_of_packed_samples_count_what_is_cut_and_what_is_empty() -> None:
    data = {"samples": 10_000, "lengths": {"600": 1, "1448": 1}}
    whole, joined = plan({**data, "packing": "best-fit"}), plan(data)
    assert whole.details["steps"] == 10_000 // 8  # 600 leaves too little room for the others, which are cut to 1024
    assert joined.details["steps"] == -(-10_000 * 1024 // (8 * 1024))
    assert any("are cut off" in line for line in whole.assumptions)
    assert not any("are cut off" in line for line in joined.assumptions)


def test_bucketed_length_is_that_of_sorted_groups() -> None:
    run = run_of({**SPREAD, "packing": "bucketed"})
    assert run.data is not None
    drawn = draw(run.data, (500, 400)).clip(max=1024)
    drawn.sort(axis=1)
    assert shape_of(run, 1024).timed == pytest.approx(drawn.reshape(500, 50, 8).max(axis=2).mean(), rel=0.03)


def test_a_lognormal_has_the_given_mean_and_spread() -> None:
    run = run_of(SPREAD)
    assert run.data is not None
    lengths = lengths_of(run.data).tokens
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
