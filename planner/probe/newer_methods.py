"""peft's newer tuners: the arguments of their configs, and the tasks that two of them tell apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

FIELDS: dict[str, tuple[str, dict[str, str]]] = {
    "beft": ("BeftConfig", {}),
    "hira": ("HiraConfig", {"rank": "r", "dropout": "hira_dropout"}),
    "gralora": (
        "GraloraConfig",
        {"rank": "r", "blocks": "gralora_k", "hybrid_rank": "hybrid_r", "dropout": "gralora_dropout"},
    ),
    "pvera": ("PveraConfig", {"rank": "r", "dropout": "pvera_dropout"}),
    "road": ("RoadConfig", {"variant": "variant", "group_size": "group_size"}),
    "shira": ("ShiraConfig", {"rank": "r"}),
    "waveft": ("WaveFTConfig", {"frequencies": "n_frequency"}),
    "trainable_tokens": ("TrainableTokensConfig", {"token_indices": "token_indices"}),
    "deft": ("DeftConfig", {"rank": "r", "dropout": "deft_dropout", "variant": "decomposition_method"}),
    "glora": (
        "GloraConfig",
        {"rank": "r", "weight_path": "config_A_B", "input_path": "config_C", "bias_path": "config_D_E"},
    ),
    "lily": ("LilyConfig", {"rank": "r", "stride": "stride_A", "experts": "num_B"}),
    "peanut": ("PeanutConfig", {"rank": "r", "depth": "depth"}),
    "psoft": ("PsoftConfig", {"rank": "r", "dropout": "psoft_dropout"}),
    "osf": ("OSFConfig", {"rank": "effective_rank"}),
    "supertuning": ("SupertuningConfig", {"sparsity": "sparsity", "rank": "r", "alpha": "lora_alpha"}),
    "tinylora": ("TinyLoraConfig", {"rank": "r", "vector_length": "u", "tying": "weight_tying"}),
    "unilora": ("UniLoraConfig", {"rank": "r", "vector_length": "theta_d_length", "dropout": "unilora_dropout"}),
    "poly": ("PolyConfig", {"rank": "r", "tasks": "n_tasks", "skills": "n_skills", "splits": "n_splits"}),
    **dict.fromkeys(("pissa", "qlora", "loftq", "loraplus", "lora_fa"), ("LoraConfig", {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"})),
    "bone": ("MissConfig", {"rank": "r"}),
}
CONSTANTS: dict[str, dict[str, Any]] = {"pissa": {"init_lora_weights": "pissa"}, "bone": {"init_weights": "bat"}}
VIRTUAL = ("cartridge", "multitask_prompt", "cpt")
"""Methods of virtual tokens."""


def virtual_tokens(method: Mapping[str, Any], task: str) -> Any:
    """peft's config of a method of virtual tokens."""
    import peft

    common: dict[str, Any] = {"task_type": task, "num_virtual_tokens": method["virtual_tokens"]}
    if method["name"] == "cartridge":
        return peft.CartridgeConfig(**common, num_frozen_tokens=method.get("frozen_tokens", 1))
    if method["name"] == "multitask_prompt":
        ranks = {"num_tasks": method.get("tasks", 1), "num_ranks": method.get("rank", 1)}
        return peft.MultitaskPromptTuningConfig(**common, **ranks)
    return peft.CPTConfig(task_type=task, cpt_token_ids=list(range(method["virtual_tokens"])))


def with_tasks(model: nn.Module) -> nn.Module:
    """The model with every sequence of the first task, whose numbers peft takes beside the batch."""
    forward = model.forward

    def told(**data: torch.Tensor) -> Any:
        batch = next(iter(data.values()))
        return forward(**data, task_ids=torch.zeros(len(batch), dtype=torch.long, device=batch.device))

    model.forward = told
    return model
