"""The recorded cases of peft's newer tuners."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.oracles import cases, methods_cases

Case = dict[str, Any]

CONFIGS = methods_cases.CONFIGS
METHODS: tuple[Case, ...] = (
    {"name": "beft"},
    {"name": "hira", "rank": 6},
    {"name": "gralora", "rank": 8},
    {"name": "gralora", "rank": 12, "blocks": 4, "hybrid_rank": 4},
    {"name": "pvera", "rank": 64},
    {"name": "road"},
    {"name": "road", "variant": "road_4", "group_size": 32},
    {"name": "shira", "rank": 4},
    {"name": "waveft", "frequencies": 700},
    {"name": "trainable_tokens", "token_indices": [1, 7, 9, 30]},
    {"name": "deft", "rank": 8},
    {"name": "glora", "rank": 4},
    {"name": "glora", "weight_path": "vector", "input_path": "vector", "bias_path": "vector"},
    {"name": "lily", "rank": 8, "stride": 2, "experts": 3},
    {"name": "peanut", "rank": 8, "depth": 2},
    {"name": "psoft", "rank": 16},
    {"name": "osf", "rank": 50},
    {"name": "supertuning", "sparsity": 0.97},
    {"name": "supertuning", "rank": 4, "alpha": 8},
    {"name": "tinylora"},
    {"name": "tinylora", "rank": 4, "vector_length": 9, "tying": 0.5},
    {"name": "unilora", "rank": 6, "vector_length": 600},
)
MIXED: tuple[Case, ...] = (
    {"name": "poly", "rank": 8},
    {"name": "poly", "rank": 4, "tasks": 3, "skills": 3, "splits": 4},
)
"""What peft cannot run under activation checkpointing: the task's number does not reach the recomputation."""
VIRTUAL: tuple[Case, ...] = (
    {"name": "cartridge", "virtual_tokens": 30, "frozen_tokens": 2},
    {"name": "multitask_prompt", "virtual_tokens": 20, "tasks": 3, "rank": 2},
)
NAMED: tuple[Case, ...] = (
    {"name": "pissa", "rank": 8},
    {"name": "qlora", "rank": 8},
    {"name": "loftq", "rank": 8},
    {"name": "rslora", "rank": 8},
    {"name": "loraplus", "rank": 8},
    {"name": "lora_fa", "rank": 8},
)
"""LoRA by other names; steps of 4-bit bases stand in `quantized_cases`."""
RUN: tuple[Case, ...] = (NAMED[0], {"name": "lora_fa", "rank": 8}, {"name": "loraplus", "rank": 4}, {"name": "bone", "rank": 32})
"""Those whose steps are run here."""
CONTEXT: Case = {"name": "cpt", "virtual_tokens": 20}
"""Its loss picks tokens by value, which fake tensors cannot: its steps end in the ordinary loss."""
DECODERS = ("llama", "gpt2", "opt", "gemma", "qwen3", "phi", "phi3", "gpt_neox", "llama-odd")
LINEAR_ONLY = ("beft", "bone", "poly", "road", "shira", "glora", "lily", "peanut", "psoft", "osf", "supertuning")
"""Methods without peft layers for GPT-2's Conv1D."""
NO_EVERYWHERE = ("beft", "trainable_tokens", "osf")
FAMILIES = ("llama", "gpt2", "bert", "opt", "gemma", "qwen3", "phi", "phi3", "mixtral", "gpt_neox", "llama-biased")
DEEP = ("llama-thin", "gpt2-thin", "bert-thin")


