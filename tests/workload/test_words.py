"""Words that people write: each plans what it means, or is refused with the word to use; a misspelt one is told the nearest."""

from __future__ import annotations

from typing import Any

import pytest

from planner import words
from planner.errors import PlanError
from planner.estimate.engine import estimate
from planner.run import PRECISIONS, parse_run
from planner.workload.methods import METHODS
from planner.workload.methods.unplanned import REFUSED
from planner.workload.optimizers import OPTIMIZERS
from tests.oracles.cases import CONFIGS

LLAMA = CONFIGS["llama"]
BASE: dict[str, Any] = {"model": LLAMA, "hardware": {"gpu": "H100 SXM 80GB"}, "batch": {"micro": 2, "seq_len": 128}}


def plan(**fields: Any) -> Any:
    return estimate(parse_run({**BASE, **fields}))


def test_every_word_means_something_registered() -> None:
    assert {w["name"] for w in words.METHODS.values()} <= set(METHODS) | set(REFUSED)
    assert set(words.OPTIMIZERS.values()) <= set(OPTIMIZERS)
    assert not set(words.METHODS) & set(METHODS) and not set(words.OPTIMIZERS) & set(OPTIMIZERS)


@pytest.mark.parametrize("word", words.METHODS)
def test_another_name_is_the_same_method(word: str) -> None:
    theirs, ours = (parse_run({**BASE, "method": method}).method for method in (word, words.METHODS[word]))
    assert theirs == ours
    assert parse_run({**BASE, "method": {"name": word, "dropout": 0.1}}).method.dropout == 0.1


@pytest.mark.parametrize(
    ("given", "meant"),
    [("LoRA", "lora"), ("QLoRA", "qlora"), ("P-Tuning", "p_tuning"), ("LN-Tuning", "ln_tuning"), ("LoRA-FA", "lora_fa"), ("LoRA+", "loraplus")],
)
def test_capitals_and_hyphens_do_not_matter(given: str, meant: str) -> None:
    assert parse_run({**BASE, "method": given}).method.name == meant


@pytest.mark.parametrize("word", words.OPTIMIZERS)
def test_another_name_of_an_optimizer_is_read(word: str) -> None:
    assert parse_run({**BASE, "optimizer": word.replace("-", "_").upper()}).optimizer == words.OPTIMIZERS[word]


@pytest.mark.parametrize("word", ["nf4", "nf4-dq", "int8", "int4", "gptq", "awq"])
def test_a_base_is_a_precision(word: str) -> None:
    e = plan(method="lora", precision=word)
    assert e.run.precision.weights == PRECISIONS[word]["weights"]
    with pytest.raises(PlanError, match="cannot be trained"):
        plan(precision=word)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "alora"}, "Use lora, which adapts all of them"),
        ({"method": "Activated-LoRA"}, "Use lora, which adapts all of them"),
        ({"method": "adapter-v2"}, r"Use adaption_prompt"),
        ({"method": "lroa"}, r"method\.name: 'lroa' is not a known method\. Did you mean lora\?"),
        ({"method": "vbloar"}, "Did you mean vblora"),
        ({"optimizer": "adamv"}, r"Did you mean adamw\?"),
        ({"optimizer": "addafactor"}, "Did you mean adafactor"),
        ({"stack": "torchtitn"}, "Did you mean torchtitan"),
        ({"precision": "bf16-mxed"}, "did you mean bf16-mixed"),
    ],
)
def test_a_wrong_word_is_told_the_right_one(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan(**fields)


def test_lora_fa_trains_b_alone_and_keeps_no_inputs() -> None:
    lora, fa = (plan(method={"name": name, "targets": "all-linear"}, precision="bf16") for name in ("lora", "lora_fa"))
    h, kv, f = 512, 128, 1376
    assert fa.trainable_parameters == 4 * 8 * (h + kv + kv + h + f + f + h)
    assert fa.parameters == lora.parameters
    assert fa.peak_memory_bytes < lora.peak_memory_bytes
    assert fa.flops_per_step < lora.flops_per_step


def test_head_trains_the_head_alone() -> None:
    e = plan(method="head")
    assert e.trainable_parameters == 512 * 8192
    bert = estimate(parse_run({**BASE, "model": CONFIGS["bert"], "method": "head"}))
    assert bert.trainable_parameters == 512 * 3 + 3
