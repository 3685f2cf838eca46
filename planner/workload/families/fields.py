"""From a Hugging Face `config.json` to an `Architecture`: one registered reader per `model_type`.

A reader states the conventions that the config leaves to the model's code.

Source of every convention: the `modeling_*.py` of transformers 5.24; tests compare parameter counts with those
classes to the last digit. A field that the config leaves out has transformers' default; sizes without which nothing
can be said (width, depth, heads, vocabulary) must be there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from planner.errors import PlanError
from planner.workload import structure
from planner.workload.architecture import Architecture

Config = Mapping[str, Any]
Reader = Callable[["Fields"], Architecture]
FAMILIES: dict[str, Reader] = {}

WITHOUT_FLASH = frozenset(
    [
        "beit", "bloom", "deberta", "deberta-v2", "gemma3", "llama4_text", "megatron-bert", "mpnet", "mpt", "mt5", "paligemma", "rembert",
        "speech_to_text", "swin", "t5", "umt5", "xglm",
    ]
)
"""Types whose classes in transformers 5.24 declare no FlashAttention (`_supports_flash_attn`)."""

_LARGEST = {"layers": 10_000, "size": 10_000_000}


class Fields:
    """Typed access to a config; every problem names the field, the value and the fix."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def size(self, *names: str, default: int | None = None, most: int = _LARGEST["size"], zero: bool = False) -> int:
        """A positive integer under the first of `names` that is there."""
        for name in names:
            value = self.config.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not (0 if zero else 1) <= value <= most:
                raise PlanError(
                    f"model.{name}",
                    value,
                    "is not a usable size",
                    f"Give a whole number from {0 if zero else 1} to {most}.",
                )
            return value
        if default is None:
            raise PlanError(f"model.{names[0]}", None, "is missing from the config", f"Add {names[0]}, a whole number.")
        return default

    def layers(self, *names: str) -> int:
        return self.size(*names, most=_LARGEST["layers"])

    def flag(self, name: str, default: bool) -> bool:
        value = self.config.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise PlanError(f"model.{name}", value, "is not true or false", "Write true or false.")
        return value

    def fraction(self, *names: str, default: float = 0.0) -> float:
        for name in names:
            value = self.config.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise PlanError(f"model.{name}", value, "is not a fraction", "Give a number from 0 to 1.")
            return float(value)
        return default

    def number(self, name: str, default: float) -> float:
        """A positive number."""
        value = self.config.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1000:
            raise PlanError(f"model.{name}", value, "is not a usable factor", "Give a number above 0, at most 1000.")
        return value

    def text(self, *names: str, default: str) -> str:
        for name in names:
            value = self.config.get(name)
            if value is None:
                continue
            if not isinstance(value, str):
                raise PlanError(f"model.{name}", value, "is not a name", "Give it as text.")
            return value
        return default

    def divided(self, total: int, heads: int, what: str) -> int:
        if total % heads:
            raise PlanError(
                f"model.{what}",
                heads,
                f"does not divide the width {total}",
                "Use a head count that divides it, or give head_dim.",
            )
        return total // heads

    def rope(self, name: str, default: float) -> float:
        """A field of `rope_parameters` (transformers 5) or of the config itself (before)."""
        nested = self.config.get("rope_parameters")
        if isinstance(nested, Mapping) and isinstance(nested.get(name), int | float):
            return Fields(nested).fraction(name, default=default)
        return self.fraction(name, default=default)

    def labels(self) -> int:
        """transformers counts labels by `num_labels` or by the length of `id2label`; two when neither is there."""
        if (
            isinstance(self.config.get("id2label"), Mapping)
            and self.config["id2label"]
            and self.config.get("num_labels") is None
        ):
            return len(self.config["id2label"])
        return self.size("num_labels", default=2)


def family(*model_types: str) -> Callable[[Reader], Reader]:
    """Register a reader for `model_type`s; a second one for the same type is a mistake."""

    def register(reader: Reader) -> Reader:
        for name in model_types:
            if name in FAMILIES:
                raise RuntimeError(f"model_type {name} is read twice")
            FAMILIES[name] = reader
        return reader

    return register


def read_config(config: Config) -> Architecture:
    """`Architecture` of a config mapping. Raises `PlanError` for an unknown type and for any field that cannot be."""
    model_type = config.get("model_type", config.get("_class_name"))  # diffusers names the class instead
    if not isinstance(model_type, str):
        raise PlanError(
            "model.model_type",
            model_type,
            "is missing or not text",
            "Give the model_type of the Hugging Face config, for example llama.",
        )
    if model_type not in FAMILIES:
        if structure.available() and "model_type" in config:
            return structure.import_architecture(config)
        raise PlanError(
            "model.model_type",
            model_type,
            "is not covered",
            f"Covered: {', '.join(sorted(FAMILIES))}. Give a config of one of these types, or install torch and transformers to import its modules.",
        )
    made = FAMILIES[model_type](Fields(config)).check()
    return replace(made, flash=False) if model_type in WITHOUT_FLASH else made
