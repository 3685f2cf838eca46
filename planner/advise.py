"""What would help: single changes of a run, each judged by estimating the changed run.

Nothing here knows a formula. A change is a mapping from dotted run-file path to value; the engine says what it brings. When the run does not fit, only
changes that make it fit are kept, the least damaging first; when it fits, those that save time or money.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

from planner import units
from planner.catalog import Accelerator, accelerators, find_accelerator, price_for
from planner.device.profile import DeviceProfile
from planner.errors import PlanError
from planner.estimate.result import Estimate
from planner.run import Run, parse_run
from planner.summary import gpu_name, precision_name

Change = dict[str, Any]
"""Dotted path of a run-file field to its new value; None resets the field to its default."""

MAX_ESTIMATES: Final = 40
"""Estimates that one round of advice may cost; at about 5 ms each it stays within a page's patience."""
FITS_WORDS: Final = {True: "fits", None: "may fit", False: "does not fit"}
"""What a changed run does, in words; "may fit" is within the error."""
LEAST_GAIN: Final = 0.01
_MOST_GPUS: Final = 1024
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
    """Suggestions, and how many changes were tried and how many of these are not possible for this run."""

    suggestions: tuple[Suggestion, ...]
    tried: int
    impossible: int


@dataclass(frozen=True, slots=True)
class _Idea:
    title: str
    topic: str
    change: Change


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
    settings, hardware = list(_settings(estimate.run)), list(_hardware(estimate))
    tried = trial.all(settings) + trial.all(hardware)
    if in_need(estimate):
        kept = [s for s in tried if _rescues(s, estimate)] + trial.until_it_fits(_more_gpus(estimate))
        if not kept:
            kept = trial.until_it_fits(_more_gpus(estimate, checkpointing=True))
        if not any(s.topic not in ("hardware", "gpus") for s in kept):
            kept += [s for s in trial.all(_pairs(estimate)) if _rescues(s, estimate)]
        kept.sort(key=_damage)
    else:
        kept = [s for s in tried + trial.all(list(_more_gpus(estimate))[:1]) if s.fits is estimate.fits and _gains(s, estimate)]
        kept.sort(key=lambda s: -_score(s, estimate))
    return Advice(tuple(_varied(kept, limit)), trial.tried, trial.impossible)


def in_need(estimate: Estimate) -> bool:
    """Whether changes must first of all make the run fit. Where the memory of the device is not known they cannot, and speed counts."""
    return estimate.fits is not True and estimate.usable_memory_bytes is not None


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

    def all(self, ideas: Iterable[_Idea]) -> list[Suggestion]:
        return [found for idea in ideas if (found := self._one(idea)) is not None]

    def until_it_fits(self, ideas: Iterable[_Idea]) -> list[Suggestion]:
        """The first idea that makes the run fit, else the first that may; the ideas are in order of size."""
        maybe: list[Suggestion] = []
        for idea in ideas:
            found = self._one(idea)
            if found is not None and found.fits:
                return [found]
            if found is not None and not maybe and _rescues(found, self.before):
                maybe.append(found)
        return maybe

    def _one(self, idea: _Idea) -> Suggestion | None:
        from planner import estimate

        if self.tried >= MAX_ESTIMATES:
            return None
        self.tried += 1
        try:
            after = estimate(apply(self.run, idea.change), None if "hardware.gpu" in idea.change else self.profile)
        except PlanError:
            self.impossible += 1
            return None
        return _compare(idea, self.before, after)


def _compare(idea: _Idea, before: Estimate, after: Estimate) -> Suggestion:
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
    return estimate.step_time_s * _samples(reference.run) / _samples(estimate.run)


def _samples(run: Run) -> int:
    return run.batch.micro * run.batch.accumulation * run.dp


def _work_cost(suggestion: Suggestion) -> float:
    """GPU-seconds of the same work, weighted by the price where it is known; for ordering only."""
    after = suggestion.estimate
    if after.cost_usd is not None:
        return after.cost_usd
    price = (after.details.get("price") or {}).get("usd_per_gpu_hour") or 1.0
    return float(price) * after.run.hardware.gpus * (after.step_time_s or math.inf) / _samples(after.run)


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


