"""How a run's number formats act inside one training step: types in the graph, types in storage, and bytes per element."""

from __future__ import annotations

from dataclasses import dataclass

from planner.errors import PlanError
from planner.run import Precision
from planner.workload.graph import BYTES
from planner.workload.quantized import QUANTIZED as QUANTIZED
from planner.workload.scaled import RECIPES, Scaled
from planner.workload.sparse24 import PACKED

STORED_BYTES: dict[str, float] = {
    "fp32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "int64": 8.0,
    "nf4": 0.5 + 4 / 64,
    "int4": 0.5 + 2.5 / 128,
    "awq": 0.5 + 2.5 / 128,
    "bf16-2:4": 2 * PACKED,
    "fp16-2:4": 2 * PACKED,
    "nf4-dq": 0.5 + 1 / 64 + 4 / (64 * 256),
}
"""Stored bytes of one weight. nf4 has an fp32 scale per 64 weights; double quantization stores that scale in 8 bits with an fp32 scale per 256 of them
(Dettmers et al. 2023, sec. 3). int4 (GPTQ, AWQ) has a 16-bit scale and a 4-bit zero per 128 weights (Frantar et al. 2022, arXiv:2210.17323)."""

_PACKED = {"int4": STORED_BYTES["int4"], "awq": STORED_BYTES["awq"], "nf4-dq": BYTES["nf4"]}


def wire_bytes(dtype: str, default: float) -> float:
    """Bytes of an element of a weight that ranks gather; of packed ones, which no operation computes in: GPTQ with its scales, NF4 without its constants.

    default: of types that are stored as the run's weights are [bytes].
    """
    return _PACKED.get(dtype) or BYTES.get(dtype, default)


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
    scaled: Scaled | None = None
    sparse: bool = False

    @property
    def product(self) -> str:
        """Type of the matrix products of the blocks, as the device profile names it."""
        return self.compute if self.scaled is None else self.scaled.recipe.product


SCALED = ("fp8", "mxfp8", "nvfp4")
"""Compute types that scale their operands."""


def scaled_products(precision: Precision, *, library: str, cached: bool, capability: float | None) -> Scaled | None:
    """How low-precision products run, None for plain ones. capability: NVIDIA compute capability, None elsewhere.

    Tensor cores before compute capability 10 take 8-bit operands in one layout only (cuBLAS: TN), AMD's in any.
    Raises `PlanError` for a recipe that contradicts the compute type.
    """
    compute, recipe = precision.compute, precision.recipe
    if compute not in SCALED:
        if recipe is not None:
            raise PlanError("precision.recipe", recipe, f"means nothing for {compute} products", "Use compute: fp8.")
        return None
    if compute != "fp8" and recipe is not None:
        raise PlanError("precision.recipe", recipe, f"contradicts compute: {compute}", "Leave it out.")
    if compute == "fp8" and recipe is None:
        recipe = "delayed" if library == "transformer-engine" else "current"
    if recipe == "delayed" and library == "torchao":
        raise PlanError(
            "precision.recipe", recipe, "is not offered by torchao", "Use current, or a stack with Transformer Engine."
        )
    chosen = RECIPES[recipe or compute]
    return Scaled(chosen, library, cached and library != "torchao", capability is not None and capability < 10.0)


def formats(
    precision: Precision, *, cast_on_gather: bool, fp32_gradients: bool, scaled: Scaled | None = None
) -> Formats:
    """Resolve a run's precision.

    cast_on_gather: fully sharded weights are stored in `weights` and gathered in `compute` (FSDP MixedPrecision), so that the graph sees `compute`.
    fp32_gradients: the stack accumulates gradients in fp32 beside lower-precision weights (Megatron's main_grad).
    scaled: how products of fp8 or fp4 run; everything else then computes in bf16.
    Raises `PlanError` for formats that this version does not plan.
    """
    weights, compute = precision.weights, precision.compute
    if weights == "fp8":
        raise PlanError(
            "precision.weights", "fp8", "is not planned: weights stay in bf16 or fp32 beside fp8 products", "Use bf16."
        )
    if scaled is not None:
        if weights in QUANTIZED:
            raise PlanError("precision.weights", weights, f"contradicts compute: {compute}", "Use bf16 weights.")
        compute = "bf16"
    base = weights if weights in QUANTIZED else None
    low = "fp16" if compute == "fp16" else "bf16"
    if precision.unquantized and not base:
        raise PlanError("precision.unquantized", precision.unquantized, f"says nothing for {weights} weights", "Leave it out.")
    stored = (precision.unquantized or low) if base else weights
    if base and compute in ("fp32", "tf32"):
        raise PlanError("precision.compute", compute, f"is not a compute type of a {weights} base", "Use bf16 or fp16.")
    autocast = compute if (precision.autocast or precision.unquantized) and compute in ("bf16", "fp16") else None
    graph = stored
    if stored == "fp32" and not base and compute in ("bf16", "fp16") and (cast_on_gather or not precision.autocast):
        graph = compute  # weights are cast once (on gather, or as the working copy of fp32 masters), not by autocast at each use
    gradient = "fp32" if fp32_gradients or stored == "fp32" else stored
    return Formats(graph, stored, base, gradient, compute, autocast, precision.master_weights, scaled)
