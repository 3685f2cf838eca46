"""The recorded cases of peft's methods at linear layers, norms and experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.oracles import cases

Case = dict[str, Any]

_THIN: Case = {"vocab_size": 512, "num_hidden_layers": 3}
CONFIGS: dict[str, Case] = {
    "llama-thin": {**cases.CONFIGS["llama"], **_THIN},
    "gpt2-thin": {**cases.CONFIGS["gpt2"], "vocab_size": 512, "n_layer": 3},
    "bert-thin": {**cases.CONFIGS["bert"], "num_hidden_layers": 3},
    "mixtral-thin": {**cases.CONFIGS["mixtral"], **_THIN},
    "qwen3_moe-thin": {**cases.CONFIGS["qwen3_moe"], **_THIN},
    "olmoe-thin": {**cases.CONFIGS["olmoe"], **_THIN},
}
"""Few words: the peak lies in the blocks. Configs of `cases` stand beside these."""
NORMS = {
    "bert": ["LayerNorm"],
    "opt": ["self_attn_layer_norm", "final_layer_norm"],
    "phi3": ["input_layernorm", "norm"],
    "mixtral": ["post_attention_layernorm"],
}
"""Targets of LN tuning where peft names none."""
FAMILIES = ("llama", "gpt2", "bert", "opt", "gemma", "qwen3", "phi", "phi3", "mixtral", "gpt_neox", "llama-odd")
DEEP = ("llama-thin", "gpt2-thin", "bert-thin")
OTHERS = ("opt", "qwen3", "gemma", "phi3", "mixtral", "phi")
SETTINGS: tuple[Case, ...] = (
    {"precision": "bf16", "attention": "sdpa"},
    {"precision": "fp32", "attention": "eager"},
    {"precision": "bf16-mixed", "attention": "sdpa"},
    {"precision": "bf16-autocast", "attention": "sdpa"},
    {"precision": "bf16", "attention": "sdpa", "checkpointing": True},
)
METHODS: tuple[Case, ...] = (
    {"name": "ln_tuning"},
    {"name": "adalora", "initial_rank": 10, "rank": 4},
    {"name": "lokr", "rank": 8},
    {"name": "lokr", "rank": 2, "factor": 16, "decompose_both": True},
    {"name": "oft"},
    {"name": "oft", "rank": 8},
    {"name": "boft", "block_size": 8},
    {"name": "fourierft", "frequencies": 700},
    {"name": "vblora", "rank": 4, "vectors": 96, "vector_length": 64, "topk": 2},
    {"name": "hra", "rank": 6},
    {"name": "randlora", "rank": 32},
    {"name": "c3a", "block_size": 64},
    {"name": "delora", "rank": 8},
    {"name": "loha", "rank": 4},
    {"name": "vera", "rank": 64},
    {"name": "miss", "rank": 32},
    {"name": "ia3"},
    {"name": "dora", "rank": 4},
)
LINEAR_ONLY = ("lokr", "oft", "boft", "hra", "c3a", "delora", "loha", "miss")
"""Methods without peft layers for GPT-2's Conv1D."""
EVERYWHERE = [m for m in METHODS if m["name"] not in ("ln_tuning", "ia3", "vblora", "c3a")]
"""Methods that are also tried on every linear layer."""
FLAGS: tuple[tuple[str, Case], ...] = (
    (
        "llama",
        {"targets": ["q_proj", "down_proj"], "rank_pattern": {"down_proj": 4, "model.layers.1.self_attn.q_proj": 3}},
    ),
    ("llama", {"targets": ["q_proj"], "alpha_pattern": {"q_proj": 64}, "use_rslora": True}),
    ("llama", {"targets": ["q_proj", "v_proj", "up_proj"], "layers": [1, 3]}),
    ("llama", {"targets": "all-linear", "use_dora": True, "exclude": ["down_proj"]}),
    ("llama", {"targets": r".*\.[02]\..*(q|up)_proj", "init_lora_weights": "gaussian"}),
    ("llama", {"targets": ["q_proj"], "token_indices": [1, 5, 9]}),
    ("llama", {"targets": ["q_proj", "v_proj"], "adapters": 4}),
    ("llama", {"targets": ["q_proj", "v_proj"], "modules_to_save": ["norm", "lm_head"]}),
    ("llama-tied", {"targets": ["q_proj"], "token_indices": [1, 5, 9, 2], "adapters": 2}),
    ("llama-biased", {"targets": ["q_proj", "down_proj"], "bias": "lora_only"}),
    ("llama-biased", {"targets": ["o_proj"], "bias": "all", "rank_pattern": {"o_proj": 16}}),
    ("qwen2", {"targets": "all-linear", "bias": "all"}),
    (
        "opt",
        {"targets": ["q_proj", "v_proj", "fc2"], "layers": [1, 2], "bias": "lora_only", "exclude": ["layers.2.fc2"]},
    ),
    ("gpt2", {"targets": "all-linear", "exclude": r".*\.(mlp|attn)\.c_proj", "modules_to_save": ["ln_f"]}),
    ("gpt2", {"targets": ["c_attn"], "layers": 1, "layers_pattern": "h", "token_indices": [0, 3]}),
    ("bert", {"targets": ["query", "dense"], "layers": [1, 3], "layers_pattern": "layer", "bias": "all"}),
    ("phi3", {"targets": ["qkv_proj", "down_proj"], "rank_pattern": {"qkv_proj": 24}, "adapters": 3}),
    ("gemma", {"targets": ["q_proj", "gate_proj"], "exclude": "model.layers.0.*", "use_dora": True}),
    ("mixtral", {"targets": ["q_proj", "gate"]}),
    ("mixtral", {"targets": ["v_proj", "w1", "w2", "w3"], "rank_pattern": {"down_proj": 2}}),
    ("mixtral", {"targets": "all-linear", "adapters": 2}),
    ("olmoe", {"targets": r".*(q_proj|gate_proj|up_proj)"}),
    ("qwen3_moe", {"targets": ["k_proj", "down_proj"]}),
)
"""LoRA with peft's flags, rank 8."""


