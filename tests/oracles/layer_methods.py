"""peft methods that live beside or inside linear layers and norms, built from the fields of a run's method.

``{"name": "vera", "rank": 16, "targets": [...]}`` and the like: `FIELDS` maps the run's names to the arguments of peft's
config. Methods without `targets` take peft's own default for the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import nn

from tests.oracles import newer_methods

TASKS = {"causal-lm": "CAUSAL_LM", "sequence-classification": "SEQ_CLS"}


def task_of(model: nn.Module, head: str | None) -> str | None:
    """peft's task for a head; a speech model has none, since peft's wrappers pass token ids."""
    config: Any = model.config
    if model.main_input_name != "input_ids":
        return None
    if config.is_encoder_decoder and (head or "causal-lm") == "causal-lm":
        return "SEQ_2_SEQ_LM"
    return TASKS.get(head or "causal-lm")


COMMON = {
    "targets": "target_modules",
    "modules_to_save": "modules_to_save",
    "exclude": "exclude_modules",
    "layers": "layers_to_transform",
    "layers_pattern": "layers_pattern",
    "rank_pattern": "rank_pattern",
    "bias": "bias",
}
"""Fields that any method may have."""
LORA = {
    "rank": "r",
    "alpha": "lora_alpha",
    "dropout": "lora_dropout",
    "alpha_pattern": "alpha_pattern",
    "token_indices": "trainable_token_indices",
    "use_dora": "use_dora",
    "use_rslora": "use_rslora",
    "init_lora_weights": "init_lora_weights",
}
FIELDS: dict[str, tuple[str, dict[str, str]]] = {
    "ln_tuning": ("LNTuningConfig", {}),
    "lora": ("LoraConfig", LORA),
    "ia3": ("IA3Config", {"feedforward": "feedforward_modules"}),
    "dora": ("LoraConfig", LORA),
    "rslora": ("LoraConfig", LORA),
    **dict.fromkeys(("pissa", "qlora", "loftq"), ("LoraConfig", LORA)),
    "bone": ("MissConfig", {"rank": "r"}),
    "vera": ("VeraConfig", {"rank": "r", "dropout": "vera_dropout"}),
    "adalora": ("AdaLoraConfig", {"initial_rank": "init_r", "rank": "target_r", "dropout": "lora_dropout"}),
    "loha": ("LoHaConfig", {"rank": "r"}),
    "lokr": ("LoKrConfig", {"rank": "r", "factor": "decompose_factor", "decompose_both": "decompose_both"}),
    "oft": ("OFTConfig", {"block_size": "oft_block_size", "rank": "r"}),
    "boft": ("BOFTConfig", {"block_size": "boft_block_size"}),
    "fourierft": ("FourierFTConfig", {"frequencies": "n_frequency"}),
    "vblora": (
        "VBLoRAConfig",
        {
            "rank": "r",
            "dropout": "vblora_dropout",
            "vectors": "num_vectors",
            "vector_length": "vector_length",
            "topk": "topk",
        },
    ),
    "miss": ("MissConfig", {"rank": "r", "dropout": "miss_dropout"}),
    "hra": ("HRAConfig", {"rank": "r"}),
    "randlora": ("RandLoraConfig", {"rank": "r", "dropout": "randlora_dropout"}),
    "c3a": ("C3AConfig", {"block_size": "block_size"}),
    "delora": ("DeloraConfig", {"rank": "r"}),
    **newer_methods.FIELDS,
}
CONSTANTS: dict[str, dict[str, Any]] = {
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "bone": {"init_weights": "bat"},
    "adalora": {"total_step": 1000, "tinit": 200},
}
NAMES = tuple(FIELDS)


class _Less:
    """Smaller than any tensor: a module dropout of zero that a fake random number can be compared with."""

    def __lt__(self, other: object) -> bool:
        return True


class _Finite:
    def any(self) -> bool:
        return False


def apply(model: nn.Module, method: Mapping[str, Any], head: str | None) -> nn.Module:
    """The model under peft, with the method's parameters trained (and a copy of a classification head)."""
    import peft

    config_class, fields = FIELDS[method["name"]]
    arguments = {theirs: method[ours] for ours, theirs in {**COMMON, **fields}.items() if ours in method}
    if method["name"] == "oft" and "rank" in method:
        arguments["oft_block_size"] = 0  # peft wants one of the two

    def config() -> Any:
        return getattr(peft, config_class)(
            task_type=task_of(model, head), **arguments, **CONSTANTS.get(method["name"], {})
        )

    with mock.patch("peft.tuners.boft.layer.BOFTLayer.perm2mat", _permutation), newer_methods.without_data():
        adapted = peft.get_peft_model(model, config())  # type: ignore[arg-type]
    for i in range(1, method.get("adapters", 1)):
        adapted.add_adapter(f"other{i}", config())
    newer_methods.settle(adapted)
    if method["name"] == "poly":
        adapted = newer_methods.with_tasks(adapted)  # type: ignore[assignment]
    for module in adapted.modules():
        if method["name"] in ("loha", "lokr") and hasattr(module, "module_dropout"):
            module.module_dropout["default"] = _Less()  # type: ignore[operator]
        if method["name"] == "vblora" and hasattr(module, "vblora_logits_A"):
            module._get_lora_matrices = partial(_matrices_of_finite_logits, module)  # type: ignore[assignment]
    return adapted  # type: ignore[return-value]


def _permutation(layer: Any, indices: torch.Tensor) -> torch.Tensor:
    """BOFT's permutation matrix without reading the indices, which meta tensors do not hold."""
    return torch.zeros(len(indices), len(indices))


def _matrices_of_finite_logits(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """VB-LoRA first looks for infinite logits, which fake tensors cannot answer."""
    with mock.patch.object(torch.Tensor, "isinf", return_value=_Finite()):
        return type(layer)._get_lora_matrices(layer, *args, **kwargs)
