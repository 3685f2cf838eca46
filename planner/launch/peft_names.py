"""The fields of a run's method as arguments of peft's configurations (peft 0.21)."""

from __future__ import annotations

from typing import Any, Final

from planner.run import Method

_COMMON: Final = {"targets": "target_modules", "modules_to_save": "modules_to_save", "exclude": "exclude_modules", "layers": "layers_to_transform",
                  "layers_pattern": "layers_pattern", "rank_pattern": "rank_pattern", "bias": "bias"}  # fmt: skip
_LORA: Final = {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout", "alpha_pattern": "alpha_pattern", "token_indices": "trainable_token_indices",
                "use_dora": "use_dora", "use_rslora": "use_rslora", "init_lora_weights": "init_lora_weights", **_COMMON}  # fmt: skip
_TOKENS: Final = {"virtual_tokens": "num_virtual_tokens"}

CONFIGS: Final[dict[str, tuple[str, dict[str, str], dict[str, Any]]]] = {
    "lora": ("LoraConfig", _LORA, {}),
    "qlora": ("LoraConfig", _LORA, {}),
    "dora": ("LoraConfig", _LORA, {"use_dora": True}),
    "rslora": ("LoraConfig", _LORA, {"use_rslora": True}),
    "pissa": ("LoraConfig", _LORA, {"init_lora_weights": "pissa"}),
    "ia3": ("IA3Config", {"targets": "target_modules", "exclude": "exclude_modules", "modules_to_save": "modules_to_save"}, {}),
    "vera": ("VeraConfig", {"rank": "r", "dropout": "vera_dropout", **_COMMON}, {}),
    "loha": ("LoHaConfig", {"rank": "r", "alpha": "alpha", **_COMMON}, {}),
    "lokr": ("LoKrConfig", {"rank": "r", "alpha": "alpha", "factor": "decompose_factor", "decompose_both": "decompose_both", **_COMMON}, {}),
    "boft": ("BOFTConfig", {"block_size": "boft_block_size", **_COMMON}, {}),
    "fourierft": ("FourierFTConfig", {"frequencies": "n_frequency", **_COMMON}, {}),
    "ln_tuning": ("LNTuningConfig", {"targets": "target_modules", "modules_to_save": "modules_to_save", "exclude": "exclude_modules"}, {}),
    "prompt": ("PromptTuningConfig", _TOKENS, {}),
    "prefix": ("PrefixTuningConfig", {**_TOKENS, "encoder_hidden": "encoder_hidden_size", "projection": "prefix_projection"}, {}),
    "p_tuning": ("PromptEncoderConfig", {**_TOKENS, "encoder_hidden": "encoder_hidden_size"}, {}),
}
"""Class, arguments by field, and constants, by method."""


def peft_config(method: Method) -> tuple[str, dict[str, Any], list[str]] | None:
    """(class, arguments, fields that the class has no argument for) of a method; None where no configuration is known here."""
    known = CONFIGS.get(method.name)
    if known is None:
        return None
    name, fields, constants = known
    given = {key: value for key, value in method.model_dump(exclude_none=True).items() if key not in ("name", "adapter_dtype")}
    arguments = {fields[key]: list(value) if isinstance(value, tuple) else value for key, value in given.items() if key in fields}
    return name, {**arguments, **constants}, sorted(set(given) - set(fields))
