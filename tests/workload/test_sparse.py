"""Mixtures of experts and latent attention against what the real transformers and peft modules showed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import PlanError
from planner.workload.families import read_config
from tests.engine_cases import engine_estimate
from tests.oracles import parameters
from tests.oracles.sparse_cases import CONFIGS


@st.composite
def drawn(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """A config of the same keys with other sizes."""
    config = dict(CONFIGS[name])
    kv = draw(st.integers(1, 3))
    heads = kv * draw(st.integers(1, 3))
    latent = "kv_lora_rank" in config
    config |= {
        "num_attention_heads": heads, "num_key_value_heads": heads if latent else kv, "hidden_size": heads * 16,
        "num_hidden_layers": draw(st.integers(2, 5)), "intermediate_size": draw(st.integers(5, 90)),
        "vocab_size": draw(st.integers(11, 500)), "tie_word_embeddings": draw(st.booleans()),
    }  # fmt: skip
    for key in ("no_rope_layers", "mlp_only_layers"):
        if key in config:
            config[key] = [1] * 5 if key == "no_rope_layers" else [0]
    if "head_dim" in config:
        config["head_dim"] = draw(st.sampled_from([8, 24]))
        if "rotary_dim" in config:
            config["rotary_dim"] = 8
    for key in ("moe_intermediate_size", "shared_intermediate_size", "kv_lora_rank", "v_head_dim", "qk_nope_head_dim"):
        if key in config:
            config[key] = draw(st.integers(2, 60))
    if config.get("q_lora_rank") is not None:
        config["q_lora_rank"] = draw(st.integers(2, 40))
    return config


@pytest.mark.parametrize("name", [name for name in CONFIGS if not name.endswith(("odd", "deep"))])
def test_parameters_of_random_configs(name: str) -> None:
    @settings(max_examples=5, deadline=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        config = data.draw(drawn(name))
        truth = parameters.count(config, None, None)
        e = engine_estimate(config, {"seq": 4, "attention": "eager"})
        assert (e.parameters, e.trainable_parameters) == (truth["total"], truth["trainable"])

    check()


ACTIVE = {
    # model type: (config, active parameters in billions as published)
    "DeepSeek-V3 (arXiv:2412.19437)": ("deepseek-ai/DeepSeek-V3", 37, 0.02),
    "Mixtral-8x7B (arXiv:2401.04088)": ("mistralai/Mixtral-8x7B-v0.1", 13, 0.02),
    "gpt-oss-120b (arXiv:2508.10925)": ("openai/gpt-oss-120b", 5.13, 0.12),
    "Qwen3-30B-A3B (arXiv:2505.09388)": ("Qwen/Qwen3-30B-A3B", 3.3, 0.02),
}


@pytest.mark.parametrize(("name", "billions", "within"), ACTIVE.values(), ids=list(ACTIVE))
def test_active_parameters_are_those_that_the_publisher_says(name: str, billions: float, within: float) -> None:
    from planner.catalog.models import find_model

    entry = find_model(name)
    active = entry.parameters - read_config(entry.config).idle_parameters
    assert active / 1e9 == pytest.approx(billions, rel=within)


def test_the_summary_says_how_much_is_active() -> None:
    e = engine_estimate(CONFIGS["deepseek_v3"], {"seq": 8})
    summary = e.details["model"]["summary"]
    assert "MLA (latent 96)" in summary
    assert "parameters active" in summary


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("deepseek_v3", {"n_group": 5}, r"model\.n_group: '5' does not divide 16 experts"),
        ("deepseek_v3", {"num_key_value_heads": 2}, r"model\.num_key_value_heads: '2' is not the 8 heads"),
        ("deepseek_v2", {"topk_method": "noaux_tc"}, r"model\.topk_method"),
        ("phimoe", {"num_experts_per_tok": 3}, r"model\.num_experts_per_tok"),
        ("qwen3_moe-mixed", {"mlp_only_layers": "0"}, r"model\.mlp_only_layers"),
        ("llama4_text", {"no_rope_layers": [1]}, r"model\.no_rope_layers"),
        ("glm4_moe", {"output_router_logits": True}, r"model\.output_router_logits"),
    ],
)
def test_configs_that_cannot_be_are_refused(name: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        read_config({**CONFIGS[name], **change})


ALL_LINEAR: dict[str, Any] = {"name": "lora", "rank": 8, "targets": "all-linear"}


@pytest.mark.parametrize("name", ["phimoe", "llama4_text"])
def test_stacked_experts_are_not_adapted_by_all_linear(name: str) -> None:
    with pytest.raises(PlanError, match="stacked experts"):
        engine_estimate(CONFIGS[name], {"seq": 8, "method": ALL_LINEAR})


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - {"phimoe", "llama4_text", "llama4_text-odd"}))
def test_all_linear_adapts_what_peft_adapts(name: str) -> None:
    e = engine_estimate(CONFIGS[name], {"seq": 8, "method": ALL_LINEAR, "attention": "eager"})
    truth = parameters.count(CONFIGS[name], None, ALL_LINEAR)
    assert (e.parameters, e.trainable_parameters) == (truth["total"], truth["trainable"])
