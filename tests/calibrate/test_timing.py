"""Repetitions end when the median is sure or the time is up, and a throttled one does not count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from planner.calibrate.hardware import Hardware, open_hardware
from planner.calibrate.timing import GOAL, LEAST, MOST, measure, median_error
from planner.errors import PlanError


class Scripted(Hardware):
    """A device whose clock says what a test wrote down."""

    def __init__(self, times: Iterator[float], kind: str = "meta") -> None:
        super().__init__(torch.device(kind), "scripted", None, 0.0, 1)
        self.times = times

    def time(self, work: Callable[[], Any], inner: int) -> float:
        work()
        return next(self.times)


def steady(value: float) -> Iterator[float]:
    while True:
        yield value


def alternating(low: float, high: float) -> Iterator[float]:
    while True:
        yield low
        yield high


def test_a_steady_clock_needs_few_repetitions() -> None:
    sample = measure(Scripted(steady(0.01)), "x", {"n": 1}, lambda: None, 60.0)
    assert len(sample.raw) == LEAST
    assert (sample.seconds, sample.iqr, sample.throttled) == (0.01, 0.0, 0)


def test_a_noisy_clock_repeats_to_the_limit_and_keeps_its_spread() -> None:
    sample = measure(Scripted(alternating(0.01, 0.02)), "x", {"n": 1}, lambda: None, 60.0)
    assert len(sample.raw) == MOST
    assert sample.iqr == pytest.approx(0.01)


def test_the_time_limit_ends_it_with_what_there_is() -> None:
    sample = measure(Scripted(alternating(0.01, 0.02)), "x", {"n": 1}, lambda: None, 0.0)
    assert len(sample.raw) == 1


def test_throttled_repetitions_do_not_count() -> None:
    held = iter([True] * 7 + [False] * 1000)
    sample = measure(Scripted(steady(0.01)), "x", {"n": 1}, lambda: None, 60.0, lambda: next(held))
    assert (sample.throttled, len(sample.raw)) == (7, LEAST)


def test_repetitions_that_another_program_interrupted_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = iter([True, False] * 1000)
    monkeypatch.setattr("planner.calibrate.timing.Preemption.happened", lambda self: next(lost))
    sample = measure(Scripted(alternating(0.02, 0.01), "cpu"), "x", {"n": 1}, lambda: None, 60.0)
    assert sample.seconds == 0.02  # the first value sizes the repetitions, so that the slow ones are the undisturbed
    assert set(sample.raw) == {0.02}
    assert sample.disturbed == len(sample.raw)
    elsewhere = measure(Scripted(alternating(0.02, 0.01)), "x", {"n": 1}, lambda: None, 0.05)
    assert elsewhere.disturbed == 0  # a queue goes on without the processor


def test_where_every_repetition_was_interrupted_the_quickest_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.calibrate.timing.Preemption.happened", lambda self: True)
    sample = measure(Scripted(alternating(0.01, 0.07), "cpu"), "x", {"n": 1}, lambda: None, 60.0)
    assert sample.seconds == 0.01
    assert sample.disturbed == MOST


def test_a_switch_that_the_system_forced_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from planner.calibrate import preemption

    counted = iter([3, 3, 4, 4])
    told = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda who: SimpleNamespace(ru_nivcsw=next(counted)))
    monkeypatch.setattr(preemption, "resource", told)
    watch = preemption.Preemption()
    watch.begin()
    assert [watch.happened(), watch.happened()] == [False, True]
    monkeypatch.setattr(preemption, "resource", None)
    watch.begin()
    assert watch.happened() is False


def test_a_device_that_is_always_held_down_rests_and_gives_one_marked_value(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []
    monkeypatch.setattr("planner.calibrate.timing.time.sleep", rests.append)
    sample = measure(Scripted(steady(0.01)), "x", {"n": 1}, lambda: None, 0.02, lambda: True)
    assert len(sample.raw) == 1
    assert sample.throttled >= len(sample.raw)
    assert rests
    assert all(0 < rest <= 0.05 for rest in rests)


def test_the_error_of_a_median_shrinks_with_repetitions() -> None:
    spread = [1.0, 1.1, 0.9, 1.05, 0.95, 1.02, 0.98]
    assert median_error(spread[:4]) == float("inf")
    assert median_error(spread * 20) < median_error(spread * 2) < 0.2
    assert median_error([1.0] * LEAST) < GOAL


def test_devices_that_are_not_there_say_what_to_write() -> None:
    for name, problem in {"gpu:0": "no torch device", "cuda:0": "cannot be measured", "mps": "not available"}.items():
        if name == "cuda:0" and torch.cuda.is_available():
            continue
        with pytest.raises(PlanError, match=problem):
            open_hardware(name)


def test_random_data_is_never_zero_and_never_twice_the_same_place() -> None:
    hardware = open_hardware("cpu")
    a, b = hardware.random(64, 64), hardware.random(64, 64)
    assert a.data_ptr() != b.data_ptr()
    assert float(a.abs().mean()) > 0.5
    assert hardware.random(40_000_000).numel() == 40_000_000
    assert hardware.random(8, dtype="bf16").dtype == torch.bfloat16


def test_cold_data_outgrows_the_caches() -> None:
    hardware = open_hardware("cpu")
    hand = hardware.rotated(lambda: object(), hardware.flush_bytes / 4)
    seen = [hand() for _ in range(10)]
    assert len(set(map(id, seen))) == 5


def test_outputs_are_kept_as_autograd_keeps_them_and_let_go_of_at_once() -> None:
    hardware = open_hardware("cpu")
    hardware.flush_bytes = 4.0 * 2**20
    held = []
    for _ in range(6):
        hardware.time(lambda: torch.ones(2**18), 1)  # 1 MiB
        held.append(hardware._kept_bytes)
    assert held == [2**20, 2 * 2**20, 3 * 2**20, 4 * 2**20, 0, 2**20]
