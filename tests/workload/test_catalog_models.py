"""Every catalog model of a covered family has the parameters that its publisher counts, exactly."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from planner.workload.families import FAMILIES, read_config
from tests.engine_cases import engine_estimate

DATA = Path(__file__).parents[2] / "planner" / "catalog" / "data"


def covered() -> Iterator[Any]:
    for row in csv.DictReader((DATA / "models.csv").read_text(encoding="utf-8").splitlines()):
        config = json.loads((DATA / "models" / f"{row['id'].replace('/', '--')}.json").read_text(encoding="utf-8"))
        if config.get("model_type", config.get("_class_name")) in FAMILIES:
            yield pytest.param(config, int(row["parameters"]), id=row["id"])


@pytest.mark.parametrize(("config", "published"), list(covered()))
def test_parameters_are_the_published_count(config: dict[str, Any], published: int) -> None:
    # encoders are published with their masked-LM head
    head = "masked-lm" if read_config(config).head_transform else None
    assert engine_estimate(config, {"head": head, "attention": None}).parameters == published
