"""How tensor, sequence, context and expert parallelism cut one stack: the architecture that a single rank sees.

Tensor parallel: heads, inner widths and the vocabulary are divided; the hidden width is not (Shoeybi et al. 2019, arXiv:1909.08053).
Sequence parallel: what lies outside of that region is divided along the sequence (Korthikanti et al. 2022, arXiv:2205.05198).
Context parallel: every rank has a part of each sequence and sees the keys of all (Liu et al. 2023, arXiv:2310.01889).
Expert parallel: every rank has a part of the experts; tokens travel to them (Lepikhin et al. 2020, arXiv:2006.16668).
"""

from __future__ import annotations

import math
import re
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
        held = [kind.experts or getattr(kind.feed_forward, "experts", None) for kind in arch.kinds]
        counts = {experts.count for experts in held if experts is not None}
        if not counts:
            raise PlanError("parallel.ep", split.ep, f"needs experts, and {arch.model_type} has none", "Use 1.")
        if any(count % split.ep for count in counts):
            raise PlanError("parallel.ep", split.ep, f"does not divide the {max(counts)} experts", "Use a divisor.")
    if split.tp == 1 and split.ep == 1:
        check_context(arch, split)
        return arch
    if split.tp > 1:
        _check_components(arch, split)
    attends = split.tp > 1 and any(kind.mixer is None or getattr(kind.mixer, "by_heads", False) for kind in arch.kinds)
    changes = _shares({name: getattr(arch, name) for name in _DIVIDED}, split)
    if attends:
        changes |= _heads({"heads": arch.heads, "kv_heads": arch.kv_heads}, split.tp)
    per_rank = math.ceil(arch.vocab / (MULTIPLE * split.tp)) * MULTIPLE if split.tp > 1 else arch.vocab
    made = replace(
        arch,
        vocab=per_rank,
        variants=tuple(_shares(changes, split) for changes in arch.variants),
        **changes,
    )
    check_context(made, split)
    return made


_COMPONENTS = ("mixer", "feed_forward", "layout")
_DIVIDED = ("ffn", "experts", *_COMPONENTS)


def _heads(traits: Mapping[str, Any], tp: int) -> dict[str, Any]:
    """Attention heads of one rank; key-value heads that several ranks need are on each of them."""
    made = dict(traits)
    if "heads" in made:
        _divisible("num_attention_heads", made["heads"], tp)
        made["heads"] //= tp
    if "kv_heads" in made:
        kv = made["kv_heads"]
        if kv % tp and tp % kv:
            raise PlanError("parallel.tp", tp, f"neither divides the {kv} key-value heads nor is a multiple of them", "Use another degree.")
        made["kv_heads"] = max(1, kv // tp)
    return made


def _shares(traits: Mapping[str, Any], split: Split) -> dict[str, Any]:
    """The traits with inner widths and experts divided."""
    made = _heads(traits, split.tp) if split.tp > 1 else dict(traits)
    for name in _COMPONENTS:
        if name in made:
            made[name] = _component(made[name], split)
    if "ffn" in made:
        _divisible("intermediate_size", made["ffn"], split.tp)
        made["ffn"] //= split.tp
    experts = made.get("experts")
    if isinstance(experts, Experts):
        made["experts"] = _experts(experts, split)
    return made


def _experts(experts: Experts, split: Split) -> Experts:
    """Experts of one rank."""
    inside = 1 if split.ep > 1 and split.sequence else split.tp
    _divisible("moe_intermediate_size", experts.ffn, inside)
    return replace(experts, ffn=experts.ffn // inside, shared=experts.shared // split.tp, held=experts.count // split.ep)


def _divisible(field: str, size: int, tp: int) -> None:
    if size % tp:
        raise PlanError("parallel.tp", tp, f"does not divide the model's {field} of {size}", "Use a divisor.")


def _component(part: Any, split: Split) -> Any:
    """A component of one rank; those that read the stack's heads are as they were. Their experts are divided as the stack's are."""
    if part is None:
        return None
    made = part.divided(split.tp) if split.tp > 1 and hasattr(part, "divided") else part
    if isinstance(experts := getattr(made, "experts", None), Experts):
        if split.ep > 1 and split.sequence:
            raise PlanError(
                "parallel.sequence_parallel", True, "is not planned beside expert parallel for experts with an MLP or router of their own", "Use false."
            )
        made = replace(made, experts=_experts(experts, split))
    return made


def _check_components(arch: Architecture, split: Split) -> None:
    tp = split.tp
    for kind in arch.kinds:
        for part in (kind.front, kind.mixer, kind.feed_forward, kind.layout, kind.tail, *kind.outputs):
            if part is not None and not getattr(part, "by_heads", False) and not hasattr(part, "divided"):
                raise PlanError(
                    "parallel.tp",
                    tp,
                    f"is not planned for {arch.model_type}: its {words(part)} has no part for each rank",
                    "Use 1, with zero3 or pipeline stages.",
                )
    if arch.towers and arch.merge is None:
        raise PlanError("parallel.tp", tp, f"is not planned for {arch.model_type} with its {arch.towers[0].tower} stack", "Use 1, with zero3.")
    if arch.towers and split.sequence:
        raise PlanError(
            "parallel.sequence_parallel", True, f"is not planned for {arch.model_type}, whose images are merged into whole sequences", "Use false."
        )


def words(part: object) -> str:
    """A component's class in words: SelectiveScan is a selective scan."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", type(part).__name__).lower()
