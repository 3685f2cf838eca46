"""Parameters, FLOPs and peak memory against what the real transformers and peft modules showed (recorded, and some live)."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import PlanError
from tests.engine_cases import engine_estimate, tensor_peak
from tests.oracles import memory, parameters

LIVE: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 320, "intermediate_size": 864, "num_hidden_layers": 3,
    "num_attention_heads": 10, "num_key_value_heads": 5, "vocab_size": 3001, "max_position_embeddings": 512,
}  # fmt: skip


@pytest.mark.parametrize("precision", ["bf16", "bf16-mixed"])
@pytest.mark.parametrize("method", [{"name": "full"}, {"name": "lora", "rank": 4, "targets": ["q_proj", "down_proj"]}])
def test_a_config_that_was_never_recorded(precision: str, method: dict[str, Any]) -> None:
    arguments = {"precision": precision, "method": method, "attention": "sdpa", "batch": 3, "seq": 144}
    e = engine_estimate(LIVE, arguments)
    assert tensor_peak(e) == pytest.approx(memory.measure(LIVE, **arguments)["peak"], rel=0.03)
    counted = parameters.count(LIVE, None, method)
    assert (e.parameters, e.trainable_parameters) == (counted["total"], counted["trainable"])


def test_an_unknown_model_type_is_refused() -> None:
    with pytest.raises(PlanError, match=r"model\.model_type: 'nosuch' is not known to transformers"):
        engine_estimate({"model_type": "nosuch"}, {"seq": 8})
