"""One law says how likely a run is to fit, in searches, comparisons and the published verdicts alike."""

from __future__ import annotations

import numpy as np
import pytest

from planner.estimate.chance import chance_of_fit
from planner.estimate.verdict import verdict_of
from planner.evidence import verdicts
from planner.search import compare, figures


def test_ends_of_the_interval_are_its_quantiles() -> None:
    low, high = 0.8, 1.3
    assert chance_of_fit(10.0, 10.0 * high, low, high) == pytest.approx(0.95)
    assert chance_of_fit(10.0, 10.0 * low, low, high) == pytest.approx(0.05)
    assert chance_of_fit(10.0, 10.0 * (low * high) ** 0.5, low, high) == pytest.approx(0.5)


def test_what_is_said_to_fit_fits_with_19_in_20() -> None:
    reserved = np.linspace(1.0, 20.0, 50)
    chances = chance_of_fit(reserved, 12.0, np.full(50, 1.05), np.full(50, 1.2))  # an interval that leaves out the prediction
    said = [verdict_of(float(r), (float(r) * 1.05, float(r) * 1.2), 12.0)[0] for r in reserved]
    assert np.all(np.diff(chances) <= 0)
    assert [c >= 0.95 - 1e-9 for c in chances] == [verdict is True for verdict in said]


def test_an_interval_without_width_is_a_step() -> None:
    assert chance_of_fit(10.0, 10.1, 1.0, 1.0) == pytest.approx(1.0)
    assert chance_of_fit(10.0, 9.9, 1.0, 1.0) == pytest.approx(0.0)


def test_all_rooms_use_the_same_law() -> None:
    assert verdicts.chance_of_fit is figures.chance_of_fit is compare.chance_of_fit is chance_of_fit
