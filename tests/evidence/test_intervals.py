from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planner.estimate import uncertainty
from planner.estimate.uncertainty import MIN_ROWS, UNSEEN, class_names, interval
from planner.evidence.folds import FOLDS, fold_of, group_of
from planner.evidence.intervals import Residual, calibrate, class_ranges, coverage, residuals, table
from planner.evidence.nearest import nearest
from planner.evidence.predict import Predictor
from planner.evidence.rows import Row, rows
from planner.evidence.score import score

from .conftest import make_estimate


def noise(n: int, spread: float, classes: tuple[str, ...], seed: int = 1) -> list[Residual]:
    values = np.random.default_rng(seed).normal(0.05, spread, n)
    return [Residual(classes, float(v), i % FOLDS, "s") for i, v in enumerate(values)]


def test_held_out_coverage_of_gaussian_noise_is_nominal() -> None:
    members = noise(2000, 0.1, ("a", "all")) + noise(2000, 0.3, ("b", "all"), seed=2)
    stretch, share = calibrate(members)
    assert 0.87 <= share <= 0.93
    assert 0.9 <= stretch <= 1.2
    made = table(members)["classes"]
    assert made["a"]["high"] / made["a"]["low"] < made["b"]["high"] / made["b"]["low"]
    assert made["a"]["n"] == 2000


def test_small_class_is_drawn_towards_the_wider_one() -> None:
    members = noise(2000, 0.3, ("big", "all")) + noise(10, 0.001, ("small", "all"), seed=3)
    ranges = class_ranges(members, 1.0)
    width = {name: high - low for name, (low, high, _, _) in ranges.items()}
    assert width["small"] > 0.5 * width["all"]
    assert "small" not in table(members)["classes"]


def test_coverage_uses_other_folds_only() -> None:
    """One fold far from the others is not covered by intervals that it did not make."""
    members = [Residual(("all",), 5.0 if i % FOLDS == 0 else 0.01 * (i % 7), i % FOLDS, "s") for i in range(500)]
    inside = coverage(members, 1.0)
    assert sum(inside) <= 0.82 * len(inside)


def test_most_specific_class_with_enough_rows_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"basis": "fitted", "stack": "hf", "gpus": 8, "nodes": 1}
    names = class_names("time", facts)
    entry = {"low": 0.9, "high": 1.2, "n": MIN_ROWS, "median": 0.07}
    made = {"time": {"classes": {names[0]: entry | {"n": MIN_ROWS - 1}, names[1]: entry}}}
    monkeypatch.setattr(uncertainty, "_table", lambda: made)
    found = interval("time", facts)
    assert (found.low_ratio, found.high_ratio, found.n, found.class_name) == (0.9, 1.2, MIN_ROWS, names[1])
    assert "7.0 %" in found.note
    unseen = interval("memory", facts)
    assert (unseen.low_ratio, unseen.high_ratio) == UNSEEN["memory"]
    assert unseen.n == 0


def test_folds_keep_groups_together_and_are_balanced() -> None:
    folds: dict[str, set[int]] = {}
    sizes = [0] * FOLDS
    for row in rows():
        folds.setdefault(group_of(row), set()).add(fold_of(row))
        sizes[fold_of(row)] += 1
    assert all(len(found) == 1 for found in folds.values())
    assert min(sizes) > 200


def test_nearest_measured_runs() -> None:
    facts = {"parameters": 3.2e9, "gpu": "L40S", "gpus": 1, "method": "lora", "stack": "hf", "tokens": 840}
    found = nearest(facts, k=5)
    assert len(found) == 5
    assert [n.distance for n in found] == sorted(n.distance for n in found)
    assert all(n.row.gpu == "L40S" and n.row.method == "lora" for n in found)
    repeats = [n.row.repeat_group for n in found if n.row.repeat_group]
    assert len(set(repeats)) == len(repeats)
    assert len(nearest({}, k=3)) == 3


def test_classes_tell_encoders_lengths_and_variants_apart() -> None:
    facts = {"basis": "fitted", "stack": "hf-4", "gpus": 1, "tokens": 8192}
    assert class_names("time", facts) == class_names("time", facts | {"stack": "hf"})
    assert all(name.endswith(" · encoders") for name in class_names("time", facts | {"encoder": True}))
    assert all(name.endswith(" · mixtures") for name in class_names("memory", facts | {"mixture": True}))
    assert class_names("time", facts | {"lengths": "varying"}) == class_names("time", facts)
    assert class_names("memory", facts | {"lengths": "varying"}) == (
        "hf · one GPU · varying lengths",
        "varying lengths",
    )
    assert class_names("time", {}) == ("one GPU · datasheet", "datasheet")


def test_rows_that_contradict_their_columns_make_no_interval(llama_row: Row) -> None:
    predictor = Predictor(engine=lambda run, profile: make_estimate(run))
    plain = replace(
        llama_row,
        source_group="litgpt",
        framework="litgpt",
        method="full",
        lora_r=None,
        lora_targets=None,
        gpus=1,
        dp=1,
    )
    broken = replace(plain, id="r2", gpus=2, dp=2)
    scored = [score(row, predictor.predict(row)) for row in (plain, broken)]
    assert all(s.memory_ratio is not None for s in scored)
    assert len(residuals(scored, "memory")) == 1
    assert len(residuals(scored, "time")) == 2


def test_a_badly_predicted_part_widens_no_other() -> None:
    good = noise(600, 0.05, ("a", "all"))
    bad = noise(600, 1.5, ("b · mixtures", "all · mixtures"), seed=2)
    alone, together = table(good)["classes"], table(good + bad)["classes"]
    assert together["a"] == alone["a"]
    assert together["b · mixtures"]["high"] > 3


def test_each_class_gets_the_stretch_that_holds_its_own_rows() -> None:
    """One class is normal, the other of two kinds of runs at fixed errors: quantiles alone hold all of the second."""
    plain = noise(1000, 0.2, ("s · one node · long steps · live", "s", "all"))
    sharp = [replace(r, classes=("s · one node · long steps · held", "s", "all"), value=0.1 * (-1) ** i) for i, r in enumerate(plain[:200])]
    made = table(plain + sharp)
    assert {"s · one node · long steps · live", "s · one node · long steps · held"} <= set(made["stretches"])
    assert 0.87 <= made["held_out_coverage"] <= 0.93


def test_what_is_counted_decides_the_class_of_memory_alone() -> None:
    facts = {"basis": "fitted", "stack": "hf-4", "gpus": 1, "nodes": 1, "tokens": 4096}
    live, held = (class_names("memory", facts | {"counter": counter}) for counter in ("live", "held"))
    assert live[0] != held[0] and live[1:] == held[1:] == class_names("memory", facts)
    assert class_names("time", facts | {"counter": "held"}) == class_names("time", facts)
