"""What would help: single changes of a run, each judged by estimating the changed run.

Nothing here knows a formula. A change is a mapping from dotted run-file path to value; the engine says what it brings. When the run does not fit, only
changes that make it fit are kept, the least damaging first; when it fits, those that save time or money.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from planner import units
from planner.advise import division, ideas
from planner.advise.idea import Change, Idea
from planner.advise.ideas import in_need
from planner.device.profile import DeviceProfile
from planner.errors import PlanError
from planner.estimate.result import Estimate
from planner.run import Run, parse_run
from planner.summary import global_batch

__all__ = ["FITS_WORDS", "Advice", "Change", "Suggestion", "advise", "apply", "delta_texts", "in_need", "suggest", "why_not"]

MAX_ESTIMATES: Final = 40
"""Estimates that one round of advice may cost; at about 5 ms each it stays within a page's patience."""
FITS_WORDS: Final = {True: "fits", None: "may fit", False: "does not fit"}
"""What a changed run does, in words; "may fit" is within the error."""
LEAST_GAIN: Final = 0.01
_PER_TOPIC: Final = 2
_NEARER: Final = 0.05


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One change and what it does.

    Attributes
    ----------
    title: the change in words.
    change: what to write in the run file.
    estimate: the estimate of the changed run.
    delta_time_s: change of the total time [s], or of the time for one of the original's steps where no data is given; None when unknown.
    delta_memory_bytes: change of the reserved peak of one device [bytes].
    delta_cost_usd: change of the cost [USD]; None where either cost is unknown.
    fits: whether the changed run fits.
    time_ratio: time after over time before [-].
    topic: what kind of change it is, for instance hardware.
    """

    title: str
    change: Change
    estimate: Estimate
    delta_time_s: float | None
    delta_memory_bytes: float
    delta_cost_usd: float | None
    fits: bool | None
    time_ratio: float | None
    topic: str


@dataclass(frozen=True, slots=True)
class Advice:
    """Suggestions, and how many changes were tried and how many of these are not possible for this run.

    others: what was tried and is not suggested · refused: the changes that are not possible, in words, each with the reason.
    """

    suggestions: tuple[Suggestion, ...]
    tried: int
    impossible: int
    others: tuple[Suggestion, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()


def apply(run: Run, change: Mapping[str, Any]) -> Run:
    """`run` with a change written into it; fields that the user left out stay left out.

    Errors
    ------
    PlanError: the changed run is not valid.
    """
    mapping = run.model_dump(exclude_unset=True)
    for path, value in change.items():
        *parents, last = path.split(".")
        here = mapping
        for name in parents:
            inner = here.get(name)
            here[name] = inner = dict(inner) if isinstance(inner, dict) else {}
            here = inner
        here[last] = value
    return parse_run(mapping)


def suggest(
    run: Run, estimate: Estimate, profile: DeviceProfile | None = None, limit: int = 6
) -> tuple[Suggestion, ...]:
    """The best changes for a run; see `advise`."""
    return advise(run, estimate, profile, limit).suggestions


def advise(run: Run, estimate: Estimate, profile: DeviceProfile | None = None, limit: int = 6) -> Advice:
    """Try single changes of a run, and pairs where nothing single makes it fit.

    Arguments
    ---------
    run: the run as the user wrote it.
    estimate: its estimate.
    profile: the profile that the estimate was made with; a change of the accelerator is estimated without it.
    limit: most suggestions to return.
    """
    trial = _Trial(run, estimate, profile)
    settings, hardware = list(ideas.settings(estimate.run)), list(ideas.hardware(estimate))
    tried = trial.all(settings) + trial.all(hardware)
    if in_need(estimate):
        kept = [s for s in tried if _rescues(s, estimate)] + trial.until_it_fits(ideas.more_gpus(estimate))
        if estimate.run.hardware.gpus > 1 and not any(s.fits and s.topic not in ("hardware", "gpus") for s in kept):
            kept += trial.until_it_fits(division.smaller_parts(estimate.run))
            if not any(s.fits and s.topic == "division" for s in kept):
                kept += trial.until_it_fits(division.smaller_parts(estimate.run, checkpointing=True))
        if not kept:
            kept = trial.until_it_fits(ideas.more_gpus(estimate, checkpointing=True))
        if not any(s.topic not in ("hardware", "gpus") for s in kept):
            kept += [s for s in trial.all(ideas.pairs(estimate)) if _rescues(s, estimate)]
        kept.sort(key=_damage)
    else:
        kept = [s for s in tried + trial.all(list(ideas.more_gpus(estimate))[:1]) if s.fits is estimate.fits and _gains(s, estimate)]
        kept.sort(key=lambda s: -_score(s, estimate))
    chosen = tuple(_varied(kept, limit))
    titles = {one.title for one in chosen}
    others = {one.title: one for one in trial.found if one.title not in titles}
    return Advice(chosen, trial.tried, trial.impossible, tuple(others.values()), tuple(trial.refused.items()))


def delta_texts(suggestion: Suggestion) -> tuple[str, str, str]:
    """Change of time, memory and cost for display: ("−12 %", "+3.1 GiB", "−$7"); "–" where unknown, "same" below 1 %."""
    ratio, memory, cost = suggestion.time_ratio, suggestion.delta_memory_bytes, suggestion.delta_cost_usd
    before = suggestion.estimate.peak_reserved_bytes - memory
    time = "–" if ratio is None else _ratio_text(ratio)
    size = "same" if abs(memory) < LEAST_GAIN * before else _signed(memory, units.format_bytes(abs(memory), 2))
    if cost is None:
        return time, size, "–"
    old = (suggestion.estimate.cost_usd or 0.0) - cost
    rounded = float(f"{abs(cost):.1e}")
    return (
        time,
        size,
        "same" if abs(cost) < LEAST_GAIN * old else _signed(cost, units.format_usd(rounded).removesuffix(".00")),
    )


def _ratio_text(ratio: float) -> str:
    if abs(ratio - 1) < LEAST_GAIN:
        return "same"
    if ratio >= 3:
        return f"× {units.significant(ratio, 2)}"
    return _signed(ratio - 1, units.format_percent(abs(ratio - 1), 2))


def _signed(value: float, text: str) -> str:
    return ("+" if value > 0 else "−") + text


class _Trial:
    """Estimates ideas within a budget and counts those that are not possible."""

    def __init__(self, run: Run, estimate: Estimate, profile: DeviceProfile | None) -> None:
        self.run, self.before, self.profile = run, estimate, profile
        self.tried = self.impossible = 0
        self.found: list[Suggestion] = []
        self.refused: dict[str, str] = {}

    def all(self, ideas: Iterable[Idea]) -> list[Suggestion]:
        return [found for idea in ideas if (found := self._one(idea)) is not None]

    def until_it_fits(self, ideas: Iterable[Idea]) -> list[Suggestion]:
        """The first idea that makes the run fit, else the first that may; the ideas are in order of size."""
        maybe: list[Suggestion] = []
        for idea in ideas:
            found = self._one(idea)
            if found is not None and found.fits:
                return [found]
            if found is not None and not maybe and _rescues(found, self.before):
                maybe.append(found)
        return maybe

    def _one(self, idea: Idea) -> Suggestion | None:
        from planner import estimate

        if self.tried >= MAX_ESTIMATES:
            return None
        self.tried += 1
        try:
            after = estimate(apply(self.run, idea.change), None if "hardware.gpu" in idea.change else self.profile)
        except PlanError as error:
            self.impossible += 1
            self.refused[idea.title] = f"{error.field} {error.problem}"
            return None
        self.found.append(_compare(idea, self.before, after))
        return self.found[-1]


def _compare(idea: Idea, before: Estimate, after: Estimate) -> Suggestion:
    old, new = _work_time(before, before), _work_time(after, before)
    costs = before.cost_usd, after.cost_usd
    return Suggestion(
        title=idea.title,
        change=idea.change,
        estimate=after,
        delta_time_s=new - old if old and new else None,
        delta_memory_bytes=after.peak_reserved_bytes - before.peak_reserved_bytes,
        delta_cost_usd=costs[1] - costs[0] if costs[0] is not None and costs[1] is not None else None,
        fits=after.fits,
        time_ratio=new / old if old and new else None,
        topic=idea.topic,
    )


def _work_time(estimate: Estimate, reference: Estimate) -> float | None:
    """Time of the same work [s]: the whole run, or as many samples as one step of the reference has."""
    if estimate.total_time_s is not None and reference.total_time_s is not None:
        return estimate.total_time_s
    if estimate.step_time_s is None:
        return None
    return estimate.step_time_s * global_batch(reference.run) / global_batch(estimate.run)


def _work_cost(suggestion: Suggestion) -> float:
    """GPU-seconds of the same work, weighted by the price where it is known; for ordering only."""
    after = suggestion.estimate
    if after.cost_usd is not None:
        return after.cost_usd
    price = (after.details.get("price") or {}).get("usd_per_gpu_hour") or 1.0
    return float(price) * after.run.hardware.gpus * (after.step_time_s or math.inf) / global_batch(after.run)


def why_not(s: Suggestion, before: Estimate) -> str:
    """Why a change that was tried is not suggested, in a sentence."""
    usable, peak = s.estimate.usable_memory_bytes, s.estimate.peak_reserved_bytes
    if s.fits is False:
        return f"Does not fit: {units.format_bytes(peak - usable, 2)} over." if usable is not None and peak > usable else "Does not fit."
    if in_need(before):
        return "It fits, and others fit at less loss." if s.fits else "Too close to call."
    if s.fits is not before.fits:
        return "Too close to call."
    if _gains(s, before):
        return "Gains less than the others of its kind."
    if all(text in ("same", "–") for text in delta_texts(s)):
        return "Changes nothing here."
    if s.delta_memory_bytes <= -LEAST_GAIN * before.peak_reserved_bytes:
        return "Saves memory, which is not needed, and neither time nor money."
    return "Saves neither time nor money."


def _rescues(s: Suggestion, before: Estimate) -> bool:
    """Whether a change makes a run fit, or brings it within the error of fitting (for a run that already is there: clearly nearer)."""
    if s.fits is None and s.estimate.usable_memory_bytes is not None:
        return before.fits is False or s.delta_memory_bytes < -_NEARER * before.peak_reserved_bytes
    return s.fits is True


def _damage(s: Suggestion) -> tuple[bool, float, float]:
    lost = math.inf if s.time_ratio is None else max(0.0, round(s.time_ratio - 1, 2))
    return not s.fits, lost, _work_cost(s)


def _gains(s: Suggestion, before: Estimate) -> bool:
    cheaper = (
        s.delta_cost_usd is not None
        and bool(before.cost_usd)
        and s.delta_cost_usd <= -LEAST_GAIN * (before.cost_usd or 0.0)
    )
    return cheaper or (s.time_ratio is not None and s.time_ratio <= 1 - LEAST_GAIN)


def _score(s: Suggestion, before: Estimate) -> float:
    """Logarithm of (time saved × cost saved): twice the GPUs for the same money gains a factor of two."""
    time = -math.log(s.time_ratio) if s.time_ratio else 0.0
    if s.delta_cost_usd is None or not before.cost_usd or not s.estimate.cost_usd:
        gpus = s.estimate.run.hardware.gpus / before.run.hardware.gpus
        return 2 * time - math.log(gpus)
    return time - math.log(s.estimate.cost_usd / before.cost_usd)


def _varied(ranked: list[Suggestion], limit: int) -> Iterator[Suggestion]:
    """The first `limit`, at most two of one topic, each change once."""
    seen: dict[str, int] = {}
    for s in ranked:
        if seen.get(s.topic, 0) < _PER_TOPIC and sum(seen.values()) < limit:
            seen[s.topic] = seen.get(s.topic, 0) + 1
            yield s


