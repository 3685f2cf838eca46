"""What an estimate is: the ledger of terms, the figures, and the curves behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from planner.run import Run

Basis = Literal["measured", "calibrated", "fitted", "datasheet"]
Phase = Literal["forward", "backward", "optimizer"]
Unit = Literal["B", "FLOP", "s", "1", "USD", "kWh", "kg", "FLOP/s", "B/s", "token/s"]


class Term(BaseModel):
    """One figure of the ledger. Names are paths (`memory/optimizer/exp_avg`); a total is the sum of the terms below its prefix."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: float
    unit: Unit
    formula: str = Field(description="Formula in symbols.")
    inputs: dict[str, float | int | str] = Field(description="Symbol to value, SI.")
    source: str = Field(description="Paper and equation, datasheet, measurement, or named assumption.")


class MemoryPoint(BaseModel):
    """Live memory of one rank at a moment of the step [bytes], by component."""

    model_config = ConfigDict(frozen=True)

    moment: str
    phase: Phase
    progress: float = Field(description="Position in the step, 0 to 1, in computing time.")
    allocated: float
    parts: dict[str, float]


class Estimate(BaseModel):
    """Everything Plumbline says about one run. SI units. Fields marked `exclude` are for pages and reports and are not part of the JSON document."""

    model_config = ConfigDict(frozen=True)

    fits: bool | None
    fits_reason: str
    parameters: int
    trainable_parameters: int
    flops_per_step: float = Field(description="FLOP of one optimizer step over all ranks, recomputation included.")
    step_time_s: float | None
    step_time_interval_s: tuple[float, float] | None
    tokens_per_s: float | None
    tokens_per_s_per_gpu: float | None
    mfu: float | None = Field(description="Model FLOP (no recomputation) per second over the peak of the compute type.")
    peak_memory_bytes: float = Field(description="Peak allocated by tensors, worst rank.")
    peak_reserved_bytes: float = Field(
        description="Peak reserved by the allocator, worst rank, without the CUDA context."
    )
    peak_memory_interval_bytes: tuple[float, float] = Field(description="90 % interval of the reserved peak.")
    usable_memory_bytes: float | None = Field(
        description="What the device offers to the allocator: its total less the driver's context."
    )
    total_time_s: float | None
    cost_usd: float | None
    energy_kwh: float | None
    co2e_kg: float | None
    basis: Basis
    terms: tuple[Term, ...]
    warnings: tuple[str, ...]
    run: Run

    memory_curve: Sequence[MemoryPoint] = Field((), exclude=True)
    peak_moment: str = Field("", exclude=True, description="When in the step the peak occurs, in words.")
    limited_by: str = Field("", exclude=True, description="One line: what limits the step time.")
    assumptions: tuple[str, ...] = Field(
        (), exclude=True, description="Values taken by default, with source; what is not modelled."
    )
    interval_note: str = Field("", exclude=True, description="What the intervals were judged on.")
    details: dict[str, Any] = Field(
        default_factory=dict, exclude=True, description="Facts for display: model summary, price row, steps, GPU-hours."
    )

    def total(self, prefix: str) -> float:
        """Sum of the terms below a prefix, in their unit."""
        return sum(t.value for t in self.terms if t.name == prefix or t.name.startswith(prefix + "/"))
