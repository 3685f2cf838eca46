"""Random odd configs of every family: parameter counts equal those of the real modules to the last digit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine_cases import engine_estimate
from tests.oracles import parameters

SIZES = {"max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


@st.composite
def config(draw: st.DrawFn, model_type: str) -> dict[str, Any]:
    kv = draw(st.integers(1, 3))
    heads = kv * draw(st.integers(1, 4))
    head_dim = 8 * draw(st.integers(1, 4))
    hidden = heads * head_dim
    layers, ffn, vocab = draw(st.integers(1, 4)), draw(st.integers(3, 200)), draw(st.integers(11, 700))
    flag = st.booleans()
    if model_type == "gpt2":
        sizes: dict[str, Any] = {"n_embd": hidden, "n_layer": layers, "n_head": heads, "n_positions": draw(st.integers(8, 90))}
        sizes["n_inner"] = draw(st.sampled_from([None, ffn]))
        sizes["tie_word_embeddings"] = draw(flag)
        return {"model_type": model_type, "vocab_size": vocab, **sizes}
    base = {
        "model_type": model_type, "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "intermediate_size": ffn, "vocab_size": vocab, **SIZES,
    }  # fmt: skip
    if model_type == "opt":
        width = draw(st.sampled_from([hidden, 24]))
        extra: dict[str, Any] = {
            "ffn_dim": ffn, "word_embed_proj_dim": width, "do_layer_norm_before": draw(flag), "enable_bias": draw(flag),
            "layer_norm_elementwise_affine": draw(flag), "tie_word_embeddings": draw(flag),
        }  # fmt: skip
        return {**{k: v for k, v in base.items() if k != "intermediate_size"}, **extra}
    if model_type == "gpt_neox":
        return {**base, "attention_bias": draw(flag), "use_parallel_residual": draw(flag), "tie_word_embeddings": draw(flag)}
    if model_type == "phi":
        return {**base, "num_key_value_heads": kv, "tie_word_embeddings": draw(flag)}
    if model_type in ("bert", "roberta"):
        return {**base, "type_vocab_size": draw(st.integers(1, 3)), "num_labels": draw(st.integers(1, 9))}
    gated = {**base, "num_key_value_heads": kv, "tie_word_embeddings": draw(flag)}
    if model_type != "phi3":
        gated["head_dim"] = draw(st.sampled_from([head_dim, head_dim + 8]))
    if model_type in ("llama", "qwen3", "gemma", "gemma2", "olmo2"):
        gated["attention_bias"] = draw(flag)
    if model_type == "llama":
        gated["mlp_bias"] = draw(flag)
    if model_type == "olmo2":
        gated.pop("head_dim")
    return gated


TYPES = (
    "gpt2", "opt", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi", "phi3", "olmo2", "bert", "roberta",
)  # fmt: skip


@pytest.mark.parametrize("model_type", TYPES)
def test_parameters_of_random_configs(model_type: str) -> None:
    @settings(max_examples=15)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        drawn = data.draw(config(model_type))
        head = data.draw(st.sampled_from(["sequence-classification", "masked-lm"])) if model_type in ("bert", "roberta") else None
        truth = parameters.count(drawn, head, None)
        e = engine_estimate(drawn, {"seq": 4, "head": head})
        assert (e.parameters, e.trainable_parameters) == (truth["total"], truth["trainable"])

    check()


@pytest.mark.parametrize("model_type", TYPES)
def test_lora_parameters_of_random_configs(model_type: str) -> None:
    @settings(max_examples=6)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        drawn = data.draw(config(model_type))
        method = {"name": "lora", "rank": data.draw(st.integers(1, 9)), "targets": "all-linear"}
        head = "sequence-classification" if model_type == "bert" else "masked-lm" if model_type == "roberta" else None
        truth = parameters.count(drawn, head, method)
        e = engine_estimate(drawn, {"seq": 4, "head": head, "method": method})
        assert (e.parameters, e.trainable_parameters) == (truth["total"], truth["trainable"])

    check()


GATED_VARIANTS = ("starcoder2", "nemotron", "arcee", "stablelm", "granite", "gemma3_text", "seed_oss", "ministral")
SPARSE = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "granitemoe")


@pytest.mark.parametrize("model_type", [*GATED_VARIANTS, *SPARSE])
def test_parameters_of_random_variants(model_type: str) -> None:
    @settings(max_examples=8)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        drawn = data.draw(config("mistral")) | {"model_type": model_type}
        if model_type in ("starcoder2", "stablelm", "granite", "olmoe", "granitemoe"):
            drawn["head_dim"] = drawn["hidden_size"] // drawn["num_attention_heads"]
        if model_type in SPARSE:
            count = data.draw(st.integers(2, 9))
            experts = "num_local_experts" if model_type in ("mixtral", "granitemoe") else "num_experts"
            drawn |= {experts: count, "num_experts_per_tok": data.draw(st.integers(1, count))}
            drawn |= {"moe_intermediate_size": data.draw(st.integers(3, 90)), "shared_expert_intermediate_size": 24}
        truth = parameters.count(drawn, None, None)
        e = engine_estimate(drawn, {"seq": 4})
        assert (e.parameters, e.trainable_parameters) == (truth["total"], truth["trainable"])

    check()
