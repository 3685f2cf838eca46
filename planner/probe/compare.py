"""Predicted beside measured: by how much they differ, whether that is within what both may be off, and where they part."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from planner.evidence.agreement import Verdict, agreement, unsteady
from planner.probe.measure import Measured
from planner.probe.predict import Predicted


class Comparison(BaseModel):
    """A verdict with its reasons. Errors are predicted over measured, less one."""

    model_config = ConfigDict(frozen=True)

    verdict: Verdict = Field(description="The measured step against the estimate's interval: faster means faster than planned.")
    why: str
    time_error: float | None = None
    phase_errors_s: dict[str, float] = Field(default_factory=dict, description="Predicted less measured [s].")
    memory_error: float | None = Field(None, description="Of the allocated (or tracked) peak.")
    reserved_error: float | None = None
    static_error: float | None = None
    fit_hit: bool | None = Field(None, description="Whether the plan said that it fits, or does not, as it turned out.")
    energy_error: float | None = None


def compare(predicted: Predicted | None, measured: Measured) -> Comparison:
    """The verdict on one probe, as `agreement` gives it."""
    if predicted is None:
        return Comparison(verdict="unknown", why="Nothing is known of this device: calibrate it and give its profile.")
    hit = None if predicted.fits is None else predicted.fits == (measured.outcome == "ok")
    if measured.outcome == "oom":
        said = {True: "The plan said that it fits", False: "As planned, it does not fit", None: "The plan did not say whether it fits"}
        return Comparison(verdict="unknown", why=f"Out of memory. {said[predicted.fits]}.", fit_hit=hit)
    memory = _error(predicted.allocated_bytes, measured.allocated_bytes)
    common = {
        "memory_error": memory,
        "reserved_error": _error(predicted.reserved_bytes, measured.reserved_bytes),
        "static_error": _error(predicted.static_bytes, measured.static_bytes),
        "energy_error": _error(predicted.energy_per_step_j, measured.energy_per_step_j),
        "fit_hit": hit,
    }
    times, interval = measured.step_time_s, predicted.step_time_interval_s
    if times is None or predicted.step_time_s is None:
        return Comparison(verdict="unknown", why="There is no step time to compare.", **common)
    parts = {name: predicted.phases[name] - spread.median for name, spread in measured.phases.items() if name in predicted.phases}
    error = predicted.step_time_s / times.median - 1
    vary = unsteady(times.low, times.median, times.high)
    verdict = agreement(times.low, times.median, times.high, interval or (predicted.step_time_s, predicted.step_time_s))
    return Comparison(
        verdict=verdict, why=_why(verdict, error, parts, memory, vary), time_error=error, phase_errors_s=parts, **common
    )


def _error(predicted: float | None, measured: float | None) -> float | None:
    return predicted / measured - 1 if predicted is not None and measured else None


def _why(verdict: Verdict, error: float, parts: dict[str, float], memory: float | None, vary: bool) -> str:
    """What explains the difference, in words."""
    words = {
        "agrees": "The measured step lies in the estimate's interval",
        "ambiguous": "The measured steps vary too much to tell" if vary else "The measured steps straddle the edge of the estimate's interval",
        "faster": "Every typical step was faster than the estimate's interval",
        "slower": "Every typical step was slower than the estimate's interval",
        "unknown": "",
    }
    sentence = f"{words[verdict]} (planned {error:+.0%})"
    if parts and abs(error) > 0.02:
        name = max(parts, key=lambda part: abs(parts[part]))
        share = abs(parts[name]) / (sum(abs(value) for value in parts.values()) or 1.0)
        sentence += f"; {share:.0%} of the difference is in the {name} phase, planned {'longer' if parts[name] > 0 else 'shorter'}"
    if memory is not None and abs(memory) > 0.03:
        sentence += f"; peak memory was planned {memory:+.0%}"
    return sentence + "."
