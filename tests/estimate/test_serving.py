"""Serving: caches against transformers' own, FLOP against torch's counter, and what must hold between sizes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from planner.errors import PlanError
from planner.estimate.cache import layers_of
from planner.estimate.serving import serving
from planner.run import parse_run
from planner.workload import read_config

SIZES: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}  # fmt: skip
LATENT = {
    **SIZES, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1, "moe_intermediate_size": 16, "first_k_dense_replace": 1,
}  # fmt: skip
LINEAR = {
    **SIZES, "head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
}  # fmt: skip
BESIDE = {
    **SIZES, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "head_dim": 8,
}  # fmt: skip
DUAL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "num_heads": 4, "head_dim": 16, "n_groups": 2, "chunk_size": 8}
JAMBA = {
    **SIZES, "mamba_d_state": 8, "mamba_dt_rank": 4, "num_experts": 2, "attn_layer_period": 4, "attn_layer_offset": 1, "use_mamba_kernels": False,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "LlamaConfig": SIZES,
    "MistralConfig": {**SIZES, "sliding_window": 8},
    "Gemma3TextConfig": {**SIZES, "head_dim": 8, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "GptOssConfig": {**SIZES, "head_dim": 8, "sliding_window": 8, "num_local_experts": 4},
    "GPT2Config": {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4},
    "DeepseekV3Config": LATENT,
    "MambaConfig": {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
    "Mamba2Config": DUAL,
    "Qwen3NextConfig": LINEAR,
    "FalconH1Config": BESIDE,
    "JambaConfig": JAMBA,
}


def built(name: str, **more: Any) -> tuple[Any, Any]:
    """A small model with random weights, and its configuration."""
    pytest.importorskip("torch", reason="caches are compared with transformers' own")
    transformers = pytest.importorskip("transformers", reason="caches are compared with transformers' own")
    config = getattr(transformers, name)(**MODELS[name], **more)
    return transformers.AutoModelForCausalLM.from_config(config).eval(), config


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_a_cache_is_as_large_as_that_of_transformers(name: str) -> None:
    model, config = built(name)
    import torch

    layers = layers_of(read_config(config.to_dict()))
    for tokens in (5, 20):
        with torch.no_grad():
            out = model(torch.zeros(3, tokens, dtype=torch.long), use_cache=True)
        kept = 0
        for layer in (getattr(out, "past_key_values", None) or out.cache_params).layers:
            for held in vars(layer).values():
                parts = held if isinstance(held, (list, tuple)) else held.values() if isinstance(held, dict) else [held]
                kept += sum(part.numel() for part in parts if isinstance(part, torch.Tensor) and part.numel() > 1)
        assert 3 * sum(layer.values(tokens) for layer in layers) == kept


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["LlamaConfig", "GPT2Config", "DeepseekV3Config", "MistralConfig"])
def test_flop_of_a_token_are_those_that_torch_counts(name: str) -> None:
    model, config = built(name)
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model.set_attn_implementation("eager")
    if name == "DeepseekV3Config":
        model.set_experts_implementation("eager")  # the counter does not know grouped products
    run = parse_run({"model": json.loads(config.to_json_string(use_diff=False)), "method": "full", "precision": "fp32"})
    planned = serving(run, batch=3, context=21, prompt=20)
    with torch.no_grad():
        with FlopCounterMode(display=False) as first:
            out = model(torch.zeros(3, 20, dtype=torch.long), use_cache=True, logits_to_keep=1)
        with FlopCounterMode(display=False) as then:
            model(torch.zeros(3, 1, dtype=torch.long), past_key_values=out.past_key_values, use_cache=True)
    assert planned.decode_flops == pytest.approx(then.get_total_flops(), rel=0.03)
    assert planned.prefill_flops == pytest.approx(first.get_total_flops(), rel=0.03)


LLAMA: dict[str, Any] = {"model": "meta-llama/Llama-3.1-8B", "method": "lora"}


def served(changes: dict[str, Any] | None = None, **options: Any) -> Any:
    return serving(parse_run({**LLAMA, **(changes or {})}), **options)


def test_weights_are_those_of_the_model() -> None:
    assert served().weights_bytes == pytest.approx(8_030_261_248 * 2, rel=0.001)
    assert served(weights="nf4").weights_bytes < 0.4 * served().weights_bytes
    assert served({"method": "full"}, weights="nf4").weights_bytes == served(weights="nf4").weights_bytes
    assert served({"method": "qlora"}).weights == "nf4-dq"
    assert served({"method": "full", "precision": "bf16-mixed"}).weights == "bf16"


def test_adapters_beside_the_weights_cost_memory_and_time() -> None:
    merged, beside = served(), served(merged=False)
    assert beside.weights_bytes > merged.weights_bytes
    assert beside.token_s > merged.token_s and beside.graph_token_s > merged.graph_token_s and beside.prefill_s > merged.prefill_s


def test_a_token_takes_at_least_the_reading_of_the_weights() -> None:
    one, many = served(), served(batch=32)
    assert one.graph_token_s > one.weights_bytes / 3.35e12
    assert one.token_s >= one.graph_token_s
    assert many.tokens_per_s[1] > 10 * one.tokens_per_s[1]
    assert many.cache_bytes == 32 * one.cache_bytes == 32 * 2 * 8 * 128 * 32 * 4096 * 2


def test_the_largest_batch_and_context_fit_and_the_next_do_not() -> None:
    most = served().most_batch
    assert served(batch=most).fits and not served(batch=most + max(2, most // 128)).fits
    longest = served().most_context
    assert served(context=longest).fits and not served(context=round(longest * 1.02)).fits


def test_what_does_not_fit_says_so() -> None:
    small = served({"hardware": {"gpu": "T4"}, "precision": "fp16"})
    assert small.fits is False and small.most_batch is None


@pytest.mark.parametrize(
    ("changes", "options", "field"),
    [
        ({}, {"batch": 0}, "batch"),
        ({}, {"context": 10, "prompt": 11}, "prompt"),
        ({}, {"weights": "fp1"}, "weights"),
        ({"model": "google-bert/bert-base-uncased", "method": "full"}, {}, "model"),
        ({"model": "openai/whisper-tiny", "method": "full"}, {}, "model"),
        ({"method": "prefix-tuning"}, {}, "method.name"),
    ],
)
def test_what_is_not_served_is_refused(changes: dict[str, Any], options: dict[str, Any], field: str) -> None:
    with pytest.raises(PlanError) as told:
        served(changes, **options)
    assert told.value.field == field
