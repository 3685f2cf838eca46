"""Encoder-decoders and speech models: parameters, FLOPs and peak memory against what the real modules showed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import PlanError
from tests.engine_cases import engine_estimate
from tests.oracles import parameters
from tests.oracles.encdec_cases import CONFIGS


@st.composite
def text_config(draw: st.DrawFn, model_type: str) -> dict[str, Any]:
    heads, other, head_dim = draw(st.integers(1, 4)), draw(st.integers(1, 4)), 8 * draw(st.integers(1, 3))
    layers, ffn, vocab = st.integers(1, 4), st.integers(3, 200), draw(st.integers(11, 700))
    if "t5" in model_type:
        return {
            "model_type": model_type, "d_model": draw(st.integers(3, 90)), "d_kv": head_dim, "d_ff": draw(ffn),
            "num_layers": draw(layers), "num_decoder_layers": draw(layers), "num_heads": heads, "vocab_size": vocab,
            "relative_attention_num_buckets": draw(st.integers(4, 40)), "decoder_start_token_id": 0,
            "feed_forward_proj": draw(st.sampled_from(["relu", "gated-gelu", "gated-silu"])),
        }  # fmt: skip
    return {
        "model_type": model_type, "d_model": heads * other * head_dim, "encoder_layers": draw(layers), "decoder_layers": draw(layers),
        "encoder_attention_heads": heads, "decoder_attention_heads": other, "encoder_ffn_dim": draw(ffn),
        "decoder_ffn_dim": draw(ffn), "vocab_size": vocab, "max_position_embeddings": draw(st.integers(8, 99)),
        "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2,
    }  # fmt: skip


TEXT = sorted({str(c["model_type"]) for c in CONFIGS.values() if "d_model" in c and "max_source_positions" not in c})


@pytest.mark.parametrize("model_type", TEXT)
def test_parameters_of_random_configs(model_type: str) -> None:
    @settings(max_examples=8)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        drawn = data.draw(text_config(model_type))
        method = data.draw(st.sampled_from([None, {"name": "lora", "rank": 3, "targets": "all-linear"}]))
        truth = parameters.count(drawn, None, method)
        e = engine_estimate(drawn, {"seq": 4, "method": method})
        assert (e.parameters, e.trainable_parameters) == (truth["total"], truth["trainable"])

    check()


def test_the_target_is_as_long_as_the_source_unless_the_run_says_otherwise() -> None:
    same = engine_estimate(CONFIGS["t5"], {"batch": 16, "seq": 96})
    short = engine_estimate(CONFIGS["t5"], {"batch": 16, "seq": 96, "target_len": 32})
    assert same.run.batch.target_len == 96
    assert (same.details["tokens_per_step"], short.details["tokens_per_step"]) == (16 * 192, 16 * 128)
    assert short.peak_memory_bytes < same.peak_memory_bytes


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        ("bart", {"seq": 64, "target_len": 600}, r"batch\.target_len: '600' is more than the 512 positions"),
        (
            "t5",
            {"seq": 64, "head": "sequence-classification"},
            r"head: 'sequence-classification' does not exist for t5",
        ),
        ("t5", {"seq": 64, "method": {"name": "freeze", "first": 7}}, "more than the model's 6 layers"),
        ("t5", {"seq": 64, "method": {"name": "bitfit"}}, "has no biases"),
    ],
)
def test_what_cannot_be_run_is_refused(config: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        engine_estimate(CONFIGS[config], arguments)
