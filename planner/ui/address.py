"""The address bar: what stands there for each input, read with remarks and written for links.

Streamlit itself falls back to a default in silence when an address holds what an input cannot take.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.errors import shorten
from planner.run import PRECISIONS
from planner.ui import fields, state
from planner.ui.language import NAMES, _, translate
from planner.workload.methods import METHODS
from planner.workload.optimizers import OPTIMIZERS
from planner.workload.stacks import STACKS

_OFFLOAD = {
    "none": "Nothing",
    "optimizer": "Optimizer states",
    "params": "Weights",
    "optimizer+params": "Weights and optimizer states",
    "activations": "Activations",
}
_COMMON = ("lora", "qlora", "full", "freeze")


def _by_use(name: str) -> tuple[int, str]:
    return (_COMMON.index(name) if name in _COMMON else len(_COMMON), METHODS[name].label)


CHOICES: dict[str, dict[str, str]] = {
    "source": {state.CATALOG: "By name", state.CONFIG: "config.json"},
    "method": {name: METHODS[name].label for name in sorted(METHODS, key=_by_use)},
    "precision": {state.AUTO: "As usual for method and GPU", **{name: name for name in PRECISIONS}},
    "optimizer": {name: kind.label for name, kind in OPTIMIZERS.items()},
    "checkpointing": {"none": "None", "selective": "Selective", "full": "Full"},
    "attention": {
        state.AUTO: "As the software chooses",
        "sdpa": "Fused (sdpa)",
        "flash": "FlashAttention",
        "eager": "Eager",
    },
    "stack": {name: kind.label for name, kind in STACKS.items()},
    "task": {"sft": "Fine-tuning", "pretrain": "Pretraining"},
    "sharding": {
        state.AUTO: "As usual",
        "ddp": "Nothing (DDP)",
        "zero1": "Optimizer (ZeRO-1)",
        "zero2": "Optimizer and gradients (ZeRO-2)",
        "zero3": "Everything (ZeRO-3, FSDP)",
        "hsdp": "Everything, within a machine (HSDP)",
    },
    **{
        key: {state.AUTO: "As usual", **{name: name for name in entry.options}}
        for key, entry in fields.ENTRIES.items()
        if entry.kind == "choice" and key != "offload"
    },
    "offload": _OFFLOAD,
}
"""Inputs with a closed list of values, and the label of each, which is what stands in the address."""

NUMBERS: dict[str, tuple[float, float]] = {
    "gpus": (1, 10**7),
    "micro": (1, 10**6),
    "accumulation": (1, 10**6),
    "tp": (1, 10**4),
    "pp": (1, 10**4),
    "per_node": (1, 10**4),
    "network": (0.1, 1e6),
    "price": (0.0, 1e6),
    "pue": (1.0, 5.0),
    **{key: (entry.low, entry.high) for key, entry in fields.ENTRIES.items() if entry.kind in ("integer", "number")},
    **dict.fromkeys(state.GPU_EDITS, (0.001, 1e9)),
    **dict.fromkeys(state.MODEL_EDITS, (1, 10**7)),
}
"""Bounds of the inputs that are numbers."""


def from_address(address: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """An address with labels where it had values of a run file, and a remark on each value that no input can take.

    The widgets themselves would fall back to their defaults in silence.
    """
    fixed, remarks = dict(address), []
    for key, text in address.items():
        if key in CHOICES and text not in (labels := [_(label) for label in CHOICES[key].values()]):
            value = _value(key, text)
            if value is None:
                remarks.append(f"{key}: {shorten(text)} is not one of {', '.join(labels)}; the default was taken.")
                del fixed[key]
            else:
                fixed[key] = _(CHOICES[key][value])
        elif key in NUMBERS and not _within(text, *NUMBERS[key]):
            low, high = NUMBERS[key]
            remarks.append(f"{key}: {shorten(text)} is not a number from {low:,g} to {high:,g}; the default was taken.")
            del fixed[key]
    return fixed, remarks


def _value(key: str, text: str) -> str | None:
    """The value that a text means: the value itself, or its label in any language."""
    for value, label in CHOICES[key].items():
        if text.strip().lower() == value or text == label or any(text == translate(label, other) for other in NAMES):
            return value
    return None


def _within(text: str, low: float, high: float) -> bool:
    try:
        return low <= float(text) <= high
    except ValueError:
        return False


def to_address(values: Mapping[str, Any]) -> dict[str, str]:
    """What stands in the address for values of widgets: nothing for a default, a label for a choice."""
    address = {}
    known = state.defaults()
    for key, value in values.items():
        if value is None or value == known[key]:
            continue
        if key in CHOICES:
            if (label := CHOICES[key].get(value)) is not None:
                address[key] = _(label)
        elif isinstance(value, bool):
            address[key] = "true" if value else "false"
        else:
            address[key] = f"{value:.12g}" if isinstance(value, float) else str(value)
    return address
