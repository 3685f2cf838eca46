"""Every method, precision, optimizer and memory saver that the contract names yields a consistent plan.

What the plans say is held by the recorded truths (`test_recorded.py`, `test_optimizers.py`, `test_checkpoints.py`), not by this file.
"""

from __future__ import annotations

from typing import Any

import pytest

from planner.estimate.engine import estimate
from planner.run import parse_run
from tests.oracles.cases import CONFIGS

BASE: dict[str, Any] = {
    "model": CONFIGS["llama"],
    "hardware": {"gpu": "H100 SXM 80GB"},
    "batch": {"micro": 2, "seq_len": 256},
}


def _base(weights: str, method: str = "lora") -> dict[str, Any]:
    return {"method": method, "precision": {"weights": weights, "compute": "bf16"}}


def _lora(**fields: Any) -> dict[str, Any]:
    return {"method": {"name": "lora", **fields}}


def _method(name: str, **fields: Any) -> dict[str, Any]:
    return {"method": {"name": name, **fields}}


METHODS: dict[str, dict[str, Any]] = {
    "full": _method("full"), "freeze first": _method("freeze", first=2), "freeze last": _method("freeze", last=2),
    "head only": _method("head"), "LoRA-FA": _method("lora_fa"), "LoRA+": _method("lora+"),
    "LoRA": _lora(), "rsLoRA": _method("rslora"), "DoRA": _method("dora"),
    **{f"adapter {p}": _method("adapter", placement=p) for p in ("houlsby", "pfeiffer", "parallel")},
    "QLoRA nf4": _base("nf4", "qlora"), "QLoRA double": _base("nf4-dq", "qlora"), "LoftQ": _base("nf4", "loftq"),
    "LoRA on GPTQ": _base("int4"), "LoRA on AWQ": _base("awq"), "LoRA on int8": _base("int8"),
    **{name: _method(name) for name in (
        "adalora", "vera", "loha", "lokr", "oft", "boft", "ia3", "ln_tuning", "prompt", "p_tuning", "prefix",
        "adaption_prompt", "fourierft", "miss", "bone", "galore", "lisa", "reft",
    )},
    "VB-LoRA": _method("vblora", vector_length=64), "BitFit": {**_method("bitfit"), "model": CONFIGS["gpt2"]},
    "modules_to_save": _lora(modules_to_save=["lm_head"]), "names": _lora(targets=["q_proj"]), "expression": _lora(targets=".*q_proj"),
    "all-linear": _lora(targets="all-linear"), "per layer": _lora(targets=["q_proj"], layers=[1]),
    "ranks per pattern": _lora(targets=["q_proj", "down_proj"], rank_pattern={"down_proj": 4}),
    "adapter dtype": _lora(adapter_dtype="bf16"), "several adapters": _lora(adapters=3),
}  # fmt: skip
INITS = {name: _lora(init_lora_weights=name) for name in ("eva", "corda", "olora", "pissa", "loftq")} | {
    f"{name} by name": _method(name) for name in ("eva", "corda", "olora", "pissa", "houlsby", "pfeiffer")
}
PRECISIONS: dict[str, dict[str, Any]] = {
    **{name: {"precision": name} for name in ("fp32", "tf32", "bf16-mixed", "fp16-mixed", "fp8", "fp8-block", "fp8-mixed")},
    "fp8 delayed": {"precision": {"weights": "bf16", "compute": "fp8", "recipe": "delayed"}, "stack": "megatron"},
    "fp8 current": {"precision": {"weights": "bf16", "compute": "fp8", "recipe": "current"}},
    **{name: {"precision": name, "hardware": {"gpu": "B200 SXM"}} for name in ("mxfp8", "nvfp4")},
}
OPTIMIZERS = {name: {"optimizer": name} for name in (
    "adamw", "adamw8bit", "paged-adamw", "paged-adamw8bit", "adafactor", "lion", "sgd", "sgd-momentum", "sophia", "shampoo", "soap",
    "muon", "adam-mini", "apollo", "schedule-free", "lion8bit",
)}  # fmt: skip
SAVERS: dict[str, dict[str, Any]] = {
    "every n": {"activation_checkpointing": {"every": 3}}, "by operation": {"activation_checkpointing": {"keep": ["matmul"]}},
    **{f"offload {kind}": {"offload": kind} for kind in ("activations", "optimizer", "params")},
    "chunked loss": {"stack": "hf-liger"}, "fused loss": {"stack": "hf-kernels"},
    **{kind: {"data": {"samples": 100, "lengths": {64: 0.5, 256: 0.5}, "packing": kind}} for kind in ("packed", "padded", "bucketed")},
    "mean and spread": {"data": {"samples": 100, "mean_tokens": 100, "std_tokens": 50, "packing": "padded"}},
    "pruned": {"compression": {"pruned": 0.5}}, "2:4": {"compression": {"sparsity": "2:4"}},
}  # fmt: skip
WORDS = {**METHODS, **INITS, **PRECISIONS, **OPTIMIZERS, **SAVERS}


@pytest.mark.parametrize("word", WORDS)
def test_every_word_of_the_contract_is_planned(word: str) -> None:
    e = estimate(parse_run({**BASE, **WORDS[word]}))
    assert e.step_time_s > 0
    assert 0 < e.trainable_parameters <= e.parameters
    assert sum(t.value for t in e.terms if t.name.startswith("memory/")) == pytest.approx(e.peak_memory_bytes)
