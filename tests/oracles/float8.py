"""Live bytes of a step whose blocks run torchao's Float8Linear; torchao is needed only to record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

from torch import nn

from tests.oracles import memory


def measure(config: Mapping[str, Any], **arguments: Any) -> dict[str, Any]:
    """What `memory.measure` says of the model with every linear layer of its blocks converted (dynamic scaling, one scale per tensor)."""
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training

    plain = memory.build

    def converted(*args: Any, **kwargs: Any) -> nn.Module:
        model = plain(*args, **kwargs)
        return convert_to_float8_training(
            model, config=Float8LinearConfig(), module_filter_fn=lambda module, name: ".layer" in name
        )

    with mock.patch.object(memory, "build", converted):
        return memory.measure(config, **arguments)


def cases() -> Iterator[dict[str, Any]]:
    """Families with torch's Linear, bf16 weights, with and without checkpoints."""
    for name in ("llama", "llama-deep", "qwen3", "opt", "gpt_neox", "mistral"):
        for checkpointing in (False, True):
            if checkpointing and name not in ("llama", "llama-deep"):
                continue
            yield {
                "config": name,
                "head": None,
                "method": None,
                "precision": "bf16",
                "attention": "sdpa",
                "checkpointing": checkpointing,
                "batch": 4,
                "seq": 256,
            }
