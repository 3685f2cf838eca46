"""Schedules against those of torch.distributed.pipelining: the same actions in the same order, the same counts in flight."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import PlanError
from planner.estimate.pipeline import Passes, _play, play, simulate
from planner.estimate.schedules import SPLIT, check, order_of, place_of, waiting

torch_schedules = pytest.importorskip("torch.distributed.pipelining.schedules")

CLASSES = {
    ("gpipe", False): "ScheduleGPipe",
    ("gpipe", True): "ScheduleLoopedBFS",
    ("1f1b", False): "Schedule1F1B",
    ("interleaved", True): "ScheduleInterleaved1F1B",
    ("zero-bubble", False): "ScheduleInterleavedZeroBubble",
    ("zero-bubble", True): "ScheduleInterleavedZeroBubble",
    ("zbv", True): "ScheduleZBVZeroBubble",
    ("dualpipev", True): "ScheduleDualPipeV",
}
CASES = [
    (schedule, ranks, chunks, micro)
    for schedule, several in CLASSES
    for ranks in (1, 2, 3, 4, 8)
    for chunks in ((2,) if schedule in ("zbv", "dualpipev") else (2, 3, 4) if several else (1,))
    for micro in (ranks, 2 * ranks, 3 * ranks, 4 * ranks + (schedule in ("gpipe", "1f1b") and not several), 10 * ranks)
    if not (schedule == "dualpipev" and micro < 2 * ranks) and not (schedule == "interleaved" and ranks == 1)
]


def torch_order(schedule: str, rank: int, ranks: int, chunks: int, micro: int) -> list[tuple[int, str, int]]:
    """(place, kind, micro batch) of torch's schedule, without communication; what overlaps stands one after the other."""
    kind = getattr(torch_schedules, CLASSES[schedule, chunks > 1])
    made: Any = kind.__new__(kind)
    made.pp_group_size, made.n_local_stages, made._n_microbatches = ranks, chunks, micro
    made._num_stages = made.num_stages = ranks * chunks
    made._stages, made.rank = [SimpleNamespace()] * chunks, rank
    made.number_of_rounds = max(1, micro // ranks)
    made.microbatches_per_round = micro // made.number_of_rounds
    single = schedule in ("gpipe", "1f1b") and chunks == 1
    actions = made._get_pipeline_order()[rank] if single else made._calculate_single_rank_operations(rank)
    flat = [part for action in actions if action is not None for part in (action.sub_actions or (action,))]
    # torch counts the forwards of the last rank's 1f1b from one; the schedule runs by its own counter, and this list is only shown
    shift = {"F": 1} if schedule == "1f1b" and rank == ranks - 1 else {}
    return [(a.stage_index, k := a.computation_type.value, a.microbatch_index - shift.get(k, 0)) for a in flat if a.is_compute_op]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_rank_does_what_torch_does(case: tuple[str, int, int, int]) -> None:
    schedule, ranks, chunks, micro = case
    for rank in range(ranks):
        ours = [(place_of(schedule, rank, chunk, ranks), kind, batch) for kind, chunk, batch in order_of(schedule, rank, ranks, chunks, micro)]
        assert ours == torch_order(schedule, rank, ranks, chunks, micro)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_as_many_micro_batches_wait_as_in_torchs_order(case: tuple[str, int, int, int]) -> None:
    """Counted over torch's actions, with every chunk an equal part of the rank."""
    schedule, ranks, chunks, micro = case
    for rank in range(ranks):
        alive = most = later = most_of_both = 0
        for _, kind, _ in torch_order(schedule, rank, ranks, chunks, micro):
            alive += kind == "F"
            most, most_of_both = max(most, alive), max(most_of_both, alive + later)
            alive -= kind in "BI"
            later += (kind == "I") - (kind == "W")
        found = waiting(schedule, rank, ranks, (1 / chunks,) * chunks, micro)
        assert max(w.blocks for w in found) == pytest.approx(max(0.0, most / chunks - 1))
        if schedule in SPLIT and chunks == 1:
            assert max(w.blocks + w.block_weights for w in found) + 1 == pytest.approx(most_of_both)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_schedule_runs_to_its_end(case: tuple[str, int, int, int]) -> None:
    schedule, ranks, chunks, micro = case
    line = simulate([1.0] * ranks, [2.0] * ranks, micro, chunks=chunks, schedule=schedule, weights=[1.0] * ranks)
    assert line.total >= 3.0 * micro - 1e-9
    assert line.total <= 3.0 * (micro + 2 * ranks)


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_weight_gradients_fill_the_bubble(ranks: int) -> None:
    """Qi et al. 2023, table 1: of (p − 1)(F + I + W) ZB-H1 leaves (p − 1)(F + I − W); ZB-V none, where all three take as long."""
    micro = 3 * ranks
    alike = {"forward": [1.0] * ranks, "backward": [2.0] * ranks, "weights": [1.0] * ranks, "micro": micro}
    plain, split = simulate(**alike, schedule="1f1b"), simulate(**alike, schedule="zero-bubble")
    assert plain.total == pytest.approx(3 * micro + 3 * (ranks - 1))
    assert split.total == pytest.approx(3 * micro + (ranks - 1))
    v = simulate(**alike, schedule="zbv", chunks=2)
    for rank in range(ranks):
        own = [(start, end) for stage, _, start, end in v.spans if stage == rank]
        assert max(end for _, end in own) - min(start for start, _ in own) == pytest.approx(3 * micro)


def test_zero_bubble_keeps_no_more_than_1f1b() -> None:
    """ZB-H1's limit of memory: micro batches of either kind together never exceed the stages."""
    for rank in range(8):
        assert all(w.blocks + w.block_weights + 1 <= 8 for w in waiting("zero-bubble", rank, 8, (1.0,), 64))


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(sorted(CLASSES)), st.integers(2, 5), st.integers(5, 12))
def test_many_micro_batches_take_what_all_of_them_simulated_take(data: Any, kind: tuple[str, bool], ranks: int, rounds: int) -> None:
    schedule, several = kind
    chunks = 2 if several else 1
    micro = ranks * rounds
    times = st.lists(st.lists(st.floats(0.5, 2.0), min_size=chunks, max_size=chunks), min_size=ranks, max_size=ranks)
    forward, backward = ([tuple(s) for s in data.draw(times)] for _ in range(2))
    passes = Passes(tuple(forward), tuple(backward), tuple(tuple(b / 2 for b in s) for s in backward))
    quick = play(schedule, passes, micro, 0.1).total
    whole, _ = _play(schedule, passes, micro, 0.1)
    assert quick == pytest.approx(whole, rel=0.02)


@pytest.mark.parametrize(
    ("case", "field"),
    [
        (("zbv", 4, 3, 8), "parallel.virtual_pp"),
        (("1f1b", 4, 2, 8), "parallel.schedule"),
        (("interleaved", 4, 1, 8), "parallel.schedule"),
        (("interleaved", 4, 2, 9), "batch.accumulation"),
        (("dualpipev", 4, 2, 7), "batch.accumulation"),
    ],
)
def test_what_a_schedule_cannot_do_is_refused(case: tuple[str, int, int, int], field: str) -> None:
    with pytest.raises(PlanError) as error:
        check(*case)
    assert error.value.field == field
