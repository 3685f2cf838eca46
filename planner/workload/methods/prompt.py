"""Prompt tuning: trained embeddings stand before the input, so that every layer works on a longer sequence.

Lester et al. 2021, arXiv:2104.08691, as peft's PromptTuning runs it: one table of p · h parameters, repeated for every sequence; labels of the
virtual tokens are ignored, but logits are computed for them. Only the table is trained, yet its gradient passes through all layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.virtual_tokens import DEFAULT_TOKENS, check_source, check_width, prepend, rows, table

if TYPE_CHECKING:
    from planner.workload.graph import Tensor
    from planner.workload.writer import Writer


def _bind(method: Method, arch: Architecture) -> Adaptation:
    check_width(arch, method.name)
    check_source(arch, method.name)
    tokens = method.virtual_tokens or DEFAULT_TOKENS

    def prompt(w: Writer, x: Tensor) -> Tensor:
        return prepend(w, table(w, 1, rows(arch, tokens), arch.hidden), x)

    return Adaptation(
        method.name,
        trains=lambda path: False,
        peft=True,
        resolved={"virtual_tokens": tokens},
        adapter_dtype=method.adapter_dtype,
        formula=f"p · h with p = {rows(arch, tokens)}",
        virtual_tokens=tokens,
        prompt=prompt,
    )


register(
    MethodKind(
        "prompt",
        "Prompt tuning",
        "Trains embeddings of virtual tokens before the input.",
        ("virtual_tokens", "adapter_dtype"),
        "Lester et al. 2021, arXiv:2104.08691",
        _bind,
    )
)
