"""Live bytes of a step whose blocks send what they save to the host, as torchtune's OffloadActivations does (TRL's is derived from it).

Tensors under 1 KiB and parameters (their transposes too, as in TRL) stay; each saving is a copy of its own; the last five stay on the device until
a further one is saved; in backward a tensor is back from when its node asks for it until the node is done.
Copies themselves are not followed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from tests.oracles import memory

LEAST, STASH = 1024, 5


class Hooks(saved_tensors_hooks):  # type: ignore[misc]
    """sent: bytes that went to the host."""

    def __init__(self, model: nn.Module) -> None:
        self.sent = 0
        self.weights = {p.untyped_storage()._cdata for p in model.parameters()}
        self.stash: deque[torch.Tensor] = deque(maxlen=STASH)
        super().__init__(self.pack, self.unpack)

    def pack(self, x: torch.Tensor) -> Any:
        size = x.numel() * x.element_size()
        if size < LEAST or x.untyped_storage()._cdata in self.weights:
            return x
        self.sent += size
        self.stash.append(x.detach())
        return x.shape, x.stride(), x.dtype

    def unpack(self, packed: Any) -> torch.Tensor:
        if isinstance(packed, torch.Tensor):
            return packed
        self.stash.clear()  # by the first node of backward all copies are done
        shape, stride, dtype = packed
        return torch.empty_strided(shape, stride, dtype=dtype)


def measure(config: Mapping[str, Any], **arguments: Any) -> dict[str, Any]:
    """What `memory.measure` says, and ``sent``: the bytes that one step sends to the host."""
    plain, every = memory.build, list[Hooks]()

    def sending(*args: Any, **kwargs: Any) -> nn.Module:
        model = plain(*args, **kwargs)
        hooks = Hooks(model)
        every.append(hooks)
        for module in model.modules():
            if type(module).__name__.endswith(("DecoderLayer", "GPT2Block", "BertLayer")):
                module.forward = _within(module.forward, hooks)
        return model

    with mock.patch.object(memory, "build", sending):
        found = memory.measure(config, steps=2, **arguments)
    return {**found, "sent": every[0].sent // 2}


def _within(forward: Any, hooks: Hooks) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        with hooks:
            return forward(*args, **kwargs)

    return run


def cases() -> Iterator[dict[str, Any]]:
    """Deep configs, so that what stays of a block is little."""
    for name in ("llama-deep", "gpt2-deep"):
        size = {"config": name, "head": None, "attention": "sdpa", "batch": 4, "seq": 256}
        targets = {"llama-deep": ["q_proj", "v_proj"], "gpt2-deep": ["c_attn"]}[name]
        for precision, method in (("bf16", None), ("fp32", None), ("bf16-autocast", {"name": "lora", "rank": 8, "targets": targets}), ("bf16-mixed", None)):
            yield {
                **size, "precision": precision, "method": method, "attention": "eager" if precision == "fp32" else "sdpa",
                "optimizer": "adamw" if method else "sgd",
            }  # fmt: skip
