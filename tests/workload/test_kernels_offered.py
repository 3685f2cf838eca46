"""A kernel of attention that transformers does not offer for a type is refused, not replaced: its classes say what they support."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import PlanError
from planner.workload.families import FAMILIES, read_config
from planner.workload.families.fields import WITHOUT_FLASH
from tests.engine_cases import engine_estimate
from tests.oracles.drawn import bases

transformers: Any = pytest.importorskip("transformers")

BASES = {kind: case for kind, case in bases().items() if "_class_name" not in case[0]}
WITHOUT_ATTENTION = ("mamba", "mamba2", "falcon_mamba")
"""State-space models: the word chooses between fused and separate operators of their scan."""


def _supports(kind: str) -> Any:
    config = dict(BASES[kind][0])
    name = config.pop("model_type")
    if name not in transformers.models.auto.configuration_auto.CONFIG_MAPPING:
        return None  # a published name of another type
    made = transformers.AutoModel._model_mapping[type(transformers.AutoConfig.for_model(name, **config))]
    return made[0] if isinstance(made, tuple) else made


def test_types_without_flash_have_readers() -> None:
    assert set(FAMILIES) >= WITHOUT_FLASH


@pytest.mark.parametrize("kind", sorted(set(BASES) - set(WITHOUT_ATTENTION)))
def test_kernels_are_those_of_the_classes(kind: str) -> None:
    arch, real = read_config(BASES[kind][0]), _supports(kind)
    if real is None:
        return
    assert arch.flash == bool(real._supports_flash_attn)
    assert not arch.sdpa or real._supports_sdpa


@pytest.mark.parametrize("kind", sorted(WITHOUT_FLASH))
def test_flash_is_refused_where_it_is_not_offered(kind: str) -> None:
    config, arguments = BASES[kind]
    with pytest.raises(PlanError, match=r"^attention: 'flash' is not offered by transformers for .* Use (sdpa|eager)\."):
        engine_estimate(config, {**arguments, "attention": "flash", "precision": "bf16", "method": None})
