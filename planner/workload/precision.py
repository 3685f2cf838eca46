"""How a run's number formats act inside one training step: types in the graph, types in storage, and bytes per element."""

from __future__ import annotations

from dataclasses import dataclass

from planner.errors import PlanError
from planner.run import Precision

QUANTIZED = ("nf4", "nf4-dq", "int8", "int4")

STORED_BYTES: dict[str, float] = {
    "fp32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "int64": 8.0,
    "nf4": 0.5 + 4 / 64,
    "int4": 0.5 + 2.5 / 128,
    "nf4-dq": 0.5 + 1 / 64 + 4 / (64 * 256),
}
"""Stored bytes of one weight. nf4 has an fp32 scale per 64 weights; double quantization stores that scale in 8 bits with an fp32 scale per 256 of them
(Dettmers et al. 2023, sec. 3). int4 (GPTQ, AWQ) has a 16-bit scale and a 4-bit zero per 128 weights (Frantar et al. 2022, arXiv:2210.17323)."""


@dataclass(frozen=True)
class Formats:
    """graph: type of weights as the forward sees them · stored: type of the persistent copy · base: type of quantized linear weights, if any ·
    gradient: type of the persistent gradients · compute: type of matrix products · autocast: type autocast casts to · master: fp32 master copy beside."""

    graph: str
    stored: str
    base: str | None
    gradient: str
    compute: str
    autocast: str | None
    master: bool


def formats(precision: Precision, *, cast_on_gather: bool, fp32_gradients: bool) -> Formats:
    """Resolve a run's precision.

    cast_on_gather: fully sharded weights are stored in `weights` and gathered in `compute` (FSDP MixedPrecision), so that the graph sees `compute`.
    fp32_gradients: the stack accumulates gradients in fp32 beside lower-precision weights (Megatron's main_grad).
    Raises `PlanError` for formats that this version does not plan.
    """
    weights, compute = precision.weights, precision.compute
    if compute == "fp8" or weights == "fp8":
        raise PlanError("precision", "fp8", "is not planned yet", "Use bf16 or bf16-mixed.")
    base = weights if weights in QUANTIZED else None
    low = "fp16" if compute == "fp16" else "bf16"
    stored = low if base else weights
    if base and compute in ("fp32", "tf32"):
        raise PlanError("precision.compute", compute, f"is not a compute type of a {weights} base", "Use bf16 or fp16.")
    autocast = compute if precision.autocast and compute in ("bf16", "fp16") else None
    graph = stored
    if stored == "fp32" and compute in ("bf16", "fp16") and (cast_on_gather or not precision.autocast):
        graph = compute  # weights are cast once (on gather, or as the working copy of fp32 masters), not by autocast at each use
    gradient = "fp32" if fp32_gradients or stored == "fp32" else stored
    return Formats(graph, stored, base, gradient, compute, autocast, precision.master_weights)
