"""Dense text models beyond the first thirty families, against what the real modules showed (recorded, and drawn at random)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import PlanError
from tests.engine_cases import engine_estimate
from tests.oracles import parameters, record
from tests.oracles.dense_cases import CONFIGS, EAGER_ONLY, HEADS

SIZES = {"max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def test_every_family_is_recorded() -> None:
    for kind in ("parameters", "flops", "memory"):
        seen = {CONFIGS[case["config"]]["model_type"] for case in record.load(f"dense-{kind}")["cases"]}
        assert seen == {config["model_type"] for config in CONFIGS.values()}


LLAMA_LIKE = tuple(
    dict.fromkeys(
        config["model_type"]
        for config in CONFIGS.values()
        if "num_key_value_heads" in config
        and config["model_type"] not in (*HEADS, "persimmon", "biogpt", "stablelm", "mistral")
    )
)
BERT_LIKE = tuple(family for family in HEADS if family not in ("distilbert", "modernbert", "eurobert", "nomic_bert"))


@st.composite
def decoder(draw: st.DrawFn, family: str) -> dict[str, Any]:
    kv = draw(st.integers(1, 3))
    heads, head_dim = kv * draw(st.integers(1, 3)), 8 * draw(st.integers(1, 4))
    layers, flag = draw(st.integers(1, 5)), st.booleans()
    config = {
        "model_type": family, "hidden_size": heads * head_dim, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv, "intermediate_size": draw(st.integers(3, 200)), "vocab_size": draw(st.integers(11, 700)),
        "head_dim": head_dim, "tie_word_embeddings": draw(flag), **SIZES,
    }  # fmt: skip
    if family not in ("cwm", "exaone4", "ministral3", "ernie4_5", "internlm3"):
        config["attention_bias"] = draw(flag)
    if family == "internlm3":
        config["attention_bias"] = config["mlp_bias"] = draw(flag)
    if family == "ernie4_5":
        config["use_bias"] = draw(flag)
    if family in ("smollm3", "helium", "exaone", "jais2", "hyperclovax", "iquestcoder"):
        config["mlp_bias"] = draw(flag)
    if family in ("cohere2", "smollm3") and layers > 1:
        config["sliding_window_pattern"] = config["no_rope_layer_interval"] = draw(st.integers(2, 4))
    return config


@st.composite
def encoder(draw: st.DrawFn, family: str) -> dict[str, Any]:
    heads, layers = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    return {
        "model_type": family, "hidden_size": 8 * heads * draw(st.integers(1, 3)), "num_hidden_layers": layers,
        "num_attention_heads": heads, "intermediate_size": draw(st.integers(3, 200)), "vocab_size": draw(st.integers(11, 700)),
        "type_vocab_size": draw(st.integers(1, 3)), "num_labels": draw(st.integers(2, 9)), "embedding_size": draw(st.integers(3, 90)),
        "num_hidden_groups": draw(st.integers(1, layers)), "input_embedding_size": draw(st.integers(3, 90)),
        "output_embedding_size": draw(st.integers(3, 90)), "use_task_id": draw(st.booleans()), **SIZES,
    }  # fmt: skip


@pytest.mark.parametrize("family", [*LLAMA_LIKE, *BERT_LIKE])
def test_parameters_of_random_configs(family: str) -> None:
    drawn_by = encoder if family in BERT_LIKE else decoder

    @settings(max_examples=5, deadline=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        config = data.draw(drawn_by(family))
        heads = [HEADS[family], "masked-lm"] if family in BERT_LIKE else [None]
        head = data.draw(st.sampled_from(heads))
        adapters = {"name": "lora", "rank": data.draw(st.integers(1, 9)), "targets": "all-linear"}
        method = data.draw(st.sampled_from([None, adapters]))
        truth = parameters.count(config, head, method)
        attention = {"attention": "eager"} if family in EAGER_ONLY else {}
        e = engine_estimate(config, {"seq": 4, "head": head, "method": method, **attention})
        assert (e.parameters, e.trainable_parameters) == (truth["total"], truth["trainable"])

    check()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_type": "cohere2", "layer_types": ["full_attention"]},
            r"model\.layer_types: .* does not name the 3 layers",
        ),
        ({"model_type": "smollm3", "no_rope_layers": [1]}, r"model\.no_rope_layers: .* does not name the 3 layers"),
        ({"model_type": "falcon", "new_decoder_architecture": True, "parallel_attn": False}, "does not go with"),
        ({"model_type": "falcon", "num_ln_in_parallel_attn": 2}, "needs new_decoder_architecture"),
        (
            {"model_type": "bloom", "n_layer": 2, "n_head": 8, "apply_residual_connection_post_layernorm": True},
            "not covered",
        ),
        ({"model_type": "biogpt", "layerdrop": 0.1}, r"model\.layerdrop: '0\.1' is not covered"),
        ({"model_type": "modernbert", "classifier_pooling": "max"}, "is not a known pooling"),
        ({"model_type": "falcon"}, "attention: 'sdpa' is not planned"),
    ],
)
def test_what_cannot_be_read_is_refused(changes: dict[str, Any], message: str) -> None:
    base = {k: v for k, v in CONFIGS["cohere"].items() if k not in ("head_dim", "num_key_value_heads")}
    with pytest.raises(PlanError, match=message):
        engine_estimate({**base, **changes}, {"seq": 8})


def test_shared_layers_count_once_and_compute_every_time() -> None:
    few, many = (
        engine_estimate({**CONFIGS["albert"], "num_hidden_layers": n}, {"seq": 64, "method": None}) for n in (2, 8)
    )
    assert few.parameters == many.parameters
    assert many.flops_per_step > 3 * few.flops_per_step
