"""peft methods that live beside or inside linear layers and norms, built from the fields of a run's method.

``{"name": "vera", "rank": 16, "targets": [...]}`` and the like: `FIELDS` maps the run's names to the arguments of peft's
config. Methods without `targets` take peft's own default for the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from planner.probe import newer_methods

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
    "adalora": {"total_step": 1000, "tinit": 200},
    **newer_methods.CONSTANTS,
}
NAMES = tuple(FIELDS)


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

    adapted = peft.get_peft_model(model, config(), autocast_adapter_dtype=method.get("adapter_dtype", "fp32") == "fp32")
    for i in range(1, method.get("adapters", 1)):
        adapted.add_adapter(f"other{i}", config())
    made: nn.Module = adapted
    if method["name"] == "lora_fa":  # as peft.optimizers.create_lorafa_optimizer does
        for name, parameter in made.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and ".lora_A." not in name)
    return newer_methods.with_tasks(made) if method["name"] == "poly" else made
