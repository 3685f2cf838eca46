"""State-space models, linear attention and hybrids: counts, FLOPs and peaks against the real modules (recorded, and some live)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import PlanError
from planner.workload.families import read_config
from tests.engine_cases import engine_estimate, tensor_peak
from tests.oracles import parameters
from tests.oracles.statespace_cases import CONFIGS


@st.composite
def drawn_config(draw: st.DrawFn, model_type: str) -> dict[str, Any]:
    """An odd config of the family."""
    flag, small = st.booleans(), st.integers(1, 3)
    kv = draw(small)
    heads, head = kv * draw(small), 8 * draw(small)
    hidden = heads * head
    base: dict[str, Any] = {
        "model_type": model_type, "hidden_size": hidden, "num_hidden_layers": draw(st.integers(1, 5)), "vocab_size": draw(st.integers(11, 500)),
        "pad_token_id": 0, "tie_word_embeddings": draw(flag),
    }  # fmt: skip
    layers = base["num_hidden_layers"]
    if model_type in ("mamba", "falcon_mamba"):
        return {
            **base, "state_size": draw(st.integers(1, 9)), "conv_kernel": draw(st.integers(2, 5)), "expand": draw(small),
            "use_bias": draw(flag), "use_conv_bias": draw(flag), "time_step_rank": draw(st.sampled_from(["auto", 3])),
        }  # fmt: skip
    groups = draw(small)
    own = groups * draw(small)
    if model_type == "mamba2":
        return {
            **base, "hidden_size": own * 4, "num_heads": own, "head_dim": 8, "n_groups": groups, "state_size": draw(st.integers(1, 9)),
            "use_bias": draw(flag), "chunk_size": draw(st.integers(2, 9)),
        }  # fmt: skip
    attends = {**base, "num_attention_heads": heads, "num_key_value_heads": kv, "intermediate_size": draw(st.integers(3, 90))}
    if model_type == "lfm2":
        return {
            **attends, "full_attn_idxs": draw(st.lists(st.integers(0, 4), max_size=3)), "conv_bias": draw(flag), "conv_L_cache": draw(st.integers(2, 4)),
            "block_auto_adjust_ff_dim": draw(flag), "block_multiple_of": draw(st.integers(3, 40)),
        }  # fmt: skip
    if model_type == "jamba":
        period = draw(st.integers(1, 4))
        return {
            **attends, "attn_layer_period": period, "attn_layer_offset": draw(st.integers(0, period - 1)), "num_experts": draw(st.integers(1, 4)),
            "num_experts_per_tok": 1, "mamba_d_state": draw(st.integers(1, 9)), "mamba_proj_bias": draw(flag), "mamba_expand": draw(small),
        }  # fmt: skip
    if model_type == "nemotron_h":
        signs = draw(st.lists(st.sampled_from("M*-"), min_size=1, max_size=7))
        own_sizes = {"mamba_num_heads": own, "mamba_head_dim": 8, "n_groups": groups, "ssm_state_size": draw(st.integers(1, 9))}
        attends.pop("num_hidden_layers")
        attends.pop("tie_word_embeddings")
        return {**attends, **own_sizes, "hybrid_override_pattern": "".join(signs), "head_dim": head + 8, "use_bias": draw(flag), "mlp_bias": draw(flag)}
    if model_type in ("qwen3_next", "qwen3_5_text"):
        sizes = {
            "linear_num_key_heads": groups, "linear_num_value_heads": own, "linear_key_head_dim": 8 * draw(small),
            "linear_value_head_dim": 8 * draw(small),
        }  # fmt: skip
        experts = {"num_experts": draw(st.integers(1, 4)), "num_experts_per_tok": 1, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 16}
        return {**attends, **sizes, "head_dim": 16, "attention_bias": draw(flag), **(experts if model_type == "qwen3_next" else {})}
    kinds = draw(st.lists(st.sampled_from(["mamba", "hybrid" if model_type == "zamba2" else "attention"]), min_size=layers, max_size=layers))
    if model_type == "zamba2":
        return {
            **attends, "tie_word_embeddings": True, "num_key_value_heads": heads, "layers_block_type": kinds,
            "n_mamba_heads": heads, "mamba_d_state": 5, "adapter_rank": draw(small),
            "num_mem_blocks": draw(small), "use_shared_attention_adapter": draw(flag), "use_mem_rope": draw(flag),
        }  # fmt: skip
    ssm = {"mamba_n_heads": heads, "mamba_d_state": draw(st.integers(1, 9)), "mamba_proj_bias": draw(flag), "attention_bias": draw(flag)}
    if model_type == "bamba":
        return {**attends, **ssm, "attn_layer_indices": [i for i, kind in enumerate(kinds) if kind == "attention"], "mlp_bias": draw(flag)}
    if model_type == "falcon_h1":
        return {**attends, **ssm, "mamba_d_ssm": heads * 16, "mamba_rms_norm": draw(flag), "projectors_bias": draw(flag)}
    return {**attends, **ssm, "layer_types": kinds, "num_local_experts": draw(st.integers(0, 3)), "num_experts_per_tok": 1, "shared_intermediate_size": 24}


FAMILIES = (
    "mamba", "falcon_mamba", "mamba2", "jamba", "bamba", "granitemoehybrid", "falcon_h1", "nemotron_h", "zamba2", "lfm2", "qwen3_next",
    "qwen3_5_text",
)  # fmt: skip


@pytest.mark.parametrize("model_type", FAMILIES)
def test_parameters_of_random_configs(model_type: str) -> None:
    @settings(max_examples=6)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        config = data.draw(drawn_config(model_type))
        truth = parameters.count(config, None, None)
        e = engine_estimate(config, {"seq": 4})
        assert (e.parameters, e.trainable_parameters) == (truth["total"], truth["trainable"])

    check()


SCANS = [name for name in CONFIGS if not name.endswith("odd")]


@pytest.mark.parametrize("name", SCANS)
def test_fused_kernels_take_less_than_separate_operators(name: str) -> None:
    arguments = {"batch": 2, "seq": 512, "precision": "bf16"}
    fused, torch = (engine_estimate(CONFIGS[name], {**arguments, "attention": kind}) for kind in ("sdpa", "eager"))
    assert fused.parameters == torch.parameters
    assert tensor_peak(fused) < tensor_peak(torch)
    assert fused.step_time_s < torch.step_time_s
    assert any("fused kernels" in note for note in fused.assumptions)
    assert any("separate operators" in note for note in torch.assumptions)


def test_the_fused_selective_scan_keeps_what_the_paper_says() -> None:
    """Without the states of every token, activations grow by a constant number of channels a token (Gu & Dao 2023, sec. 3.3.2)."""
    config = {**CONFIGS["mamba"], "vocab_size": 64}

    def activations(seq: int) -> float:
        e = engine_estimate(config, {"batch": 1, "seq": seq, "precision": "bf16", "attention": "sdpa"})
        return max(point.parts.get("activations", 0.0) for point in e.memory_curve if point.phase == "forward")

    channels = (activations(4096) - activations(2048)) / 2048 / 2 / 512
    # a layer keeps xz and the scan's result (3), and its norm; nothing of the size channels × state (16)
    assert channels / CONFIGS["mamba"]["num_hidden_layers"] < 16


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**CONFIGS["mamba2"], "head_dim": 63}, "model.num_heads"),
        ({**CONFIGS["bamba"], "mamba_d_head": 63}, "model.mamba_n_heads"),
        ({**CONFIGS["nemotron_h"], "hybrid_override_pattern": "MX"}, "model.hybrid_override_pattern"),
        ({**CONFIGS["granitemoehybrid"], "layer_types": ["mamba"]}, "model.layer_types"),
        ({**CONFIGS["lfm2"], "layer_types": ["conv", "full_attention", "rnn"]}, "model.layer_types"),
        ({**CONFIGS["qwen3_next"], "linear_num_key_heads": 3}, "model.linear_num_key_heads"),
    ],
)
def test_sizes_that_contradict_each_other_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        read_config(config)


@pytest.mark.parametrize("name", ["mamba", "falcon_mamba", "mamba2", "falcon_h1", "nemotron_h"])
def test_adapters_that_peft_refuses_are_refused(name: str) -> None:
    for targets in ("all-linear", ["out_proj"]):
        with pytest.raises(PlanError, match="refused by peft"):
            engine_estimate(CONFIGS[name], {"seq": 8, "method": {"name": "lora", "rank": 4, "targets": targets}})
