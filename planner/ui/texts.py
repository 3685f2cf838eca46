"""Words of the app: presets, labels, and text made safe to show."""

from __future__ import annotations

import re
from typing import Any, Final

from planner.errors import PlanError, shorten
from planner.ui.language import _

PRESETS: Final[dict[str, dict[str, Any]]] = {
    "8B LoRA": {},
    "3B on a 24 GB card": {
        "model": "meta-llama/Llama-3.2-3B",
        "gpu": "RTX 4090",
        "seq": "1024",
        "checkpointing": "full",
    },
    "8B in full": {
        "model": "meta-llama/Llama-3.1-8B",
        "method": "full",
        "gpus": 8,
        "sharding": "zero3",
        "precision": "bf16-mixed",
        "checkpointing": "full",
        "seq": "4096",
        "accumulation": 4,
        "data": "100M",
    },
    "70B QLoRA": {
        "model": "meta-llama/Llama-3.1-70B",
        "method": "qlora",
        "checkpointing": "full",
        "data": "5M",
    },
    "Pretrain 1B": {
        "task": "pretrain",
        "model": "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        "method": "full",
        "gpu": "A100 SXM4 80GB",
        "gpus": 8,
        "stack": "torchtitan",
        "precision": "bf16-mixed",
        "attention": "flash",
        "micro": 8,
        "accumulation": 8,
        "data": "22B",
    },
}
"""Plans to start from: what differs from the plan that opens."""

KINDS: Final = {
    "matmul": "Matrix products",
    "attention": "Attention",
    "elementwise": "Elementwise",
    "norm": "Norms",
    "loss": "Loss",
    "embedding": "Embedding",
    "dequantize": "Dequantizing",
    "launch": "Waiting for launches",
}
"""Kinds of kernel as a chart names them."""

EVIDENCE: Final = {
    "measured": ("green", ":material/verified:", "This very run was measured."),
    "calibrated": ("green", ":material/verified:", "The speed of this device was measured."),
    "fitted": (
        "blue",
        ":material/science:",
        "Kernel curves of this device were fitted to published measurements; intervals come from published runs.",
    ),
    "datasheet": (
        "orange",
        ":material/description:",
        "No kernels of this device were measured: curves are carried over from the nearest architecture.",
    ),
}
"""Colour, icon and sentence of each step of the evidence ladder."""

STATES: Final = {
    "fits": (":material/check_circle:", "green"),
    "does-not-fit": (":material/cancel:", "red"),
    "close": (":material/error:", "orange"),
    "unknown": (":material/help:", "gray"),
}
"""Icon and colour of each verdict."""

_SPECIAL = re.compile(r"[\\`*_{}\[\]|~<>$:&^]|^[#+-]|(?<=^\d)[.)](?= )|(?<=^\d\d)[.)](?= )")


def plain(text: object) -> str:
    """Text in the language of the page that markdown shows as it is: a name with tags, formulas or directives in it is still a name."""
    return _SPECIAL.sub(lambda found: "\\" + found[0], " ".join(_(str(text)).split()))


def code(text: object) -> str:
    """Text as inline code; backticks would end it."""
    shown = " ".join(str(text).split()).replace("`", "'")
    return f"`{shown}`" if shown else ""


def error_parts(error: PlanError) -> tuple[str, str]:
    """Title and body of an error: what is wrong with which value of which field, and the fix."""
    value = "" if error.value is None else shorten(error.value)
    shown = f" {code(value)}" if value else ""
    return f"{code(error.field)}{shown} {plain(error.problem)}", plain(error.fix)


def error_title(error: PlanError) -> str:
    """The page's title while an input is wrong, or missing."""
    return _("One input is missing" if error.value is None else "One input needs a change")


def short_model(name: str) -> str:
    """A model's name without its organisation."""
    found = re.fullmatch(r"[\w.-]+/([\w.-]+(?: \(edited\))?)", name)
    return found[1] if found else name


PREVIEW: Final = 40_000
"""Characters of a report that are shown before it is downloaded."""


def file_name(model: str) -> str:
    """A safe name for the report's file."""
    return "plumbline-" + (re.sub(r"[^A-Za-z0-9.]+", "-", short_model(model)).strip("-.")[:60] or "plan")
