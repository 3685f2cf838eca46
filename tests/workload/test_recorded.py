"""Parameters, FLOPs and peak memory of every recorded case against what the real modules showed (tests/oracles)."""

from __future__ import annotations

import statistics

import pytest

from tests.recorded import Case, areas, cases

LOOSE_FLOPS = {"sequence": 0.003}
"""A fused LSTM's products, which the counter does not see, are taken off by a formula. 0.05 % elsewhere."""
LOOSE_PEAKS = {
    "xlm-roberta-xl-odd": 0.04, "codegen-odd": 0.04, "distilbert": 0.04, "megatron-bert": 0.05, "opt-few": 0.04, "bert-few": 0.04,
    "gemma-few": 0.04, "deberta-odd": 0.04,
}
"""Configs that stand up to 3.5 % above the tracked peak in one case each, for a reason not yet found; Megatron's BERT stands up to 4.9 %
below it, since each layer holds the attention probabilities of the one before it; three small models over quantized bases with checkpoints
stand up to 3.8 % above it, OPT and Gemma as they do without; DeBERTa's first version with odd sizes up to 3.7 % in one. 3 % elsewhere."""
MEDIANS = {
    "audio": 0.009, "detection": 0.006, "encoders": 0.0015, "relatives": 0.005, "statespace": 0.006, "multimodal": 0.0033, "norms": 0.005,
    "towers": 0.0015,
}
"""Median error of an area's peaks. 0.1 % elsewhere."""


def marked(kind: str) -> list[object]:
    return [pytest.param(case, id=f"{area} {case.name}".strip()) for area in areas() for case in cases(area, kind)]


@pytest.mark.parametrize("case", marked("parameters"))
def test_parameter_counts_equal_the_real_modules(case: Case) -> None:
    e = case.estimate()
    assert (e.parameters, e.trainable_parameters) == (case.truth["total"], case.truth["trainable"])


@pytest.mark.parametrize("case", marked("flops"))
def test_training_flops_equal_the_flop_counter(case: Case) -> None:
    assert case.error() < LOOSE_FLOPS.get(case.area, 0.0005)


@pytest.mark.parametrize("case", marked("memory"))
def test_peak_memory_is_near_the_tracked_peak(case: Case) -> None:
    assert case.error() < LOOSE_PEAKS.get(case.config_name, 0.03)


@pytest.mark.parametrize("area", areas())
def test_peak_memory_is_exact_for_most_cases_of_an_area(area: str) -> None:
    errors = [case.error() for case in cases(area, "memory")]
    assert len(errors) >= 15
    assert statistics.median(errors) < MEDIANS.get(area, 0.001)


def test_there_are_enough_cases() -> None:
    assert sum(len(cases(area, "memory")) for area in areas()) > 1800
    assert sum(len(cases(area, "flops")) for area in areas()) > 1300
