"""Parts of a run beyond its steps, validated: what interrupts and delays it, hardware of one's own, currency. No formulas."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from planner.errors import PlanError
from planner.parts import NonNegative, Part, Positive
from planner.units import parse_count

Steps = Annotated[int, Field(ge=1, le=10**9, strict=True)]

FAILURES_PER_GPU_DAY = 419 / (54 * 16_384)
"""Unexpected interruptions per accelerator and day of the 405B run on 16,384 H100 in 54 days (Llama 3, arXiv:2407.21783, sec. 3.3.4)."""
RESTART_S = 600.0
"""From a failure to the next step [s]: assumed; with it that run's share of useful time is above the 90 % that it reports."""
STORAGE_GB_PER_S = 1.0
"""Bandwidth of checkpoint storage for eight accelerators [GB/s]: 2 TB/s sustained for 16,384 of them (Llama 3, arXiv:2407.21783, sec. 3.3.1)."""


class WholeRun(Part):
    """What a run takes beside its steps. Failures and their checkpoints are always expected; the rest counts once it is given."""

    startup_s: NonNegative | None = Field(
        None, description="Start of the job: containers, imports, weights, process groups [s]; not counted when left out."
    )
    warmup_s: NonNegative | None = Field(
        None,
        description="What the first steps after a start take beyond later ones: compilation, autotuning, caches [s]; after every restart too. "
        "Not counted when left out.",
    )
    loader_tokens_per_s: Positive | None = Field(
        None, description="Tokens that data loading delivers to the whole run [token/s]; steps wait for it where they need more."
    )
    eval_every: Steps | None = Field(None, description="Steps between evaluations; without it and eval_tokens none is counted.")
    eval_tokens: Annotated[int, Field(ge=1, le=10**15)] | None = Field(
        None, description="Tokens of one evaluation, forward only; once at the end when eval_every is left out."
    )
    checkpoint_every: Steps | None = Field(
        None, description="Steps between checkpoints; the optimum of Young and Daly for the expected failures when left out."
    )
    checkpoint_mode: Literal["sync", "async"] = Field(
        "sync", description="sync: training waits for the write. async: only for the copy to host memory; storage follows beside the steps."
    )
    storage_gb_per_s: Positive | None = Field(
        None, description="Bandwidth of the storage that takes checkpoints [GB/s]; 1 for every eight accelerators, and at least 1, when left out."
    )
    failures_per_gpu_day: NonNegative | None = Field(
        None, description="Unexpected interruptions per accelerator and day; 0.00047, as Llama 3 405B saw, when left out."
    )
    interruptions_per_machine_day: NonNegative | None = Field(
        None, description="Spot capacity: how often a day a machine is taken back; counts with price.spot. Not counted when left out."
    )
    restart_s: NonNegative | None = Field(
        None, description="From an interruption to the next step: detecting, replacing, loading [s]; 600 when left out."
    )

    @field_validator("eval_tokens", mode="before")
    @classmethod
    def _words(cls, value: Any, info: Any) -> Any:
        return parse_count(value, field=f"whole_run.{info.field_name}") if isinstance(value, str) else value

    @model_validator(mode="after")
    def _evaluation_is_whole(self) -> WholeRun:
        if self.eval_every is not None and self.eval_tokens is None:
            raise PlanError("whole_run.eval_every", self.eval_every, "does not say how much is evaluated", "Give eval_tokens beside it.")
        return self

    @property
    def failure_rate(self) -> float:
        """Unexpected interruptions per accelerator and day."""
        return FAILURES_PER_GPU_DAY if self.failures_per_gpu_day is None else self.failures_per_gpu_day

    @property
    def restart(self) -> float:
        """From an interruption to the next step at full speed [s]."""
        return (RESTART_S if self.restart_s is None else self.restart_s) + (self.warmup_s or 0.0)

    @property
    def expects(self) -> bool:
        """Whether the run says anything of failures or checkpoints itself."""
        said = (self.checkpoint_every, self.storage_gb_per_s, self.failures_per_gpu_day, self.interruptions_per_machine_day, self.restart_s)
        return any(value is not None for value in said) or self.checkpoint_mode != "sync"


class Owned(Part):
    """Hardware of one's own in place of rented GPU-hours."""

    purchase_usd: Positive | None = Field(
        None, description="Own hardware: what one accelerator costs with its share of machine and network [USD]; rented when left out."
    )
    lifetime_years: Annotated[float, Field(gt=0, le=50)] = Field(5.0, description="Years over which the purchase is written off.")
    utilization: Annotated[float, Field(gt=0, le=1)] = Field(
        0.8, description="Share of its lifetime in which own hardware works: idle hours are paid by busy ones."
    )
    usd_per_kwh: NonNegative = Field(
        0.12, description="Price of electricity for own hardware [USD/kWh]; energy.pue adds cooling to what the computers draw."
    )
    usd_per_gpu_year: NonNegative = Field(
        0.0, description="Space, network, maintenance and staff for one accelerator of one's own [USD/year]."
    )


class Currency(Part):
    """The money that is shown. The engine counts in USD."""

    code: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = Field("USD", description="ISO 4217 code, such as EUR.")
    per_usd: Positive | None = Field(None, description="Units of the currency for one USD.")
    date: dt.date | None = Field(None, description="Day of the rate.")
    source: str = Field("given in the run", max_length=120, description="Where the rate is from.")

    @model_validator(mode="after")
    def _has_a_rate(self) -> Currency:
        if self.code != "USD" and self.per_usd is None:
            raise PlanError(
                "price.currency.per_usd", "", f"is missing: no exchange rates come with the catalogue, and {self.code} is asked for",
                f"Give the {self.code} for one USD, with date and source if you like.",
            )  # fmt: skip
        return self