def _settings(run: Run) -> Iterator[_Idea]:
    """Changes that need no other hardware. `run` is resolved: its fields hold what the engine used."""
    for kind in ("none", "selective", "full"):
        if kind != run.activation_checkpointing:
            change = {"activation_checkpointing": kind}
            yield _Idea(
                f"{kind.capitalize()} activation checkpointing" if kind != "none" else "No activation checkpointing",
                "checkpointing",
                change,
            )
    yield from _micro_batches(run)
    if run.attention == "eager":
        for kernel, words in (("flash", "FlashAttention"), ("sdpa", "Fused attention (sdpa)")):
            yield _Idea(f"{words} instead of eager attention", "attention", {"attention": kernel})
    yield from _sharding(run)
    if run.optimizer.startswith("adamw"):
        for name, words in (
            ("adamw-fused", "Fused AdamW"),
            ("adamw8bit", "8-bit AdamW"),
            ("adafactor", "Adafactor instead of AdamW"),
        ):
            if name != run.optimizer:
                yield _Idea(words, "optimizer", {"optimizer": name})
    yield from _methods(run)
    yield from _precisions(run)


def _micro_batches(run: Run) -> Iterator[_Idea]:
    batch = run.batch
    samples = batch.micro * batch.accumulation
    sizes = {size for size in (batch.micro // 2, 2 * batch.micro, 1) if size >= 1 and samples % size == 0} - {
        batch.micro
    }
    for size in sorted(sizes, reverse=True):
        accumulation = samples // size
        title = f"Micro batch {batch.micro} → {size}, accumulation {batch.accumulation} → {accumulation}"
        yield _Idea(title, "batch", {"batch.micro": size, "batch.accumulation": accumulation})


def _sharding(run: Run) -> Iterator[_Idea]:
    if run.dp == 1:
        return
    names = {
        "zero3": "Fully sharded states (ZeRO-3, FSDP)",
        "zero2": "Sharded gradients and optimizer (ZeRO-2)",
        "ddp": "Unsharded copies (DDP)",
    }
    for kind, words in names.items():
        if kind != run.parallel.sharding:
            yield _Idea(words, "sharding", {"parallel.sharding": kind})


def _methods(run: Run) -> Iterator[_Idea]:
    if run.task != "sft":
        return
    name = run.method.name
    if name in ("full", "freeze"):
        before = "full fine-tuning" if name == "full" else "freezing layers"
        for low_rank, words in (("lora", "LoRA"), ("qlora", "QLoRA")):
            change: Change = {"method": {"name": low_rank, "rank": 16, "targets": "all-linear"}}
            if low_rank == "qlora" or (run.precision is not None and run.precision.weights == "fp32"):
                change["precision"] = None
            yield _Idea(f"{words} (rank 16) instead of {before}", "method", change)
    elif name in ("lora", "qlora"):
        other, words = ("qlora", "QLoRA instead of LoRA") if name == "lora" else ("lora", "LoRA instead of QLoRA")
        yield _Idea(words, "method", {"method.name": other, "precision": None})


def _precisions(run: Run) -> Iterator[_Idea]:
    precision, peaks = run.precision, _peaks(run)
    if precision is None or run.method.name == "qlora":
        return
    half = "bf16" if "bf16" in peaks else "fp16" if "fp16" in peaks else None
    names = []
    if precision.compute == "fp32" and "tf32" in peaks:
        names.append("tf32")
    if precision.compute in ("fp32", "tf32") and half:
        names.append(f"{half}-mixed")
    if precision.weights == "fp32" and half == "bf16":
        names.append("bf16")
    if precision.compute == "bf16" and half == "fp16":
        names.append("fp16-mixed")
    now = precision_name(run)
    for name in names:
        if name != now:
            yield _Idea(f"{name} instead of {now} precision", "precision", {"precision": name})


def _peaks(run: Run) -> Mapping[str, float]:
    part = _part(run)
    return part.peak_flops if part is not None else {}


def _part(run: Run) -> Accelerator | None:
    gpu = run.hardware.gpu
    name = gpu.get("base") if isinstance(gpu, dict) else gpu
    try:
        return find_accelerator(name) if isinstance(name, str) else None
    except PlanError:
        return None  # the device of a profile need not stand in the catalogue


def _more_gpus(estimate: Estimate, checkpointing: bool = False) -> Iterator[_Idea]:
    """The same accelerators, twice as many and on, with the global batch held where it divides.

    For a run that does not fit the states are sharded, because copies save no memory, and the micro batch shrinks before the accumulation does.
    """
    run, rescue = estimate.run, in_need(estimate)
    factor = 2
    while run.hardware.gpus * factor <= max(_MOST_GPUS, 2 * run.hardware.gpus):
        gpus = run.hardware.gpus * factor
        change: Change = {"hardware.gpus": gpus}
        title = f"{gpus} × {gpu_name(run)}"
        if rescue and run.parallel.sharding != "zero3":
            change["parallel.sharding"] = "zero3"
            title += ", fully sharded"
        if checkpointing:
            change["activation_checkpointing"] = "full"
            title += ", full activation checkpointing"
        samples = run.batch.micro * run.batch.accumulation
        if samples % factor == 0:
            most = max(1, run.batch.micro // factor) if rescue else run.batch.micro
            micro = max(size for size in range(1, most + 1) if (samples // factor) % size == 0)
            change |= {"batch.micro": micro, "batch.accumulation": samples // factor // micro}
        else:
            title += f" (global batch {_samples(run) * factor})"
        yield _Idea(title, "gpus", change)
        factor *= 2


def _hardware(estimate: Estimate, sharded: bool = False) -> Iterator[_Idea]:
    """The next accelerators of the catalogue: with more memory when the run does not fit, faster ones for the money when it does.

    Candidates are parts of the same vendor that somebody rents out, so that the suggestion can be followed. `sharded` says that the states will be
    divided over the ranks, so that less memory is enough.
    """
    now = _part(estimate.run)
    if now is None:
        return
    candidates = [
        (part, usd)
        for part, usd in _rented()
        if part.vendor == now.vendor and part.name != now.name and (part.year or 0) >= (now.year or 0)
    ]
    if in_need(estimate):
        need = 0.9 * estimate.peak_memory_interval_bytes[0] / (estimate.run.dp if sharded else 1)
        larger = [c for c in candidates if c[0].usable_memory_bytes > now.usable_memory_bytes]
        enough = [c for c in larger if c[0].usable_memory_bytes >= need]
        chosen = sorted(enough, key=lambda c: (c[0].usable_memory_bytes, c[1]))[:3]
    else:
        faster = [c for c in candidates if _rate(c[0]) > 1.2 * _rate(now)]
        roomy = [c for c in faster if c[0].usable_memory_bytes >= 0.9 * estimate.peak_reserved_bytes]
        chosen = sorted(roomy, key=lambda c: c[1] / _rate(c[0]))[:3]
    for part, _ in chosen:
        change: Change = {"hardware.gpu": part.name}
        if estimate.run.price.usd_per_gpu_hour is not None:
            change["price.usd_per_gpu_hour"] = None  # the user's price is that of the other accelerator
        yield _Idea(f"{part.name} instead of {now.name}", "hardware", change)


@cache
def _rented() -> tuple[tuple[Accelerator, float], ...]:
    """Accelerators that have a price, with it [USD per hour]."""
    return tuple(
        (part, price.usd_per_gpu_hour) for part in accelerators() if (price := price_for(part.name)) is not None
    )


def _rate(part: Accelerator) -> float:
    return max(part.peak_flops.get(key, 0.0) for key in ("bf16", "fp16", "fp32"))


def _pairs(estimate: Estimate) -> Iterator[_Idea]:
    """Two changes that people make together."""
    run = estimate.run
    samples = run.batch.micro * run.batch.accumulation
    firsts = [idea for idea in _sharding(run) if idea.change["parallel.sharding"] == "zero3"]
    hardware = list(_hardware(estimate, sharded=bool(firsts)))[:2]
    firsts += [replace(idea, title=idea.title.split(" instead")[0]) for idea in _methods(run) if idea.change.get("method.name") != "lora"]
    if run.activation_checkpointing != "full":
        firsts.append(_Idea("Full activation checkpointing", "checkpointing", {"activation_checkpointing": "full"}))
    if run.batch.micro > 1:
        firsts.append(_Idea("Micro batch 1", "batch", {"batch.micro": 1, "batch.accumulation": samples}))
    if run.optimizer.startswith("adamw") and run.optimizer != "adamw8bit":
        firsts.append(_Idea("8-bit AdamW", "optimizer", {"optimizer": "adamw8bit"}))
    for i, first in enumerate(firsts):
        for second in (*firsts[i + 1 :], *hardware):
            if first.topic != second.topic:
                words = second.title.split(" instead")[0]
                words = words if second.topic in ("method", "hardware") else words[:1].lower() + words[1:]
                yield _Idea(f"{first.title}, with {words}", f"{first.topic}+{second.topic}", first.change | second.change)
