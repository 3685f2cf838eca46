"""Structured compression of the model before it is trained: smaller sizes, or 2:4 sparse weights. What cannot be done is refused."""

from __future__ import annotations

from dataclasses import replace

from planner.catalog import Accelerator
from planner.errors import PlanError
from planner.run import Precision, Run
from planner.workload import Architecture
from planner.workload.sparse24 import METHODS

MULTIPLE = 8
"""Widths are cut to a multiple of this, so that products stay aligned."""


def pruned(run: Run, arch: Architecture, notes: list[str]) -> Architecture:
    """The architecture without the pruned share of heads and of the MLP's width (Ma et al. 2023, arXiv:2305.11627, LLM-Pruner; Xia et al. 2024).

    Heads go in whole groups that share keys and values; their size and the hidden size stay.
    """
    c = run.compression
    heads, ffn = (c.pruned if c.heads is None else c.heads), (c.pruned if c.ffn is None else c.ffn)
    if not heads and not ffn:
        return arch
    name = "pruned" if c.pruned else "heads" if heads else "ffn"
    plain = not (arch.towers or arch.experts or arch.variants or arch.imported)
    if not plain or any(
        part is not None for part in (arch.front, arch.mixer, arch.feed_forward, arch.layout, arch.cross)
    ):
        raise PlanError(
            f"compression.{name}",
            getattr(c, name),
            f"is planned for plain transformers, not for {arch.model_type}",
            "Use 0.",
        )
    kept = round(arch.kv_heads * (1 - heads))
    if heads and not 0 < kept < arch.kv_heads:
        raise PlanError(
            "compression.heads",
            heads,
            f"leaves {kept} of {arch.kv_heads} groups of heads",
            f"Use a multiple of 1/{arch.kv_heads} below 1." if arch.kv_heads > 1 else "Use 0: all heads share one key.",
        )
    width = max(MULTIPLE, round(arch.ffn * (1 - ffn) / MULTIPLE) * MULTIPLE) if ffn else arch.ffn
    cut = (
        replace(arch, heads=kept * (arch.heads // arch.kv_heads), kv_heads=kept, ffn=width)
        if heads
        else replace(arch, ffn=width)
    )
    notes.append(
        f"Pruned before training: {cut.heads} of {arch.heads} heads and {cut.ffn} of {arch.ffn} of the MLP's width stay in every layer."
    )
    return cut


def check_sparsity(run: Run, arch: Architecture, precision: Precision, accelerator: Accelerator | None) -> bool:
    """Whether weights are 2:4 sparse. Raises `PlanError` where hardware, format or method cannot."""
    if run.compression.sparsity is None:
        return False
    value = run.compression.sparsity

    def refuse(problem: str, fix: str) -> PlanError:
        return PlanError("compression.sparsity", value, problem, fix)

    capability = (accelerator.compute_capability if accelerator is not None else None) or 0.0
    if accelerator is None or accelerator.vendor != "NVIDIA" or capability < 8.0:
        where = accelerator.name if accelerator is not None else "this device"
        raise refuse(
            f"needs sparse tensor cores, which {where} has not", "Use an NVIDIA part from Ampere on, or leave it out."
        )
    if precision.compute not in ("bf16", "fp16") or precision.weights not in ("bf16", "fp16", "fp32"):
        raise refuse(
            f"is planned for 16-bit products, not for {precision.weights} weights and {precision.compute}", "Use bf16."
        )
    if run.method.name not in METHODS:
        raise refuse(f"is not planned with {run.method.name}", f"Use one of {', '.join(METHODS)}.")
    if precision.weights == "fp32" and run.method.name != "full":
        raise refuse("packs 16-bit weights, and the frozen ones are fp32", "Use precision: bf16.")
    if arch.experts is not None or arch.imported or arch.towers:
        raise refuse(f"is planned for plain transformers, not for {arch.model_type}", "Leave it out.")
    return True
