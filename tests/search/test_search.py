"""The search finds what brute force finds, says what stood in the way, and answers bad input with one line."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from planner.catalog import price_for, providers_of
from planner.errors import PlanError
from planner.estimate.engine import estimate
from planner.estimate.result import Estimate
from planner.run import parse_run
from planner.search import Constraints, Found, Space, search
from planner.search.evaluate import Evaluator
from planner.search.figures import figures_of
from planner.search.pareto import compared, front
from planner.search.space import complete
from tests.search.spaces import TINY, places

RUN: dict[str, Any] = {"model": TINY, "stack": "torchtitan", "precision": "bf16-mixed", "batch": {"accumulation": 4}, "data": "20M"}
SMALL: dict[str, Any] = {
    "gpus": ("H100 SXM 80GB", "RTX 4090"), "counts": (1, 2, 4), "micro": (1, 4), "tp": (1, 2), "pp": (1, 2), "cp": (1,), "virtual_pp": (1,),
    "sharding": ("none", "ddp", "zero3"), "checkpointing": ("none", "full"), "offload": ("none",), "accumulation": (1, 4), "sequence_parallel": (False,),
}  # fmt: skip


def found_of(run: dict[str, Any] = RUN, **fields: Any) -> Found:
    return search(Space(parse_run(run), **{**SMALL, **fields}))


@pytest.fixture(scope="module")
def everything() -> list[Estimate]:
    """Every configuration of the small space, estimated one by one from a plain loop over its values."""
    space = complete(Space(parse_run(RUN), **SMALL))
    names = ("micro", "accumulation", "tp", "pp", "sharding", "checkpointing")
    estimates = []
    for gpu, count in itertools.product(SMALL["gpus"], SMALL["counts"]):
        for micro, steps, tp, pp, sharding, kind in itertools.product(*(SMALL[name] for name in names)):
            ranks = count // (tp * pp)
            if count % (tp * pp) or (ranks == 1) != (sharding == "none") or micro * steps * ranks < space.least_batch:
                continue
            changes = {
                "hardware": {"gpu": gpu, "gpus": count}, "batch": {"micro": micro, "accumulation": steps},
                "parallel": {"tp": tp, "pp": pp, "sharding": sharding}, "activation_checkpointing": kind,
            }  # fmt: skip
            estimates.append(estimate(parse_run({**RUN, **changes})))
    return estimates


LIMITS: dict[str, Constraints] = {
    "none": Constraints(),
    "deadline": Constraints(deadline=1.1),
    "budget": Constraints(budget=1.001),
    "both": Constraints(deadline=3.0, budget=1.002),
    "margin": Constraints(margin=0.3),
    "cost": Constraints(objective="cost"),
    "energy": Constraints(objective="energy", margin=0.0),
}


def bound(limits: Constraints, everything: list[Estimate]) -> Constraints:
    """The constraints with their times and costs in units of the least that any configuration takes that fits."""
    fitting = [one for one in everything if one.fits]
    quickest = min(one.total_time_s or math.inf for one in fitting)
    cheapest = min(one.cost_usd or math.inf for one in fitting)
    deadline = None if limits.deadline is None else limits.deadline * quickest
    budget = None if limits.budget is None else limits.budget * cheapest
    return replace(limits, deadline=deadline, budget=budget)


def accepted(one: Estimate, limits: Constraints) -> bool:
    if limits.margin is None:
        fits = one.fits is True
    else:
        fits = one.peak_reserved_bytes <= (1 - limits.margin) * (one.usable_memory_bytes or 0.0)
    quick = limits.deadline is None or (one.total_time_s or 0.0) <= limits.deadline
    return fits and quick and (limits.budget is None or (one.cost_usd or 0.0) <= limits.budget)


@pytest.mark.parametrize("name", LIMITS)
def test_the_best_is_that_of_brute_force(name: str, everything: list[Estimate]) -> None:
    limits = bound(LIMITS[name], everything)
    good = [one for one in everything if accepted(one, limits)]
    found = found_of(constraints=limits)
    assert found.evaluated == len(everything) and found.complete
    assert good and found.best is not None
    assert accepted(found.best, limits)
    best = min(figures_of(one)[limits.goal] or 0.0 for one in good)
    assert figures_of(found.best)[limits.goal] == pytest.approx(best, rel=1e-9)
    again = estimate(found.best.run)
    assert again.model_dump(exclude={"run"}) == found.best.model_dump(exclude={"run"})


def test_the_pareto_set_is_that_of_brute_force(everything: list[Estimate]) -> None:
    limits = Constraints()
    found = found_of(constraints=limits)
    good = [one for one in everything if accepted(one, limits)]
    space = complete(Space(parse_run(RUN), **SMALL))
    chances = {}
    for figures, i, j in places(list(Evaluator(space).figures(space))):
        mask = np.zeros(figures.cell.allowed.shape, dtype=bool)
        mask[i, j] = True
        chances[round(figures.time[i, j], 6), round(figures.reserved[i, j])] = float(figures.chance(mask)[0])
    values = compared(
        [one.total_time_s for one in good], [one.cost_usd for one in good], [one.energy_kwh for one in good],
        [chances[round(one.total_time_s or 0.0, 6), round(one.peak_reserved_bytes)] for one in good],
    )  # fmt: skip
    expected = {tuple(np.round(values[i], 6)[:3]) for i in front(values)}
    got = {tuple(np.round([one.total_time_s, one.cost_usd, one.energy_kwh], 6)) for one in found.pareto}
    assert got == expected
    assert found.pareto_size == len(found.pareto)


def test_a_front_is_what_nothing_dominates() -> None:
    values = np.random.default_rng(1).integers(0, 12, size=(300, 4)).astype(float)
    values[5, 1] = np.nan
    known = np.where(np.isnan(values), np.inf, values)
    beaten = [any((other <= row).all() and (other < row).any() for other in known) for row in known]
    kept = set(front(values).tolist())
    assert {tuple(known[i]) for i in kept} == {tuple(row) for row, bad in zip(known, beaten, strict=True) if not bad}
    assert len({tuple(known[i]) for i in kept}) == len(kept)


def test_it_says_why_others_were_not_chosen() -> None:
    found = found_of()
    assert found.next_best is not None and "Best by time" in found.reasons[0] and "Next best" in " ".join(found.reasons)
    cheap = {"model": TINY, "method": "lora", "stack": "torchtitan", "data": "20M", "hardware": {"gpu": "RTX 4090"}, "price": {"usd_per_gpu_hour": 0.001}}
    found = found_of(cheap, constraints=Constraints(budget=0.01))
    assert "beyond the budget of $0.01" in " ".join(found.reasons)
    assert found.best is not None and (found.best.cost_usd or 1) <= 0.01 and found.best.run.hardware.gpu == "RTX 4090"


def test_nothing_fits_is_an_answer() -> None:
    big = {"model": "meta-llama/Llama-3.1-70B", "stack": "torchtitan", "precision": "bf16-mixed", "data": "1M"}
    found = found_of(big, gpus=("RTX 4090",), counts=(1, 2))
    assert found.best is None and not found.pareto and found.evaluated
    assert "Nothing fits" in found.reasons[0] and "needs" in found.reasons[1]
    late = found_of(constraints=Constraints(deadline=1.0))
    assert late.best is None and "none of them meets the deadline of 1 s" in late.reasons[0]
    assert any("beyond the deadline" in reason for reason in late.reasons)


def test_a_deadline_and_a_budget_that_exclude_each_other_are_both_named() -> None:
    run = {"model": TINY, "method": "lora", "data": "20M"}

    def asked(**limits: Any) -> Any:
        return found_of(run, gpus=("RTX 4090", "H100 SXM 80GB"), counts=(1, 2, 4), pp=(1,), constraints=Constraints(**limits))

    quickest, cheapest = (asked(objective=goal).best for goal in ("time", "cost"))
    assert quickest.cost_usd > cheapest.cost_usd and quickest.total_time_s < cheapest.total_time_s
    found = asked(deadline=quickest.total_time_s * 1.001, budget=cheapest.cost_usd * 1.001)
    assert found.best is None and "These two contradict each other" in found.reasons[1]
    assert "Neither can be met" in asked(deadline=0.001, budget=1e-9).reasons[1]
    late = asked(deadline=0.001, budget=1e6)
    assert late.reasons[1].startswith("The budget of") and "nothing that fits meets the deadline" in late.reasons[1]


def test_it_stops_when_asked_and_says_what_was_left_out() -> None:
    calls: list[float] = []
    found = search(Space(parse_run(RUN), **SMALL), progress=lambda share, n: calls.append(share))
    assert calls and all(0 <= share <= 1 for share in calls)
    asked = iter([False, False, True])
    stopped = search(Space(parse_run(RUN), **SMALL), cancelled=lambda: next(asked, True))
    assert not stopped.complete and 0 < stopped.evaluated < found.evaluated
    assert "not looked at" in stopped.left_out[0]


def test_without_data_the_time_is_that_of_a_sample() -> None:
    found = found_of({key: value for key, value in RUN.items() if key != "data"})
    assert found.best is not None and found.best.total_time_s is None
    assert "a sample" in found.reasons[0]


def test_methods_and_batches_are_free_or_bound() -> None:
    run = {"model": TINY, "stack": "torchtitan", "data": "20M"}
    methods = tuple(parse_run({"model": "gpt2", "method": name}).method for name in ("full", "lora"))
    found = found_of(run, methods=methods, gpus=("RTX 4090",), accumulation=(), constraints=Constraints(min_batch=6, max_batch=8))
    assert found.best is not None and found.best.run.method.name == "lora"
    for one in (found.best, *found.pareto):
        assert 6 <= one.run.batch.micro * one.run.batch.accumulation * one.run.dp <= 8


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"constraints": Constraints(min_batch=64, max_batch=8)}, "min-batch.*contradicts max-batch 8"),
        ({"constraints": Constraints(margin=1.5)}, "margin"),
        ({"constraints": Constraints(deadline=-1.0)}, "deadline"),
        ({"tp": (8,)}, "gpus: '1, 2, 4' contradicts tp 8"),
        ({"counts": (3,), "sharding": ("none",)}, "gpus: '3' contradicts sharding none"),
        ({"counts": (3,), "tp": (2,)}, "contradicts"),
        ({"accumulation": (1,), "micro": (1,), "constraints": Constraints(min_batch=10**6)}, "contradicts"),
        ({"gpus": ("H100 SXM 80GB",), "counts": (9, 11)}, "does not fill machines of 8"),
    ],
)  # fmt: skip
def test_what_cannot_be_satisfied_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanError, match=words):
        found_of(**fields)


def test_limits_need_a_measure() -> None:
    without = {key: value for key, value in RUN.items() if key != "data"}
    with pytest.raises(PlanError, match="needs to know how much is trained on"):
        found_of(without, constraints=Constraints(deadline=100.0))


def test_the_cheapest_of_the_providers_is_taken() -> None:
    names = providers_of("H100 SXM 80GB")
    assert len(names) >= 2
    found = found_of(gpus=("H100 SXM 80GB",), providers=names)
    offers = [offer for name in names if (offer := price_for("H100 SXM 80GB", name)) is not None]
    assert found.best is not None and found.best.details["price"]["usd_per_gpu_hour"] == min(o.usd_per_gpu_hour for o in offers)
    with pytest.raises(PlanError, match=r"price\.provider"):
        found_of(providers=("nobody",))


def test_a_stack_without_pipelines_is_offered_none() -> None:
    """transformers' Trainer has no pipeline stages: none are proposed, the answer says so, and asking for them is refused."""
    run = parse_run({**RUN, "stack": "hf"})
    found = search(Space(run, gpus=("H100 SXM 80GB",), counts=(1, 8), micro=(1,), checkpointing=("none",)))
    assert found.best is not None and all(one.run.parallel.pp == 1 for one in found.pareto)
    assert any("Pipeline stages: Hugging Face Trainer trains none" in line for line in found.left_out)
    with pytest.raises(PlanError, match="asks for pipeline stages"):
        search(Space(run, gpus=("H100 SXM 80GB",), counts=(8,), pp=(1, 2)))


def test_a_space_of_more_than_a_million_answers_when_patience_ends_and_says_what_it_left_out() -> None:
    batch = {"seq_len": 4096, "accumulation": 32}
    run = parse_run({"model": "meta-llama/Llama-3.1-70B", "stack": "megatron", "hardware": {"gpus": 64}, "batch": batch, "data": "1T"})
    space = Space(run, gpus=("H100 SXM 80GB", "B200 SXM"), counts=tuple(range(8, 2049, 8)), constraints=Constraints(min_batch=512, max_batch=4096))
    seen: list[float] = []
    found = search(space, progress=lambda share, count: seen.append(share), patience=2.0)
    assert found.evaluated + found.impossible > 0 and not found.complete
    assert found.left_out[0].startswith("Stopped early: about") and seen == sorted(seen)
    whole = complete(space)
    assert sum(cell.size for trace in whole.traces() for stage in whole.stages(trace) for cell in whole.cells(stage)) > 1_000_000
