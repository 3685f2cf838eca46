"""A wrong name of a field is answered with the one that was meant."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import PlanError
from planner.run import Run, parse_run
from planner.words import FIELDS, nearest_field


@pytest.mark.parametrize(
    ("mapping", "meant"),
    [
        ({"batch": {"sequence_length": 4096}}, "batch.seq_len"),
        ({"batch": {"seq_length": 4096}}, "batch.seq_len"),
        ({"batch": {"Seq-Len": 4096}}, "batch.seq_len"),
        ({"batch": {"gradient_accumulation_steps": 4}}, "batch.accumulation"),
        ({"seq_len": 4096}, "batch.seq_len"),
        ({"hardware": {"gpu": "T4", "num_gpus": 4}}, "hardware.gpus"),
        ({"gpus": 8}, "hardware.gpus"),
        ({"parallel": {"tensor_parallel_size": 8}}, "parallel.tp"),
        ({"hardware": {"zero_stage": 3}}, "parallel.sharding"),
        ({"gradient_checkpointing": True}, "activation_checkpointing"),
        ({"optimiser": "adamw"}, "optimizer"),
        ({"optimzer": "adamw"}, "optimizer"),
        ({"price": {"usd_per_gpu_hr": 2}}, "price.usd_per_gpu_hour"),
        ({"rank": 8}, "method.rank"),
        ({"parallel": {"rank": 8}}, "method.rank"),
    ],
)
def test_the_field_that_was_meant(mapping: dict[str, Any], meant: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_run({"model": "gpt2"} | mapping)
    assert caught.value.fix.startswith(f"Did you mean {meant}?")


def test_a_name_that_is_near_nothing_is_not_guessed() -> None:
    with pytest.raises(PlanError) as caught:
        parse_run({"model": "gpt2", "zzzz": 1})
    assert caught.value.fix.startswith("Remove it or correct its name")


def test_every_other_name_leads_to_a_field_of_a_run() -> None:
    for ours, others in FIELDS.items():
        for other in others:
            found = nearest_field((other,), Run)
            assert found is not None and found.rpartition(".")[2] == ours, other
    names = [other for others in FIELDS.values() for other in others]
    assert len(set(names)) == len(names)
