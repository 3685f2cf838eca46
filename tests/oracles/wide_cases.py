"""The recorded cases of peft's methods on encoder-decoders and on a vision model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.oracles import encdec_cases, methods_cases, newer_cases, vision_cases

Case = dict[str, Any]

CONFIGS: dict[str, Case] = {
    "t5-wide": encdec_cases.CONFIGS["t5"],
    "mt5-wide": encdec_cases.CONFIGS["mt5"],
    "bart-wide": encdec_cases.CONFIGS["bart"],
    "vit-wide": vision_cases.CONFIGS["vit"],
}
TEXT = ("t5-wide", "mt5-wide", "bart-wide")
UNTOLD = ("ia3", "beft", "ln_tuning", "adalora", "vblora", "osf")
"""Methods whose lists of targets know no ViT."""
METHODS = (
    *(m for m in methods_cases.METHODS if m.get("block_size") != 64),
    {"name": "lora", "rank": 8},
    {"name": "galore", "rank": 16},
    {"name": "c3a", "block_size": 48},
    *newer_cases.METHODS,
)


def _cases(names: tuple[str, ...], kind: str) -> Iterator[Case]:
    for name in names:
        for method in METHODS:
            given = dict(method)
            if name == "vit-wide":
                if method["name"] in (*UNTOLD, "trainable_tokens"):
                    continue
                if method["name"] == "c3a":
                    given["block_size"] = 64
                if method["name"] not in ("galore",):
                    given["targets"] = ["q_proj", "v_proj"]
                yield {"config": name, "head": "image-classification", "method": given}
                continue
            if method["name"] == "road" and "group_size" not in method and "t5" in name:
                given["group_size"] = 48
            if method["name"] == "osf":
                given["targets"] = encdec_cases.TARGETS[name.removesuffix("-wide")]
            if method["name"] == "shira" and kind == "memory":
                continue
            yield {"config": name, "head": None, "method": given}


def parameter_cases() -> Iterator[Case]:
    """Every method on every config."""
    yield from _cases(tuple(CONFIGS), "parameters")


def _sized(case: Case, turn: int) -> Case:
    text = {"seq": 128, "target_len": 70} if case["config"] in TEXT else {}
    return {**case, **methods_cases.SETTINGS[turn % 4], "batch": 2, **text}


def flop_cases() -> Iterator[Case]:
    """An encoder-decoder and the vision model, in turn in bf16, fp32 and under autocast."""
    for turn, case in enumerate(_cases(("t5-wide", "vit-wide"), "flops")):
        yield _sized(case, turn)


def memory_cases() -> Iterator[Case]:
    """The same settings for three configs."""
    for turn, case in enumerate(_cases(("t5-wide", "bart-wide", "vit-wide"), "memory")):
        if case["method"]["name"] != "shira":
            yield _sized(case, turn)