def _offered(name: str, method: Case) -> Case | None:
    family = {**cases.CONFIGS, **CONFIGS}[name]["model_type"]
    if family == "gpt2" and method["name"] in LINEAR_ONLY:
        return None
    if method["name"] == "beft":
        named = {"phi3": ["qkv_proj"], "gpt_neox": ["query_key_value"]}
        return {**method, "targets": named[family]} if family in named else method
    if method["name"] == "gralora" and family == "phi3" and method.get("blocks") == 4:
        return {**method, "targets": ["o_proj"]}
    if method["name"] == "osf" and family in ("phi", "mixtral", "bert", "phi3"):
        return {**method, "targets": cases.ATTENTION_NAMES.get(name, cases.ATTENTION_NAMES[family])}
    if "targets" not in method and method["name"] != "trainable_tokens" and family in ("phi3", "mixtral"):
        return {**method, "targets": cases.ATTENTION_NAMES[family]}
    return method


def _cases(names: tuple[str, ...], methods: Any = METHODS) -> Iterator[Case]:
    for name in names:
        for method in methods:
            if (given := _offered(name, method)) is not None:
                head = cases.HEADS.get(name, cases.HEADS.get(name.removesuffix("-thin")))
                yield {"config": name, "head": head, "method": given}


def _everywhere(names: tuple[str, ...]) -> Iterator[Case]:
    wide = [m for m in METHODS if m["name"] not in NO_EVERYWHERE and m != {"name": "road"}]  # 64 does not divide 1376
    yield from _cases(names, [{**m, "targets": "all-linear"} for m in wide])


def parameter_cases() -> Iterator[Case]:
    """Every method on every family, and on all linear layers of two."""
    yield from _cases(FAMILIES)
    yield from _everywhere(("llama-thin", "bert-thin", "qwen3"))
    yield from _cases(FAMILIES, MIXED)
    yield from _cases(FAMILIES, (*NAMED, {"name": "bone", "rank": 32}))
    for name in ("llama", "qwen3", "phi", "phi3", "mixtral", "gpt_neox", "bert", "roberta"):
        yield {"config": name, "head": cases.HEADS.get(name), "method": {"name": "head"}}
    for name in DECODERS:
        for method in (*VIRTUAL, CONTEXT):
            yield {"config": name, "head": None, "method": method}


def _cached() -> Iterator[Case]:
    """What is not run under checkpointing."""
    yield from _cases(("llama-thin", "bert-thin", "opt", "qwen3"), (*MIXED, *RUN))
    for name in ("llama-thin", "gpt2-thin", "opt", "qwen3"):
        for method in (*VIRTUAL, CONTEXT):
            yield {"config": name, "head": None, "method": method}


def flop_cases() -> Iterator[Case]:
    """Four families and all linear layers, in turn in bf16, fp32 and checkpointed."""
    size = {"batch": 2, "seq": 128}
    for turn, case in enumerate([*_cases(("llama", "bert", "opt", "gpt2")), *_everywhere(("llama-thin",))]):
        yield {**case, **methods_cases.SETTINGS[(0, 1, 4)[turn % 3]], **size}
    for turn, case in enumerate(_cached()):
        yield {**case, **methods_cases.SETTINGS[turn % 2], **size}
    for name in ("llama", "bert", "qwen3", "gpt_neox"):
        yield {"config": name, "head": cases.HEADS.get(name), "method": {"name": "head"}, "attention": "eager", **size}


def memory_cases() -> Iterator[Case]:
    """One family through three settings, others through one setting a method. SHiRA's sparse gradients have no fake tensors."""
    size = {"batch": 4, "seq": 256}
    dense = [m for m in METHODS if m["name"] != "shira"]
    for case in _cases(("llama-thin",), dense):
        for position in (0, 2, 4):
            yield {**case, **methods_cases.SETTINGS[position], **size}
    rest = [*_cases(("bert-thin", "gpt2-thin", "opt", "qwen3"), dense), *_everywhere(("llama-thin",))]
    for turn, case in enumerate(case for case in rest if case["method"]["name"] != "shira"):
        yield {**case, **methods_cases.SETTINGS[turn % len(methods_cases.SETTINGS)], **size}
    for turn, case in enumerate(_cached()):
        yield {**case, **methods_cases.SETTINGS[turn % 4], **size}
