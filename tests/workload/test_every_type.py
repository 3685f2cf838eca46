"""Random configs of every model type with a reader: parameters equal those of the real modules to the last digit.

A sample runs with the other tests. The whole: ``PLUMBLINE_DRAWS=40 python -m pytest tests/workload/test_every_type.py``.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import PlanError
from planner.workload.families import FAMILIES
from tests.engine_cases import engine_estimate
from tests.oracles import denoisers, parameters
from tests.oracles.drawn import bases, drawn, real

DRAWS = int(os.environ.get("PLUMBLINE_DRAWS", "3"))
BASES = bases()
METHODS: tuple[dict[str, Any] | None, ...] = (None, None, {"name": "lora", "rank": 5, "targets": "all-linear"})


def test_every_reader_has_a_config_to_draw_from() -> None:
    assert set(BASES) == set(FAMILIES)


@pytest.mark.parametrize("model_type", sorted(BASES))
def test_parameters_of_random_configs(model_type: str) -> None:
    base, arguments = BASES[model_type]
    if "_class_name" in base and not denoisers.available():
        pytest.skip("diffusers is not installed")
    compared = 0

    @settings(max_examples=DRAWS)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        nonlocal compared
        config, method = data.draw(drawn(base)), data.draw(st.sampled_from(METHODS))
        try:
            e = engine_estimate(config, {**arguments, "method": method})
        except PlanError:
            return  # refused, with a reason
        try:
            truth = parameters.count(real(config), arguments.get("head"), method)
        except Exception:  # transformers' own classes refuse in many ways what cannot be
            return
        compared += 1
        assert (e.parameters, e.trainable_parameters) == (truth["total"], truth["trainable"]), config

    check()
    assert compared, "no drawn config was possible"
