"""Every catalog model of a covered family has the parameters that its publisher counts, exactly."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from planner import Run, estimate
from planner.catalog.models import ModelEntry, models
from planner.workload.families import FAMILIES, read_config
from tests.engine_cases import engine_estimate

DATA = Path(__file__).parents[2] / "planner" / "catalog" / "data"


def covered() -> Iterator[Any]:
    for row in csv.DictReader((DATA / "models.csv").read_text(encoding="utf-8").splitlines()):
        config = json.loads((DATA / "models" / f"{row['id'].replace('/', '--')}.json").read_text(encoding="utf-8"))
        if config.get("model_type", config.get("_class_name")) in FAMILIES:
            yield pytest.param(config, int(row["parameters"]), id=row["id"])


def published_head(config: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """The config and the head of the class that the checkpoint was published with, where it is not the one for fine-tuning."""
    arch, name = read_config(config), config.get("architectures", [""])[0]
    if name == "ElectraForPreTraining":  # one score a token: the layers of a classifier of one class
        return {**config, "num_labels": 1}, "sequence-classification"
    if arch.default_head == "image-classification" and name.endswith("Model"):  # ViTModel (with its pooler), Dinov2Model
        return config, "none"
    return config, "masked-lm" if arch.head_transform else None


@pytest.mark.parametrize(("config", "published"), list(covered()))
def test_parameters_are_the_published_count(config: dict[str, Any], published: int) -> None:
    config, head = published_head(config)
    attention = "sdpa" if "_class_name" in config else "eager"  # what all of transformers, and of diffusers, offers
    assert engine_estimate(config, {"head": head, "attention": attention}).parameters == published


@pytest.mark.parametrize("entry", models(), ids=lambda entry: entry.id)
def test_every_model_is_planned_as_its_users_run_it(entry: ModelEntry) -> None:
    """On one H100 with a micro batch of 1 and the default attention."""
    hardware = {"gpu": "H100 SXM 80GB", "gpus": 1}
    made = estimate(Run.model_validate({"model": entry.id, "hardware": hardware, "batch": {"micro": 1}}))
    assert made.peak_memory_bytes > made.parameters > 0
    assert made.flops_per_step > 0
