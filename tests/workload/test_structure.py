"""Import by structure: models whose readers are known, rebuilt from their modules alone, against the same truths."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import PlanError
from planner.estimate import Estimate
from planner.estimate.engine import estimate
from planner.run import parse_run
from planner.workload import structure
from planner.workload.families import fields
from tests.engine_cases import engine_estimate, tensor_peak
from tests.oracles import parameters, record

TYPES = (
    "llama", "gpt2", "gpt_neox", "opt", "qwen3", "gemma2", "phi", "phi3", "olmo2", "starcoder2", "gpt_bigcode",
    "gptj", "nemotron", "bert", "roberta", "mixtral", "qwen2_moe", "olmoe",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _no_readers() -> Any:
    """As if no type had a reader."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fields, "FAMILIES", {})
        yield


def imported(case: dict[str, Any], config: dict[str, Any]) -> Estimate:
    e = engine_estimate(config, {**case["arguments"], "seq": case["arguments"].get("seq", 8)})
    assert any(line.startswith("Imported by structure") for line in e.warnings)
    return e


def case_of(kind: str, model_type: str) -> tuple[dict[str, Any], dict[str, Any]]:
    recorded = record.load(kind)
    for case in recorded["cases"]:
        arguments = case["arguments"]
        plain = arguments.get("method") in (None, {"name": "full"}) and not arguments.get("padding")
        if plain and case["config"] == model_type and arguments.get("head") in (None, "masked-lm", "causal-lm"):
            return case, recorded["configs"][case["config"]]
    raise LookupError(f"{kind} has no plain case of {model_type}")


@pytest.mark.parametrize("model_type", TYPES)
def test_parameters_are_exact(model_type: str) -> None:
    case, config = case_of("parameters", model_type)
    assert imported(case, config).parameters == case["truth"]["total"]


@pytest.mark.parametrize("model_type", TYPES[:-4])
def test_flops_are_those_of_the_flop_counter(model_type: str) -> None:
    case, config = case_of("flops", model_type)
    truth = case["truth"]["forward"] + case["truth"]["backward"]
    assert imported(case, config).flops_per_step == pytest.approx(truth, rel=0.005)


@pytest.mark.parametrize("model_type", TYPES)
def test_memory_is_near_without_knowing_the_code(model_type: str) -> None:
    case, config = case_of("memory", model_type)
    assert tensor_peak(imported(case, config)) == pytest.approx(case["truth"]["peak"], rel=0.2)


@pytest.mark.parametrize("case", record.load("structure")["cases"], ids=lambda case: str(case["config"]))
def test_types_without_a_reader(case: dict[str, Any]) -> None:
    """Parameters exact; FLOPs within 8 %: attention of a kind of its own (differential, recurrent) is what is assumed wrongly."""
    config = record.load("structure")["configs"][case["config"]]
    e = engine_estimate(config, {**case["arguments"], "precision": "fp32"})
    assert any(line.startswith("Imported by structure") for line in e.warnings)
    assert e.parameters == case["truth"]["parameters"]
    assert e.flops_per_step == pytest.approx(case["truth"]["flops"], rel=0.08)


def test_matrices_of_unknown_use_are_named() -> None:
    config = {"model_type": "xlnet", "d_model": 128, "n_layer": 2, "n_head": 4, "d_inner": 256, "vocab_size": 512}
    e = engine_estimate(config, {"seq": 32, "attention": "eager", "precision": "fp32"})
    assert any("are taken for stacked experts" in line for line in e.warnings)


def test_lora_on_an_imported_model_trains_what_peft_trains() -> None:
    config = record.load("parameters")["configs"]["llama"]
    method = {"name": "lora", "rank": 8, "targets": "all-linear"}
    truth = parameters.count(config, None, method)
    e = engine_estimate(config, {"seq": 8, "method": method})
    assert (e.parameters, e.trainable_parameters) == (truth["total"], truth["trainable"])


def test_what_transformers_does_not_know_is_refused() -> None:
    with pytest.raises(PlanError, match=r"model\.model_type: 'nosuch' is not known to transformers"):
        structure.import_architecture({"model_type": "nosuch"})


def test_a_model_that_takes_no_tokens_is_refused() -> None:
    with pytest.raises(PlanError, match="cannot be imported by structure"):
        structure.import_architecture({"model_type": "dinov2"})


def test_without_the_libraries_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure, "find_spec", lambda name: None)
    with pytest.raises(PlanError, match="install torch and transformers"):
        estimate(parse_run({"model": {"model_type": "xlnet"}, "hardware": "H100 SXM 80GB"}))
