"""Schedules: closed forms where they exist, order and memory where they do not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import PlanError
from planner.estimate import estimate
from planner.estimate.constants import by_stack
from planner.estimate.pipeline import in_flight, simulate
from planner.estimate.stages import layers_of
from planner.run import parse_run

TIMES = st.floats(0.1, 10.0)


@settings(max_examples=60)
@given(st.integers(1, 8), st.integers(1, 40), TIMES, TIMES)
def test_equal_stages_wait_for_one_pass_through_the_others(stages: int, micro: int, forward: float, backward: float) -> None:
    """Narayanan et al. 2021, sec. 2.2: (m + p - 1) · (t_f + t_b)."""
    line = simulate([forward] * stages, [backward] * stages, micro)
    assert line.total == pytest.approx((micro + stages - 1) * (forward + backward))
    assert line.bubble == pytest.approx((stages - 1) / (micro + stages - 1), abs=1e-9)


@settings(max_examples=40)
@given(st.integers(2, 6), st.integers(2, 4), st.integers(1, 4), TIMES, TIMES)
def test_interleaving_divides_the_bubble_by_the_chunks(stages: int, chunks: int, groups: int, forward: float, backward: float) -> None:
    micro = groups * stages
    line = simulate([forward] * stages, [backward] * stages, micro, chunks=chunks)
    bubble = line.total - micro * (forward + backward)
    assert bubble == pytest.approx((stages - 1) * (forward + backward) / chunks)


@settings(max_examples=40)
@given(st.lists(st.tuples(TIMES, TIMES), min_size=2, max_size=6), st.integers(1, 60), st.floats(0.0, 0.5))
def test_no_work_is_lost_and_none_overlaps(times: list[tuple[float, float]], micro: int, between: float) -> None:
    forward, backward = [f for f, _ in times], [b for _, b in times]
    line = simulate(forward, backward, micro, between=between)
    slowest = max(f + b for f, b in times)
    assert micro * slowest <= line.total + 1e-9
    assert line.total <= micro * slowest + sum(forward) + sum(backward) + 2 * between * len(times) * (micro + 1)
    for stage in range(len(times)):
        own = sorted((start, end) for index, _, start, end in line.spans if index == stage)
        assert all(a[1] <= b[0] + 1e-9 for a, b in zip(own, own[1:], strict=False))


def test_an_uneven_pipeline_runs_at_its_slowest_stage() -> None:
    line = simulate([1.0, 3.0, 1.0], [2.0, 6.0, 2.0], 1000)
    assert line.total == pytest.approx(1000 * 9.0, rel=0.01)


def test_the_first_stage_keeps_most_micro_batches() -> None:
    assert [in_flight(i, 4, 1, 8) for i in range(4)] == [4, 3, 2, 1]
    assert [in_flight(i, 4, 1, 2) for i in range(4)] == [2, 2, 2, 1]
    assert [in_flight(i, 4, 2, 8) for i in range(4)] == [5.5, 4.5, 3.5, 2.5]


def test_the_ends_have_fewer_layers() -> None:
    assert layers_of(4, 32) == [8, 8, 8, 8]
    assert layers_of(4, 30) == [7, 8, 8, 7]
    assert sum(layers_of(7, 126)) == 126
    with pytest.raises(PlanError, match=r"parallel\.pp"):
        layers_of(9, 8)
    with pytest.raises(PlanError, match=r"parallel\.virtual_pp"):
        layers_of(4, 8, 3)


def test_a_transfer_that_blocks_holds_up_both_of_its_stages_once() -> None:
    run = {
        "model": "llama-3.1-8b", "stack": "nanotron", "hardware": {"gpu": "H100 SXM 80GB", "gpus": 32, "network_gbps": 3200},
        "parallel": {"pp": 4, "tp": 8}, "batch": {"micro": 1, "accumulation": 64, "seq_len": 4096},
    }  # fmt: skip
    seconds = [estimate(parse_run({**run, "stack": name})).step_time_s or 0.0 for name in ("nanotron", "nanotron-blocking")]
    transfer = by_stack("hand_over_seconds", "nanotron-blocking")
    # a middle stage takes part in four transfers of every micro batch; filling and draining is one of each between neighbours
    assert seconds[1] - seconds[0] == pytest.approx(transfer * (4 * 64 + 2 * 3), rel=0.05)