def offered(name: str, method: Case) -> Case | None:
    """The method with the targets that peft needs for config `name`, None where it has no layer for it."""
    family = {**cases.CONFIGS, **CONFIGS}[name]["model_type"]
    if method["name"] in LINEAR_ONLY and family == "gpt2":
        return None
    if name.endswith("odd") and method["name"] in ("c3a", "vblora", "boft"):
        return None  # sizes that no block divides
    if method["name"] == "ln_tuning":
        if family == "gpt_neox":
            return {**method, "targets": ["input_layernorm", "final_layer_norm"]}
        return {**method, "targets": NORMS[family]} if family in NORMS else method
    if method["name"] == "ia3":
        return None if family in ("phi3", "mixtral") else method
    if family == "gpt2" and method["name"] == "fourierft":
        return method
    if "targets" not in method and (
        family in ("phi3", "mixtral") or (family == "phi" and method["name"] in ("adalora", "vblora"))
    ):
        return {**method, "targets": cases.ATTENTION_NAMES[family]}
    return method


def _cases(names: tuple[str, ...], methods: Any = METHODS) -> Iterator[Case]:
    for name in names:
        for method in methods:
            if (given := offered(name, method)) is not None:
                yield {
                    "config": name,
                    "head": cases.HEADS.get(name, cases.HEADS.get(name.removesuffix("-thin"))),
                    "method": given,
                }


def _everywhere() -> Iterator[Case]:
    wide = [{**method, "targets": "all-linear"} for method in EVERYWHERE]
    yield from _cases((*DEEP, "qwen3"), wide)


def _flags() -> Iterator[Case]:
    for name, flags in FLAGS:
        yield {"config": name, "head": cases.HEADS.get(name), "method": {"name": "lora", "rank": 8, **flags}}


WHOLE: tuple[Case, ...] = (
    {"name": "galore", "rank": 32},
    {"name": "galore", "rank": 16, "targets": ["self_attn", "fc", "gate", "query"]},
    {"name": "lisa", "active_layers": 1},
    {"name": "lisa", "active_layers": 2},
    {"name": "reft", "rank": 4, "positions": "f3+l2"},
    {"name": "reft", "rank": 6, "positions": "l1", "layers": [1, 2]},
)
"""Methods outside peft."""


def _whole() -> Iterator[Case]:
    for name in ("llama-thin", "bert-thin", "gpt2-thin", "opt", "qwen3", "gemma", "phi3", "llama-odd"):
        for method in WHOLE:
            if name == "gpt2-thin" and method["name"] == "galore":
                continue
            yield {"config": name, "head": cases.HEADS.get(name.removesuffix("-thin")), "method": method}


def _experts() -> Iterator[Case]:
    for name in ("mixtral-thin", "qwen3_moe-thin", "olmoe-thin"):
        yield {"config": name, "head": None, "method": {"name": "lora", "rank": 8, "targets": "all-linear"}}


def parameter_cases() -> Iterator[Case]:
    """Every method on every family; on all linear layers for some; LoRA's flags; experts."""
    yield from _cases(FAMILIES)
    yield from _everywhere()
    yield from _flags()
    yield from _experts()
    yield from _whole()


def flop_cases() -> Iterator[Case]:
    """Five families and the flags, in turn in fp32 and bf16, some checkpointed."""
    size = {"batch": 2, "seq": 128}
    for turn, case in enumerate(
        [*_cases(("llama", "gpt2", "bert", "opt", "qwen3")), *_everywhere(), *_flags(), *_experts(), *_whole()]
    ):
        yield {**case, **SETTINGS[(0, 1, 4)[turn % 3]], **size}


def memory_cases() -> Iterator[Case]:
    """Three families through all settings, others (and the flags) through one setting a method, in turn."""
    size = {"batch": 4, "seq": 256}
    for case in [*_cases(DEEP), *_experts()]:
        for setting in SETTINGS:
            yield {**case, **setting, **size}
    for turn, case in enumerate([*_everywhere(), *_cases(OTHERS), *_flags()]):
        yield {**case, **SETTINGS[turn % len(SETTINGS)], **size}
    for turn, case in enumerate(_whole()):
        yield {**case, **SETTINGS[(0, 1, 2)[turn % 3]], **size}
        if case["method"]["name"] == "galore":  # few tokens: the peak is in the optimizer
            yield {**case, **SETTINGS[turn % 2], "batch": 1, "seq": 16}
