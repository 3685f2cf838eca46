"""Optimizers against the real implementations: what they keep, to the last byte, and the scratch of their step."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import PlanError
from planner.estimate.engine import estimate
from planner.estimate.resolve import resolve
from planner.estimate.update import trained_parameters, update_step
from planner.run import parse_run
from planner.workload.optimizers import OPTIMIZERS, Step
from tests.engine_cases import engine_run
from tests.oracles import record
from tests.oracles.optimizers import OPTIONS


def step_of(config: dict[str, Any], arguments: dict[str, Any]) -> Step:
    from planner.estimate.engine import _workload

    name = arguments["optimizer"]
    run = {**engine_run(config, {**arguments, "seq": 8}), "optimizer_options": OPTIONS.get(name, {})}
    resolved = resolve(parse_run(run))
    return update_step(resolved, trained_parameters(_workload(resolved)), 1.0)


def cases() -> list[Any]:
    recorded = record.load("optimizers")
    return [pytest.param(recorded["configs"][c["config"]], c, id=c["id"]) for c in recorded["cases"]]


@pytest.mark.parametrize(("config", "case"), cases())
def test_states_equal_the_real_optimizer(config: dict[str, Any], case: dict[str, Any]) -> None:
    step = step_of(config, case["arguments"])
    assert sum(step.states.values()) + sum(step.paged.values()) == case["truth"]["states"]


@pytest.mark.parametrize(("config", "case"), [c for c in cases() if "scratch" in c.values[1]["truth"]])
def test_scratch_of_the_step_is_near_the_real_one(config: dict[str, Any], case: dict[str, Any]) -> None:
    step = step_of(config, case["arguments"])
    assert step.temporaries == pytest.approx(case["truth"]["scratch"], rel=0.05, abs=4096)
