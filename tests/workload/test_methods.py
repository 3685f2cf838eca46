"""peft's methods at linear layers, norms and experts, against what peft's modules showed (recorded)."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import peft
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.utils import constants

from planner.errors import PlanError
from planner.estimate.engine import estimate
from planner.run import Method, parse_run
from planner.workload.families import FAMILIES
from planner.workload.methods import (
    METHODS,
    adalora,
    beft,
    c3a,
    fourierft,
    ia3,
    ln_tuning,
    osf,
    pvera,
    shira,
    targets,
    vera,
)
from planner.workload.methods.unplanned import PEFT_TYPES, UNPLANNED
from tests.engine_cases import engine_estimate
from tests.oracles import parameters
from tests.oracles.cases import CONFIGS
from tests.recorded import areas, cases

SIZES: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 6, "vocab_size": 211,
}  # fmt: skip
DRAWN = (
    "lora",
    "dora",
    "adalora",
    "lokr",
    "loha",
    "oft",
    "hra",
    "randlora",
    "delora",
    "vera",
    "miss",
    "fourierft",
    "boft",
)


@pytest.mark.parametrize("name", DRAWN)
def test_parameters_of_random_configs_and_targets(name: str) -> None:
    @settings(max_examples=8)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        whole = st.integers(1, 9)
        config = {
            **SIZES,
            "num_key_value_heads": data.draw(st.sampled_from([1, 2, 3])),
            "head_dim": 8 * data.draw(st.integers(1, 4)),
        }
        config |= {
            "intermediate_size": 4 * data.draw(st.integers(5, 90)),
            "tie_word_embeddings": data.draw(st.booleans()),
        }
        config["attention_bias"] = data.draw(st.booleans())
        method: dict[str, Any] = {"name": name}
        if name == "fourierft":
            method["frequencies"] = data.draw(st.integers(1, 90))
        elif name == "boft":
            method["block_size"] = data.draw(st.sampled_from([2, 4]))
        elif name == "adalora":
            method |= {"initial_rank": data.draw(st.integers(5, 9)), "rank": data.draw(st.integers(1, 5))}
        elif name == "oft":
            method["block_size"] = data.draw(st.integers(2, 40))
        else:
            method["rank"] = data.draw(whole)
        if name == "lokr":
            method |= {"factor": data.draw(st.sampled_from([-1, 4, 8])), "decompose_both": data.draw(st.booleans())}
        layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        method["targets"] = data.draw(
            st.one_of(st.just("all-linear"), st.lists(st.sampled_from(layers), min_size=1, unique=True))
        )
        if name in ("lora", "dora", "loha"):
            method["rank_pattern"] = data.draw(
                st.dictionaries(st.sampled_from(["o_proj", "layers.1.self_attn.q_proj", ".*up_.*"]), whole)
            )
        if method["targets"] != "all-linear" and data.draw(st.booleans()):
            method["layers"] = data.draw(st.lists(st.integers(0, 2), min_size=1, unique=True))
        truth = parameters.count(config, None, method)
        e = engine_estimate(config, {"seq": 4, "method": method})
        assert (e.parameters, e.trainable_parameters) == (truth["total"], truth["trainable"])

    check()


LLAMA, GPT2, BERT = CONFIGS["llama"], CONFIGS["gpt2"], CONFIGS["bert"]


@pytest.mark.parametrize(
    ("config", "method", "message"),
    [
        (GPT2, {"name": "lokr"}, "not implemented by peft for GPT-2's Conv1D layers"),
        (GPT2, {"name": "galore"}, "nothing is projected"),
        (BERT, {"name": "ln_tuning"}, r"method\.targets: .*peft names no norms of bert\. Its norms are LayerNorm"),
        (LLAMA, {"name": "ln_tuning", "targets": ["ln_1"]}, "is no norm of this model"),
        (LLAMA, {"name": "lora", "targets": "all-linear", "layers": [1]}, "needs targets by name"),
        (LLAMA, {"name": "lora", "targets": ["q_proj"], "layers": [4]}, "is not one of the model's 4 layers"),
        (
            LLAMA,
            {"name": "lora", "targets": ["q_proj"], "layers": [1], "layers_pattern": "h"},
            "names no list of layers",
        ),
        (LLAMA, {"name": "lora", "targets": ["q_proj"], "layers_pattern": "layers"}, "means nothing without layers"),
        (LLAMA, {"name": "lora", "bias": "dora_only"}, "Use none, all or lora_only"),
        (LLAMA, {"name": "lora", "bias": "all", "adapters": 2}, "does not work with 2 adapters"),
        (LLAMA, {"name": "lora", "rank_pattern": {"(": 4}}, "is not a regular expression"),
        (LLAMA, {"name": "lora", "init_lora_weights": "nosuch"}, "is not known to peft"),
        (LLAMA, {"name": "adalora", "initial_rank": 4, "rank": 8}, "AdaLoRA only prunes"),
        (LLAMA, {"name": "oft", "rank": 4, "block_size": 32}, "Give one of the two"),
        (LLAMA, {"name": "vblora", "vector_length": 100}, "does not divide the 512 features"),
        (LLAMA, {"name": "vblora", "vectors": 2, "topk": 3, "vector_length": 64}, "is more than the 2 vectors"),
        (LLAMA, {"name": "c3a", "block_size": 100}, "does not divide"),
        (LLAMA, {"name": "boft", "block_size": 100}, "does not divide"),
        (LLAMA, {"name": "fourierft", "frequencies": 10**7}, "is more than the 262144 entries"),
        (LLAMA, {"name": "lisa", "active_layers": 5}, "is more than the model's 4 layers"),
        (LLAMA, {"name": "reft", "positions": "first"}, "Write for example f7"),
        (LLAMA, {"name": "reft", "positions": "f9", "rank": 4}, "are more than the 8 tokens"),
        (LLAMA, {"name": "road", "variant": "road_3"}, "Use road_1, road_2, road_4"),
        (LLAMA, {"name": "gralora", "rank": 9}, "is not a multiple of the 2 blocks"),
        (LLAMA, {"name": "trainable_tokens"}, "says which tokens are trained"),
        (LLAMA, {"name": "shira", "rank": 4000}, "trains more than the"),
        (LLAMA, {"name": "deft", "variant": "qr"}, "is not planned"),
        (LLAMA, {"name": "cartridge", "virtual_tokens": 4, "frozen_tokens": 4}, "leaves none of 4 tokens to train"),
        (GPT2, {"name": "osf"}, "not implemented by peft for GPT-2's Conv1D layers"),
        (CONFIGS["mixtral"], {"name": "lora", "targets": ["w1"]}, "Name both w1 and w3"),
        (
            CONFIGS["mixtral"],
            {"name": "lora", "targets": "all-linear", "dropout": 0.1},
            "does not work on stacked experts",
        ),
    ],
)
def test_what_peft_cannot_do_is_refused(config: dict[str, Any], method: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        engine_estimate(config, {"seq": 8, "method": method})


def test_a_base_without_layers_of_the_method_is_refused() -> None:
    run = {
        "model": LLAMA,
        "method": {"name": "delora"},
        "precision": {"weights": "nf4", "compute": "bf16"},
        "batch": {"seq_len": 8},
    }
    with pytest.raises(PlanError, match=r"precision\.weights: 'nf4' is no base that delora works on"):
        estimate(parse_run(run))


@pytest.mark.parametrize("weights", ["int8", "int4", "nf4-dq"])
def test_a_quantized_base_trains_the_same_adapters_in_less_memory(weights: str) -> None:
    plain, packed = (
        estimate(
            parse_run(
                {
                    "model": LLAMA,
                    "method": "lora",
                    "precision": {"weights": w, "compute": "bf16"},
                    "activation_checkpointing": "full",
                    "batch": {"seq_len": 64},
                }
            )
        )
        for w in ("bf16", weights)
    )
    assert packed.trainable_parameters == plain.trainable_parameters == 4 * 8 * (512 + 512 + 512 + 128)
    assert packed.parameters == plain.parameters
    assert packed.peak_memory_bytes < plain.peak_memory_bytes


def test_peft_names_are_accepted() -> None:
    ours = {
        "name": "adalora",
        "initial_rank": 9,
        "rank": 3,
        "targets": ["q_proj"],
        "exclude": ["layers.0.self_attn.q_proj"],
    }
    theirs = {
        "name": "adalora",
        "init_r": 9,
        "target_r": 3,
        "target_modules": ["q_proj"],
        "exclude_modules": ["layers.0.self_attn.q_proj"],
    }
    counts = [engine_estimate(LLAMA, {"seq": 8, "method": m}).trainable_parameters for m in (ours, theirs)]
    assert counts[0] == counts[1] == 3 * (9 * (512 + 512) + 9)


def test_inactive_adapters_take_memory_and_no_time() -> None:
    one, four = (engine_estimate(LLAMA, {"seq": 64, "method": {"name": "lora", "adapters": n}}) for n in (1, 4))
    assert four.flops_per_step == one.flops_per_step
    assert four.trainable_parameters == one.trainable_parameters
    assert four.parameters == one.parameters + 3 * one.trainable_parameters
    assert four.peak_memory_bytes > one.peak_memory_bytes


def test_every_method_of_peft_is_planned_or_refused_with_a_reason() -> None:
    known = {PEFT_TYPES.get(kind.name, kind.name.lower()) for kind in peft.PeftType}
    assert known <= set(METHODS) | set(UNPLANNED)
    assert set(UNPLANNED) == known - set(METHODS)
    with pytest.raises(PlanError, match="adamss' trains as many parameters as the values of the weights decide"):
        engine_estimate(LLAMA, {"seq": 8, "method": {"name": "adamss"}})


TABLES = {
    "LORA": targets.DEFAULT_TARGETS, "IA3": ia3.TARGETS, "VBLORA": targets.WIDE_TARGETS, "LNTUNING": ln_tuning.TARGETS,
    "ADALORA": adalora.TARGETS, "BEFT": beft.TARGETS, "OSF": osf.TARGETS, "FOURIERFT": fourierft.TARGETS, "VERA": vera.TARGETS,
    "WAVEFT": fourierft.TARGETS, "PVERA": pvera.TARGETS, "SHIRA": shira.TARGETS, "C3A": c3a.TARGETS,
}  # fmt: skip
ELSEWHERE = {
    ("IA3", "mixtral"): "its experts are stacked, so that w2 is no layer",
    ("LNTUNING", "llava"): "the projector and the embeddings are no norms",
    ("OSF", "gpt2"): "peft has no OSF layer for Conv1D",
    ("C3A", "gpt2"): "peft has no C3A layer for Conv1D",
}


@pytest.mark.parametrize("name", TABLES)
def test_targets_that_are_left_out_are_those_of_peft(name: str) -> None:
    theirs = getattr(constants, f"TRANSFORMERS_MODELS_TO_{name}_TARGET_MODULES_MAPPING")
    for family in set(theirs) & set(FAMILIES):
        if (name, family) not in ELSEWHERE:
            assert set(TABLES[name].get(family, ("q_proj", "v_proj"))) == set(theirs[family]), family


def test_every_method_of_peft_is_counted_on_six_architectures() -> None:
    seen: dict[str, set[str]] = defaultdict(set)
    for area in areas():
        for case in cases(area, "parameters"):
            seen[case.method].add(case.model)
    few = {name: len(seen[name]) for name in METHODS if len(seen[name]) < 6 and name not in FEW}
    assert not few


FEW = {
    "adaption_prompt": "peft knows three families",
}
"""Methods that are counted on fewer architectures, with the reason."""


def test_every_method_says_what_it_reads() -> None:
    for kind in METHODS.values():
        assert kind.label and kind.help.endswith(".")
        assert any(source in kind.reference for source in ("arXiv", "openreview", "peft 0.21"))
        assert set(kind.fields) <= set(Method.model_fields)
        assert len(set(kind.fields)) == len(kind.fields)
