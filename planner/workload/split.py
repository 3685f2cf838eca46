"""How tensor, sequence, context and expert parallelism cut one stack: the architecture that a single rank sees.

Tensor parallel: heads, inner widths and the vocabulary are divided; the hidden width is not (Shoeybi et al. 2019, arXiv:1909.08053).
Sequence parallel: what lies outside of that region is divided along the sequence (Korthikanti et al. 2022, arXiv:2205.05198).
Context parallel: every rank has a part of each sequence and sees the keys of all (Liu et al. 2023, arXiv:2310.01889).
Expert parallel: every rank has a part of the experts; tokens travel to them (Lepikhin et al. 2020, arXiv:2006.16668).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Experts
from planner.workload.context import check_context

MULTIPLE = 128
"""Vocabulary rows per rank are a multiple of this where the vocabulary is divided (Megatron's make-vocab-size-divisible-by)."""


@dataclass(frozen=True)
class Split:
    """Degrees. sequence: activations between the tensor-parallel regions are divided too · cp_kind: how attention sees whole sequences."""

    tp: int = 1
    sequence: bool = False
    cp: int = 1
    ep: int = 1
    cp_kind: str = "ring"
    rows: float = 1.0
    """Rows of the busiest expert rank over those that its tokens have."""

    @property
    def by_heads(self) -> bool:
        """Whether context-parallel ranks divide the heads while attention runs."""
        return self.cp > 1 and self.cp_kind == "ulysses"

    @property
    def outside(self) -> int:
        """Ranks that share the tokens of the residual stream."""
        return self.tp if self.sequence else 1


def local(arch: Architecture, split: Split) -> Architecture:
    """The part of a stack that one rank holds. Raises `PlanError` for what cannot be divided so."""
    if split.ep > 1:
        counts = {kind.experts.count for kind in arch.kinds if kind.experts is not None}
        if not counts:
            raise PlanError("parallel.ep", split.ep, f"needs experts, and {arch.model_type} has none", "Use 1.")
        if any(count % split.ep for count in counts):
            raise PlanError("parallel.ep", split.ep, f"does not divide the {max(counts)} experts", "Use a divisor.")
    if split.tp == 1 and split.ep == 1:
        check_context(arch, split)
        return arch
    if split.tp > 1:
        _check_components(arch, split.tp)
        _divisible("num_attention_heads", arch.heads, split.tp)
    changes = _shares({name: getattr(arch, name) for name in _DIVIDED}, split)
    kv = arch.kv_heads
    if split.tp > 1 and kv % split.tp and split.tp % kv:
        raise PlanError(
            "parallel.tp",
            split.tp,
            f"neither divides the {kv} key-value heads nor is a multiple of them",
            "Use another degree.",
        )
    per_rank = math.ceil(arch.vocab / (MULTIPLE * split.tp)) * MULTIPLE if split.tp > 1 else arch.vocab
    made = replace(
        arch,
        heads=arch.heads // split.tp,
        kv_heads=max(1, kv // split.tp),
        vocab=per_rank,
        variants=tuple(_shares(changes, split) for changes in arch.variants),
        **changes,
    )
    check_context(made, split)
    return made


_DIVIDED = ("ffn", "experts")


def _shares(traits: Mapping[str, Any], split: Split) -> dict[str, Any]:
    """The traits with inner widths and experts divided."""
    made = dict(traits)
    if "ffn" in made:
        _divisible("intermediate_size", made["ffn"], split.tp)
        made["ffn"] //= split.tp
    experts = made.get("experts")
    if isinstance(experts, Experts):
        inside = 1 if split.ep > 1 and split.sequence else split.tp
        _divisible("moe_intermediate_size", experts.ffn, inside)
        made["experts"] = replace(
            experts, ffn=experts.ffn // inside, shared=experts.shared // split.tp, held=experts.count // split.ep
        )
    return made


def _divisible(field: str, size: int, tp: int) -> None:
    if size % tp:
        raise PlanError("parallel.tp", tp, f"does not divide the model's {field} of {size}", "Use a divisor.")


def _check_components(arch: Architecture, tp: int) -> None:
    own = any(
        part is not None and not getattr(part, "by_heads", False)
        for kind in arch.kinds
        for part in (kind.front, kind.mixer, kind.feed_forward, kind.layout, kind.tail, *kind.outputs)
    )
    if own or arch.towers:
        raise PlanError(
            "parallel.tp",
            tp,
            f"is not planned for {arch.model_type}, whose blocks have parts of their own",
            "Use 1, with zero3 or pipeline stages.",
        )
