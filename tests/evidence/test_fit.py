from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from planner.estimate import constants as engine_constants
from planner.evidence import fit
from planner.evidence.rows import Row, rows
from planner.evidence.score import Scored

from .conftest import make_estimate


def test_golden_section_finds_a_minimum() -> None:
    assert fit.golden_section(lambda x: (x - 0.3) ** 2, -2.0, 2.0, steps=20) == pytest.approx(0.3, abs=1e-3)


def test_fitted_constants_are_the_engine_s() -> None:
    """Every prior names a constant that the engine has, positive and with a source."""
    table = json.loads(fit.CONSTANTS.read_text(encoding="utf-8"))
    for path, prior in fit.PRIORS.items():
        assert prior.name in table, path
        assert prior.median > 0
        assert prior.spread > 0
        assert prior.source


def test_constants_are_put_back() -> None:
    before = json.dumps(engine_constants._table(), sort_keys=True)
    values = {path: prior.median * 1.5 for path, prior in fit.PRIORS.items()}
    with fit.constants(values, fit.PRIORS):
        assert engine_constants.by_stack("dispatch", "megatron") == pytest.approx(
            fit.PRIORS["dispatch [megatron]"].median * 1.5
        )
        assert engine_constants.sustained("Ampere", 8.0) == pytest.approx(
            fit.PRIORS["sustained_rate [Ampere 8.0]"].median * 1.5
        )
    assert json.dumps(engine_constants._table(), sort_keys=True) == before


def test_variants_of_a_stack_share_a_value() -> None:
    with fit.constants({"dispatch [hf-4]": 9.0}, fit.PRIORS):
        assert {engine_constants.by_stack("dispatch", name) for name in ("hf", "hf-4", "hf-kernels", "hf-liger")} == {
            9.0
        }


def test_a_constant_is_sought_on_the_rows_that_it_moves(llama_row: Row) -> None:
    priors = fit.PRIORS
    assert fit.moves(priors["sustained_rate [Ampere 8.0]"], llama_row)
    assert not fit.moves(priors["sustained_rate [Hopper 9.0]"], llama_row)
    assert fit.moves(priors["dispatch [hf-4]"], replace(llama_row, variant="foak"))
    assert not fit.moves(priors["dispatch [megatron]"], llama_row)
    assert fit.moves(priors["overlap_slowdown"], llama_row)
    assert not fit.moves(priors["overlap_slowdown"], replace(llama_row, gpus=1, dp=1))


def test_loss_pulls_to_the_prior_and_to_the_rows(llama_row: Row) -> None:
    from planner.evidence.predict import Predictor

    prediction = Predictor(engine=lambda run, profile: make_estimate(run)).predict(llama_row)

    def scored(ratio: float) -> Scored:
        return Scored(llama_row, prediction, tokens_ratio=ratio)

    prior = fit.PRIORS["overlap_slowdown"]
    at_prior, off = {prior.path: prior.median}, {prior.path: prior.median * math.exp(prior.spread)}
    assert fit.loss([scored(1.0)], at_prior, fit.PRIORS) == 0
    assert fit.loss([scored(1.0)], off, fit.PRIORS) == pytest.approx(0.5)
    assert fit.loss([scored(1.2)], at_prior, fit.PRIORS) < fit.loss([scored(1.5)], at_prior, fit.PRIORS)


def test_sample_is_bounded_by_group() -> None:
    chosen = fit.sample(rows(), per_group=3)
    counts: dict[str, int] = {}
    for row in chosen:
        counts[fit.group_of(row)] = counts.get(fit.group_of(row), 0) + 1
    assert max(counts.values()) <= 3
    assert len(chosen) < 1000
    assert fit.sample(rows(), per_group=3) == chosen


def test_folds_were_fitted_for_the_constants_of_today() -> None:
    folds = fit.fold_values()
    assert len(folds) == fit.FOLDS
    assert all(set(fold) == set(fit.PRIORS) for fold in folds), "run python -m planner.evidence.fit --write"


def test_written_constants_keep_all_else(tmp_path: Path) -> None:
    path = tmp_path / "constants.json"
    path.write_text(fit.CONSTANTS.read_text(encoding="utf-8"), encoding="utf-8")
    before = json.loads(path.read_text(encoding="utf-8"))
    name = "sustained_rate [Hopper 9.0]"
    fit.write_constants({name: 0.7654}, fit.PRIORS, path)
    after = json.loads(path.read_text(encoding="utf-8"))
    assert after["sustained_rate"]["by_architecture"]["Hopper 9.0"] == 0.765
    assert {key: value for key, value in after.items() if key != "sustained_rate"} == {
        key: value for key, value in before.items() if key != "sustained_rate"
    }
