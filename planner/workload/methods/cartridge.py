"""Cartridge: every layer's keys and values of a long context, trained as they are, the first tokens frozen (Eyuboglu et al. 2025, arXiv:2506.06266).

As peft's Cartridge runs it: a frozen and a trained table are joined, the same for every sequence, and reach the layers as prefix tuning's do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.virtual_tokens import DEFAULT_TOKENS, ENCODER, check_cache, check_single, hand_out, join_prefix

if TYPE_CHECKING:
    from planner.workload.writer import Writer


def _bind(method: Method, arch: Architecture) -> Adaptation:
    check_cache(arch, method.name)
    check_single(arch, method.name)
    tokens = method.virtual_tokens or DEFAULT_TOKENS
    frozen = 1 if method.frozen_tokens is None else method.frozen_tokens
    if frozen >= tokens:
        raise PlanError("method.frozen_tokens", frozen, f"leaves none of {tokens} tokens to train", "Use fewer.")
    width = arch.layers * 2 * arch.kv_heads * arch.head_dim

    def begin(w: Writer) -> None:
        g = w.graph
        trained = w.adapter(f"{ENCODER}.trainable_embedding", (tokens - frozen, width))
        whole = trained
        if frozen:
            fixed = w.adapter(f"{ENCODER}.frozen_embedding", (frozen, width), trainable=False)
            whole = g.cat((fixed, trained), (tokens, width), name="cartridge")
        hand_out(w, arch, g.expand(whole, (w.b, tokens, width)))

    return Adaptation(
        method.name,
        trains=lambda path: False,
        peft=True,
        resolved={"virtual_tokens": tokens, "frozen_tokens": frozen},
        adapter_dtype=method.adapter_dtype,
        formula=f"(p − frozen) · L · 2 · a_kv · d with p = {tokens}",
        prefix_tokens=tokens,
        begin=begin,
        prefix=join_prefix(arch),
        checkpointing=False,
    )


register(
    MethodKind(
        "cartridge",
        "Cartridge",
        "Trains keys and values of a context, in every layer.",
        ("virtual_tokens", "frozen_tokens", "adapter_dtype"),
        "Eyuboglu et al. 2025, arXiv:2506.06266",
        _bind,
    )
)
