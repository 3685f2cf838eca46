"""Trainable tokens: some rows of the embedding table are trained beside it, and put into a copy of the whole table at every use.

As peft's TrainableTokens runs it: new tokens (of a dialogue format or a domain) are learned, everything else stays frozen. A tied output layer
uses the same rows.
"""

from __future__ import annotations

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.methods.base import Adaptation, MethodKind, register


def _bind(method: Method, arch: Architecture) -> Adaptation:
    count = len(set(method.token_indices or ()))
    if not count:
        raise PlanError("method.token_indices", None, "is needed: it says which tokens are trained", "Name token ids.")
    beyond = [i for i in method.token_indices or () if i >= arch.vocab]
    if beyond:
        raise PlanError(
            "method.token_indices", beyond[0], f"is none of the {arch.vocab} tokens", f"Use 0 to {arch.vocab - 1}."
        )
    return Adaptation(
        method.name,
        trains=lambda path: False,
        peft=True,
        copies_head=False,
        adapter_dtype=method.adapter_dtype,
        tokens=count,
        formula=f"{count} · h",
    )


register(
    MethodKind(
        "trainable_tokens",
        "Trainable tokens",
        "Trains the embeddings of some tokens.",
        ("token_indices", "adapter_dtype"),
        "peft 0.21, tuners/trainable_tokens",
        _bind,
    )
)
