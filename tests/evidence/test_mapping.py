from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import pytest

from planner.evidence.lengths import SPREAD, longest_of
from planner.evidence.mapping import Skip, stack_of, to_run
from planner.evidence.network import network_gbps
from planner.evidence.rows import Row, rows
from planner.run import Run, parse_run


def test_nearly_all_shipped_rows_become_runs() -> None:
    """Every row is a valid run file or is skipped for a stated reason; a mapping that pydantic refuses is a mistake here."""
    reasons: Counter[str] = Counter()
    valid = 0
    for row in rows():
        try:
            parse_run(to_run(row))
            valid += 1
        except Skip as reason:
            reasons[str(reason).split(" ")[0]] += 1
    assert valid >= 3900
    assert set(reasons) <= {"training", "compute", "model", "weights"}


def test_generic_llama(llama_row: Row) -> None:
    run = Run.model_validate(to_run(llama_row))
    assert isinstance(run.model, dict)
    assert run.model["model_type"] == "llama"
    assert (run.model["num_key_value_heads"], run.model["head_dim"], run.model["intermediate_size"]) == (2, 64, 1536)
    assert run.model["tie_word_embeddings"] is False
    assert (run.method.name, run.method.rank, run.method.targets) == (
        "lora",
        8,
        ("self_attn.q_proj", "self_attn.v_proj"),
    )
    assert (run.batch.micro, run.batch.accumulation, run.batch.seq_len, run.dp) == (4, 2, 1024, 2)
    assert (run.stack, run.activation_checkpointing, run.attention) == ("hf-4", "full", "flash")
    assert run.method.adapter_dtype == "bf16"
    assert run.hardware.gpus_per_node == 2


def test_two_matrix_decoder_is_gpt_without_dropout(llama_row: Row) -> None:
    row = replace(llama_row, mlp="gelu", kv_heads=8, tied=True, method="full", lora_r=None, lora_targets=None)
    model = to_run(row)["model"]
    assert (model["model_type"], model["n_inner"], model["resid_pdrop"], model["tie_word_embeddings"]) == (
        "gpt2",
        1536,
        0.0,
        True,
    )


def test_encoder_gets_the_head_of_its_task(llama_row: Row) -> None:
    row = replace(
        llama_row,
        arch="encoder",
        mlp="gelu",
        kv_heads=8,
        task="pretrain",
        method="full",
        lora_r=None,
        lora_targets=None,
    )
    assert to_run(row)["head"] == "masked-lm"
    assert to_run(replace(row, task="sft"))["head"] == "sequence-classification"


def test_catalogue_model_keeps_its_family_and_takes_vocabulary_of_the_row(llama_row: Row) -> None:
    row = replace(llama_row, hf_id="openai-community/gpt2", layers=12, hidden=768, vocab=50257, tied=True, mlp="gelu")
    assert to_run(row)["model"] == "openai-community/gpt2"
    padded = to_run(replace(row, vocab=50304))["model"]
    assert (padded["model_type"], padded["vocab_size"]) == ("gpt2", 50304)
    shortened = to_run(replace(row, layers=3, heads=12, kv_heads=12, head_dim=64, ffn=3072))["model"]
    assert shortened["n_layer"] == 3


def test_llama_names_of_targets_become_the_family_s_own(llama_row: Row) -> None:
    row = replace(llama_row, hf_id="openai-community/gpt2", layers=12, hidden=768, vocab=50257, tied=True, mlp="gelu")
    method = to_run(replace(row, lora_targets="q_proj k_proj v_proj o_proj"))["method"]
    assert method["targets"] == ["attn.c_attn", "attn.c_proj"]
    assert to_run(replace(row, lora_targets="all-linear"))["method"]["targets"] == "all-linear"
    assert to_run(replace(row, lora_targets="all-linear lm_head"))["method"]["targets"][-1] == "lm_head"


@pytest.mark.parametrize(
    ("framework", "variant", "compile", "stack"),
    [
        ("hf-trainer", None, None, "hf-4"),
        ("hf-trainer", None, True, "hf-compile"),
        ("hf-trainer", "accelerated-peft-bnb-foak", None, "hf-kernels"),
        ("hf-trainer", "foak-fast-kernels-liger", None, "hf-liger"),
        ("tensorflow", None, None, "tensorflow"),
        ("tensorflow2", None, None, "hf-compile"),
        ("nemo", None, None, "nemo"),
        ("fms-fsdp", None, True, "torchtitan"),
    ],
)
def test_software_and_its_kernels_choose_the_stack(
    llama_row: Row, framework: str, variant: str | None, compile: bool | None, stack: str
) -> None:
    assert to_run(replace(llama_row, framework=framework, variant=variant, compile=compile))["stack"] == stack
    assert stack_of(replace(llama_row, framework="abacus")) is None


def test_any_fused_attention_is_sdpa_where_flash_does_not_run(llama_row: Row) -> None:
    assert to_run(replace(llama_row, gpu="V100 SXM2 16GB"))["attention"] == "sdpa"
    assert to_run(llama_row)["attention"] == "flash"


def test_measured_results_are_never_read(llama_row: Row) -> None:
    bare = replace(
        llama_row,
        tokens_per_s_gpu=None,
        peak_mem_gib=None,
        mem_kind=None,
        step_time_s=None,
        mfu_pct=None,
        outcome="oom",
    )
    assert to_run(bare) == to_run(replace(llama_row, mfu_pct=50.0, hfu_pct=60.0, tflops_per_gpu=200.0, step_time_s=1.0))


