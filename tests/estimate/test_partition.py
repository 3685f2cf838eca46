"""Stages by cost: what nanotron's builder gives each stage, and what measured runs say about it."""

from __future__ import annotations

from statistics import median

import pytest

from planner.estimate.partition import head_in_layers, layers_by_cost
from planner.evidence.predict import Predictor
from planner.evidence.rows import rows
from planner.workload.families import read_config


def test_the_block_that_passes_the_threshold_stays() -> None:
    assert layers_by_cost(1, 12, 2.0) == [12]
    assert layers_by_cost(2, 12, 0.0) == [7, 5]
    assert layers_by_cost(4, 32, 2.47) == [9, 9, 8, 6]


def test_head_counts_as_many_layers_as_it_has_their_parameters() -> None:
    config = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 14336, "vocab_size": 131072}
    assert head_in_layers(read_config(config)) == pytest.approx(131072 * 4096 / (4 * 4096**2 + 3 * 14336 * 4096))


@pytest.mark.parametrize("stages", [2, 4, 8, 16, 32])
def test_all_layers_are_given_and_early_stages_have_most(stages: int) -> None:
    counts = layers_by_cost(stages, 32, 2.47)
    assert sum(counts) == 32
    assert counts[0] == max(counts)
    assert counts[-1] <= 32 / stages


def test_deep_pipelines_of_the_sweep_are_predicted_within_a_twelfth() -> None:
    """Eight and more stages: with equal stages the median error was 25 %."""
    deep = [row for row in rows() if row.source_group == "nanotron" and (row.pp or 1) >= 8 and row.peak_mem_gib][::7]
    predictor = Predictor()
    errors = [
        abs(p.memory_gib / row.peak_mem_gib - 1)
        for row in deep
        if row.peak_mem_gib and (p := predictor.predict(row)).memory_gib
    ]
    assert len(errors) > 15
    assert median(errors) < 1 / 12
