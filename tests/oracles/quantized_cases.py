"""The recorded cases of adapters over quantized bases, which `quantized.py` writes out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.oracles import cases

Case = dict[str, Any]

_FEW: Case = {"vocab_size": 512, "num_hidden_layers": 3}
CONFIGS: dict[str, Case] = {
    f"{name}-few": {**cases.CONFIGS[name], **_FEW}
    for name in ("llama", "opt", "gpt_neox", "qwen3", "phi3", "mistral", "gemma", "bert")
}
"""Few words, so that the peak lies in the blocks."""
QLORA: Case = {"name": "qlora", "rank": 8, "targets": "all-linear"}
SETTINGS: tuple[tuple[Case, str, bool], ...] = (
    (QLORA, "nf4-dq", False),
    (QLORA, "nf4-dq-autocast", True),
    (QLORA, "nf4-wide", False),
    (QLORA, "nf4-dq-wide", True),
    ({**QLORA, "name": "loftq"}, "nf4", True),
    ({**QLORA, "name": "loftq"}, "nf4-autocast", False),
    ({**QLORA, "name": "lora"}, "int8", False),
    ({**QLORA, "name": "lora"}, "int8", True),
    ({**QLORA, "name": "lora"}, "int8-autocast", True),
    ({**QLORA, "name": "lora"}, "int8-wide", False),
    ({**QLORA, "name": "lora"}, "int4", False),
    ({**QLORA, "name": "lora"}, "int4-autocast", True),
    ({**QLORA, "name": "lora"}, "awq", False),
    ({**QLORA, "name": "lora"}, "awq-autocast", True),
)
"""Method, format of the base, checkpoints."""


def _cases(settings: tuple[tuple[Case, str, bool], ...]) -> Iterator[Case]:
    for name in CONFIGS:
        chosen = settings
        if name == "opt-few":  # its MLP runs on rows without sequences, so that AWQ's backward copies the weight once: 9 % less than the engine says
            chosen = tuple(s for s in settings if not s[1].startswith("awq"))
        head = cases.HEADS.get(name.removesuffix("-few"))
        for i, (method, precision, checkpointing) in enumerate(chosen):
            some = method if i % 2 else {**method, "targets": cases.ATTENTION_NAMES[name.removesuffix("-few")]}
            yield {
                "config": name, "head": head, "method": some, "precision": precision, "attention": "sdpa",
                "checkpointing": checkpointing, "batch": 4, "seq": 256,
            }  # fmt: skip


def memory_cases() -> Iterator[Case]:
    """Every format on every family; targets alternate between attention's and all."""
    yield from _cases(SETTINGS)


def flop_cases() -> Iterator[Case]:
    """Each library once with and once without checkpoints."""
    yield from _cases(SETTINGS[:2] + SETTINGS[4:8] + SETTINGS[10:])
