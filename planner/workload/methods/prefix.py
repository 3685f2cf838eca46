"""Prefix tuning: trained keys and values stand before those of the input in every layer.

Li & Liang 2021, arXiv:2101.00190, as peft's PrefixTuning runs it: a table of p · L · 2 · (KV heads · head size), or, with `projection`, a table of
p · (KV heads · head size) and an MLP with tanh that makes all layers' keys and values. They reach the layers as a transformers cache, which holds
every layer's joined keys and values until the forward is over; keys are longer than queries, so that sdpa gets a mask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.virtual_tokens import (
    DEFAULT_TOKENS,
    check_cache,
    check_layers,
    check_source,
    dense,
    hand_out,
    join_prefix,
    table,
)

if TYPE_CHECKING:
    from planner.workload.writer import Writer


def _bind(method: Method, arch: Architecture) -> Adaptation:
    check_cache(arch, method.name)
    check_source(arch, method.name)
    check_layers(arch, method.name)
    tokens, project = method.virtual_tokens or DEFAULT_TOKENS, bool(method.projection)
    width = arch.kv_heads * arch.head_dim
    hidden = method.encoder_hidden or width
    if method.encoder_hidden is not None and not project:
        raise PlanError(
            "method.encoder_hidden", hidden, "means nothing without the projection", "Add projection: true."
        )
    resolved = {"virtual_tokens": tokens, "projection": project, **({"encoder_hidden": hidden} if project else {})}

    def begin(w: Writer) -> None:
        """All layers' keys and values at once, for every sequence; one slice a layer."""
        g = w.graph
        if project:
            inner = g.unary("tanh", dense(w, "transform.0", table(w, w.b, tokens, width), hidden), save="output")
            whole = dense(w, "transform.2", inner, arch.layers * 2 * width)
        else:
            whole = table(w, w.b, tokens, arch.layers * 2 * width)
        hand_out(w, arch, whole)

    return Adaptation(
        method.name,
        trains=lambda path: False,
        peft=True,
        resolved=resolved,
        adapter_dtype=method.adapter_dtype,
        formula=f"p · L · 2 · a_kv · d with p = {tokens}"
        if not project
        else f"p · a_kv · d + MLP to L · 2 · a_kv · d with p = {tokens}, e = {hidden}",
        prefix_tokens=tokens,
        begin=begin,
        prefix=join_prefix(arch),
        checkpointing=False,
    )


register(
    MethodKind(
        "prefix",
        "Prefix tuning",
        "Trains keys and values before those of the input, in every layer.",
        ("virtual_tokens", "projection", "encoder_hidden", "adapter_dtype"),
        "Li & Liang 2021, arXiv:2101.00190",
        _bind,
    )
)