def test_memory_takes_the_longest_batch_and_time_the_mean(llama_row: Row) -> None:
    def lengths(text: str, **changes: object) -> tuple[int, int]:
        row = replace(llama_row, gpus=1, dp=1, seq_len=209.9, packing_or_padding=text, **changes)  # type: ignore[arg-type]
        return to_run(row, "time")["batch"]["seq_len"], to_run(row, "memory")["batch"]["seq_len"]

    assert lengths("packed to seq_len") == (210, 210)
    assert lengths("padded per batch, cut at 768; seq_len = mean unpadded") == (210, 768)
    assert lengths(
        "padded per batch, cut at 768; seq_len = mean unpadded", quality_reason="memory is the p99 of reserved"
    ) == (210, 609)
    assert lengths("not packed, padding-free; seq_len = mean tokens per sample") == (210, round(209.9 * (1 + 7.7 / 4)))
    assert lengths("padded per batch; the first step has the longest sample, which is seq_len; mean about 110") == (
        210,
        210,
    )


def test_longest_of_a_batch_grows_from_the_mean() -> None:
    assert longest_of(1) == pytest.approx(1.0, abs=0.01)
    assert longest_of(2) == pytest.approx(2 * NormalDist().cdf(SPREAD / math.sqrt(2)), rel=0.02)
    assert longest_of(64) > longest_of(8) > longest_of(2)


def test_memory_of_another_size_edits_the_catalogue_entry(llama_row: Row) -> None:
    gpu = to_run(replace(llama_row, gpu_mem_gib=70.0))["hardware"]["gpu"]
    assert gpu == {"base": "A100 SXM4 80GB", "usable_memory_bytes": 70 * 2**30}


def test_batch_follows_from_the_global_one(llama_row: Row) -> None:
    batch = to_run(replace(llama_row, micro_batch=None, grad_accum=2, global_batch=32))["batch"]
    assert (batch["micro"], batch["accumulation"]) == (8, 2)
    batch = to_run(replace(llama_row, micro_batch=4, grad_accum=None, global_batch=32))["batch"]
    assert (batch["micro"], batch["accumulation"]) == (4, 4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"problem": "layers: 'x' is not a number"}, "layers"),
        ({"seq_len": None}, "seq_len is blank"),
        ({"micro_batch": None, "global_batch": None}, "micro_batch is blank"),
        ({"heads": None}, "heads is blank"),
        ({"framework": "abacus"}, "no stack"),
        ({"compute_dtype": "int8"}, "compute type int8"),
        ({"act_ckpt": "sometimes"}, "act_ckpt"),
        ({"method": "full", "weights_dtype": "gptq-int4"}, "cannot be trained in full"),
        ({"arch": "vit"}, "architecture vit"),
    ],
)
def test_what_cannot_be_mapped_says_why(llama_row: Row, change: dict[str, object], reason: str) -> None:
    with pytest.raises(Skip, match=reason):
        to_run(replace(llama_row, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "per_node", "gbps"),
    [
        (None, None, None),
        ("NVLink", 8, None),
        ("NVLink + 3.2 Tb/s EFA", 8, 3200.0),
        ("NVLink intra-node; 400 Gb/s RDMA per GPU inter-node", 4, 1600.0),
        ("NVLink/NVSwitch + 8x 200Gb/s HDR InfiniBand per node (Selene)", 8, 1600.0),
        ("4x NVLink3 intra-node (8 GPU); 4x Omni-Path 100 inter-node (Jean Zay)", 8, 400.0),
        ("NVLink + Omni-Path 100Gb/s (4 per node)", 4, 400.0),
        (
            "intra: NVLINK Gen4 900 GB/s; inter: Storage: 2x ConnectX-7 IB NDR 400Gb/s, Compute: 8x ConnectX-7 IB NDR 400Gb/s",
            8,
            3200.0,
        ),
    ],
)
def test_network_in_words(text: str | None, per_node: int | None, gbps: float | None) -> None:
    assert network_gbps(text, per_node) == gbps


ASSUMED: dict[str, Any] = {
    # row: what its columns leave out or say in their own way, and what the run file then says
    "nemo-24.07-gpt-3-175b-h100-128gpu-pretrain-gbs256": lambda run: run["model"]["vocab_size"] == 51200,
    "swift-gen2-openbuddy-zephyr-7b-chat-lora-bf16-s512-b1-r8-default-ql": lambda run: run["model"]["vocab_size"] == 32000,
    "mbridge-26.02-qwen3-235b-a22b-h100-256gpu-fp8-pretrain-gbs8192": lambda run: run["parallel"]["sequence_parallel"],
    "peft-mmqa-trainable-tokens-sos-eos-2026-01-07-1549": lambda run: len(run["method"]["token_indices"]) == 2,
    "titan-t6-405b-cp8-s262144": lambda run: run["parallel"]["sharding"] == "zero3",
    "titan-t1-8b-8gpu-compile": lambda run: run["stack"] == "torchtitan-2024",
    "titan-b200-8b-bf16": lambda run: run["stack"] == "torchtitan",
    "litgpt-thunder-tinyllama-1gpu-thunder-6": lambda run: run["stack"] == "litgpt-compile",
}


@pytest.mark.parametrize("start", ASSUMED)
def test_what_columns_leave_out_is_filled_in(start: str) -> None:
    row = next(r for r in rows() if r.id.startswith(start[:52]))
    assert ASSUMED[start](to_run(row, "memory"))
