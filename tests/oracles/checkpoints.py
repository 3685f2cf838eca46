"""Live bytes of a step that checkpoints some blocks only, or keeps the results of some operations of each."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from tests.oracles import memory

KEPT: dict[str, tuple[str, ...]] = {
    "matmul": ("aten::mm", "aten::addmm", "aten::linear"),
    "attention": ("aten::_scaled_dot_product_flash_attention", "aten::_scaled_dot_product_flash_attention_for_cpu"),
}


def measure(config: Mapping[str, Any], *, every: int = 1, keep: Sequence[str] = (), **arguments: Any) -> dict[str, Any]:
    """What `memory.measure` says with checkpoints on every n-th block, whose operations of kinds `keep` are not recomputed."""
    plain = memory.build

    def some(*args: Any, **kwargs: Any) -> nn.Module:
        model = plain(*args, **{**kwargs, "checkpointing": False})
        options: dict[str, Any] = {"use_reentrant": False}
        if keep:
            options["context_fn"] = functools.partial(create_selective_checkpoint_contexts, _policy(keep))
        model.gradient_checkpointing_enable(options)  # type: ignore[operator]
        layers = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False)]
        blocks = [m for m in layers if type(m).__name__.endswith(("Layer", "Block"))]
        for number, layer in enumerate(blocks, 1):
            layer.gradient_checkpointing = number % every == 0  # type: ignore[assignment]
        return model

    with mock.patch.object(memory, "build", some):
        return memory.measure(config, checkpointing=True, **arguments)


def _policy(keep: Sequence[str]) -> Any:
    names = {name for kind in keep for name in KEPT[kind]}

    def policy(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        kept = isinstance(operator, torch._ops.OpOverload) and operator.name().split(".")[0] in names
        return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE

    return policy


def cases() -> Iterator[dict[str, Any]]:
    """Deep configs, so that checkpoints matter."""
    for name in ("llama-deep", "gpt2-deep"):
        size = {"config": name, "head": None, "method": None, "attention": "sdpa", "batch": 4, "seq": 256}
        for precision in ("bf16", "bf16-mixed"):
            for every in (2, 3, 4):
                yield {**size, "precision": precision, "every": every}
        for keep in (["attention"], ["attention", "matmul"]):
            yield {**size, "precision": "bf16", "keep": keep}
