"""What an estimate says in words: verdict, four figures, breakdowns. Page, command line and report share them, so they read the same everywhere.

Numbers are rounded to what is known: two significant digits, three where the interval is narrower than ± 5 %, or than ± 20 % on a
measured device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from planner import units
from planner.estimate.result import Estimate
from planner.run import PRECISIONS, Run

State = Literal["fits", "does-not-fit", "close", "unknown"]

BASES: Final = {
    "measured": "this run was measured",
    "calibrated": "calibrated on this device",
    "fitted": "fitted to published runs",
    "datasheet": "datasheet",
}
"""The evidence ladder in words, the strongest first."""

COMPONENTS: Final = {
    "weights": "Weights",
    "gradients": "Gradients",
    "optimizer": "Optimizer states",
    "activations": "Activations",
    "logits": "Logits and loss",
    "workspace": "Workspace",
    "communication": "Communication buffers",
    "reserved": "Allocator and driver",
}
"""Parts of the memory in the order in which they are shown; `reserved` is what the allocator holds beyond the live tensors."""

PHASES: Final = {
    "forward": "Forward",
    "backward": "Backward",
    "recompute": "Recomputation",
    "optimizer": "Optimizer step",
    "communication": "Exposed communication",
    "bubble": "Pipeline bubble",
    "overhead": "Overhead",
}
"""Parts of the step time in the order in which they are shown."""

COURSE: Final = {
    "steps": "Steps",
    "loading": "Waiting for data",
    "evaluation": "Evaluation",
    "checkpoints": "Checkpoints",
    "rework": "Lost work done again",
    "restarts": "Restarts",
    "startup": "Start-up and warm-up",
}
"""Parts of the whole run's time in the order in which they are shown."""

BILL: Final = {
    "compute": "GPU-hours",
    "ownership": "Own hardware",
    "electricity": "Electricity",
    "storage": "Storage",
    "egress": "Egress",
}
"""Lines of the bill in the order in which they are shown."""

MEMBERS: Final = {
    "exposed": "Data-parallel communication",
    "slowdown": "Compute slowed by communication",
    "tensor": "Tensor-parallel sums",
    "expert": "Tokens to their experts",
    "context": "Keys and values of other ranks",
    "host_link": "Transfers to the host",
    "host_update": "Update on the host",
    "vision": "Vision tower",
    "encoder": "Encoder",
    "of_this_step": "of this micro step",
}
"""What a part is made of, where its name in the ledger does not say it."""
EXCHANGES: Final = ("exposed", "slowdown", "tensor", "expert", "context", "host_link")
"""Kinds of communication that a view by kernel shows one by one."""

_SAY_NOTHING: Final = ("live", "allocator", "loop", "bubble")
NARROW: Final = 0.05
"""Relative half-width of an interval below which a third digit means something."""
FAIRLY_NARROW: Final = 0.20
"""The same where the device itself was measured, so that most of the interval is common to all its runs."""


class Verdict(NamedTuple):
    """Does it fit, as a state for colours and as the sentence that titles page and report."""

    state: State
    sentence: str


@dataclass(frozen=True, slots=True)
class Figure:
    """One of the four figures.

    Attributes
    ----------
    label: what it is.
    value_text: the figure with its unit, or "–" when it is not known.
    interval_text: its 90 % interval, empty when there is none.
    basis_text: what the figure stands on.
    chip: the short fact beside it; for an unknown figure, why.
    name: stable key: time, throughput, memory, cost.
    """

    label: str
    value_text: str
    interval_text: str
    basis_text: str
    chip: str
    name: str


class Part(NamedTuple):
    """A share of a total, in SI units, with a few words on what it is made of."""

    name: str
    label: str
    value: float
    share: float
    detail: str


def verdict(estimate: Estimate) -> Verdict:
    """Whether the run fits, in one sentence. Compares what the allocator reserves at the peak with what the device offers."""
    peak, usable = estimate.peak_reserved_bytes, estimate.usable_memory_bytes
    several = estimate.run.hardware.gpus > 1
    if usable is None:
        return Verdict("unknown", f"Not known whether it fits: {_clause(estimate.fits_reason)}")
    spare = usable - peak
    if estimate.fits is None:
        figures = f"{units.significant(peak / units.GIB, 3)} of {units.significant(usable / units.GIB, 3)} GiB"
        low, high = estimate.peak_memory_interval_bytes
        error = units.format_percent(((high - peak) if spare >= 0 else (peak - low)) / peak, 2)
        return Verdict("close", f"Too close to call: {figures}, within our {error} error")
    if estimate.fits:
        return Verdict(
            "fits", f"Fits, with {units.format_bytes(max(spare, 0.0), 2)} to spare" + (" per GPU" if several else "")
        )
    if spare >= 0:  # another limit than the peak, such as host memory
        return Verdict("does-not-fit", f"Does not fit: {_clause(estimate.fits_reason)}")
    return Verdict(
        "does-not-fit", f"Does not fit: {units.format_bytes(-spare, 2)} over" + (" on each GPU" if several else "")
    )


def reason(estimate: Estimate) -> str:
    """The engine's sentence on the fit where it says more than the verdict: an open question, or an interval that reaches to the other side."""
    usable, (low, high) = estimate.usable_memory_bytes, estimate.peak_memory_interval_bytes
    straddles = usable is not None and low <= usable <= high
    return estimate.fits_reason if estimate.fits is None or straddles else ""


def key_figures(estimate: Estimate) -> tuple[Figure, Figure, Figure, Figure]:
    """Time, throughput, memory and cost, in the order in which they are shown everywhere."""
    return _time(estimate), _throughput(estimate), _memory(estimate), _cost(estimate)


def headline(estimate: Estimate) -> tuple[str, ...]:
    """What was planned, in a few short phrases: model, method, hardware, sequence, precision, batch."""
    run = estimate.run
    model = (estimate.details.get("model") or {}).get("name") or (
        run.model if isinstance(run.model, str) else "custom model"
    )
    method = run.method.name if run.method.rank is None else f"{run.method.name}, rank {run.method.rank}"
    gpus = f"{run.hardware.gpus} × {gpu_name(run)}"
    batch = f"batch {units.format_integer(global_batch(run))}"
    return tuple(filter(None, (str(model), method, gpus, sample_text(run), batch, precision_name(run), run.stack)))


def sample_text(run: Run) -> str:
    """What one sample of the batch is: tokens, images, sound, as far as the model reads them."""
    b = run.batch
    image = f"image{'s' if b.images and b.images > 1 else ''} of {b.image_size} pixels" if b.image_size else ""
    parts = (
        f"sequence {units.format_integer(b.seq_len)}" if b.seq_len else "",
        f"target {units.format_integer(b.target_len)}" if b.target_len else "",
        "" if b.images == 0 else f"{b.images} {image}" if b.images and image else image,
        f"{b.audio_seconds:g} s of sound" if b.audio_seconds else "",
    )
    return ", ".join(filter(None, parts))


def gpu_name(run: Run) -> str:
    """The accelerator's name for display."""
    gpu = run.hardware.gpu
    if run.hardware.groups:
        names = (g.gpu if isinstance(g.gpu, str) else f"{g.gpu.get('base', 'accelerator')} (edited)" for g in run.hardware.groups)
        return " and ".join(dict.fromkeys(names))
    if isinstance(gpu, dict):
        return str(gpu.get("name") or f"{gpu.get('base', 'accelerator')} (edited)")
    return gpu or "accelerator of the profile"


def global_batch(run: Run) -> int:
    """Sequences of one optimizer step over all ranks."""
    return run.batch.micro * run.batch.accumulation * run.dp


def degrees(one: Estimate) -> str:
    """How a run is divided, in a few words."""
    run, p = one.run, one.run.parallel
    parts = [run.method.name] if run.method.name != "full" else []
    parts += [f"{name} {getattr(p, name)}" for name in ("tp", "pp", "cp", "ep") if getattr(p, name) > 1]
    parts += [f"virtual pp {p.virtual_pp}"] if p.virtual_pp > 1 else []
    parts += ["sequence parallel"] if p.sequence_parallel else []
    parts += [str(p.sharding)] if p.sharding != "none" else []
    parts.append(f"micro {run.batch.micro} × {run.batch.accumulation}")
    parts += [f"{run.activation_checkpointing} checkpointing"] if run.activation_checkpointing != "none" else []
    parts += [f"offload {run.offload}"] if run.offload != "none" else []
    return ", ".join(parts)


def precision_name(run: Run) -> str:
    """The name of a run's number formats, or the formats themselves where no name stands for them."""
    p = run.precision
    if p is None:
        return ""
    for name, fields in PRECISIONS.items():
        if (p.weights, p.compute, p.autocast) == (fields["weights"], fields["compute"], fields.get("autocast", False)):
            return name + (" with fp32 masters" if p.master_weights else "")
    return f"{p.weights} weights, {p.compute} compute" + (" (autocast)" if p.autocast else "")


def basis_text(estimate: Estimate) -> str:
    """What the estimate stands on, in words."""
    return BASES[estimate.basis]


def memory_parts(estimate: Estimate) -> tuple[Part, ...]:
    """What is live at the peak, by component, and what the allocator holds beyond; sums to the reserved peak."""
    found = _groups(estimate, "memory")
    reserved = {t.name.partition("/")[2]: t.value for t in estimate.terms if t.name.partition("/")[0] == "reserved"}
    if reserved:
        found["reserved"] = reserved
    return _parts(found, COMPONENTS)


def time_parts(estimate: Estimate) -> tuple[Part, ...]:
    """Where a step goes, by phase, with the kinds of kernel that dominate it; sums to the step time."""
    return _parts(_groups(estimate, "time"), PHASES)


def course_parts(estimate: Estimate) -> tuple[Part, ...]:
    """What the whole run takes, by what it does; sums to the total time."""
    return _parts(_groups(estimate, "run"), COURSE)


def bill_parts(estimate: Estimate) -> tuple[Part, ...]:
    """What the whole run costs, by line; sums to the cost [USD]."""
    return _parts(_groups(estimate, "cost"), BILL)


def course_facts(estimate: Estimate) -> tuple[tuple[str, str], ...]:
    """Figures of the whole run: goodput, failures, checkpoints, what data loading must deliver, the cost in another currency."""
    course, rate = estimate.details.get("course"), estimate.tokens_per_s
    if course is None or estimate.total_time_s is None or rate is None:
        return ()
    delayed = float(course.checkpoints + course.rework + course.restarts) > 0
    rows = [
        ("Data loading must deliver", units.format_rate(rate, digits=known_digits(estimate, _spread(estimate)))),
        ("A checkpoint", f"{units.format_bytes(course.checkpoint_bytes)}, {units.format_seconds(float(course.write), 2)} to write"),
        ("Checkpoints", f"{float(course.written):,.0f}, one every {units.format_seconds(float(course.interval), 2)}" if float(course.written) else ""),
        ("Failures expected", units.significant(float(course.failures), 2) if delayed else ""),
        ("Goodput", f"{units.format_percent(float(course.goodput), 3)} of the time in steps that count" if float(course.goodput) < 1 else ""),
        ("In your currency", currency_text(estimate)),
    ]
    return tuple((label, text) for label, text in rows if text)


def currency_text(estimate: Estimate) -> str:
    """The cost in the run's currency with the rate it stands on; empty in USD."""
    currency, usd = estimate.run.price.currency, estimate.cost_usd
    if currency.code == "USD" or currency.per_usd is None or usd is None:
        return ""
    amount = usd * currency.per_usd
    shown = float(f"{amount:.{known_digits(estimate, _spread(estimate)) - 1}e}")
    day = f" of {currency.date.isoformat()}" if currency.date is not None else ", undated"
    return f"{shown:,.{2 if shown < 100 else 0}f} {currency.code} (rate{day}: {currency.per_usd:g} for $1, {currency.source})"


def kind_parts(estimate: Estimate) -> tuple[Part, ...]:
    """Where a step goes, by kind of kernel over all phases of computing; communication, optimizer and overhead stand apart."""
    kinds: dict[str, dict[str, float]] = {}
    for phase, members in _groups(estimate, "time").items():
        for kind, value in members.items():
            head = kind.partition("/")[0]
            alone = phase in ("forward", "backward", "recompute") or head in EXCHANGES
            key = head if alone else phase
            group = kinds.setdefault(key or phase, {})
            group[phase] = group.get(phase, 0.0) + value
    return tuple(sorted(_parts(kinds, PHASES | {name: MEMBERS[name] for name in EXCHANGES}), key=lambda part: -part.value))


def known_digits(estimate: Estimate, spread: float | None) -> int:
    """Significant digits that mean something: three when the interval is narrow, or fairly narrow on a measured device; else two."""
    limit = FAIRLY_NARROW if estimate.basis in ("measured", "calibrated") else NARROW
    return 3 if spread is not None and spread < limit else 2


def spread_text(interval: tuple[float, float] | None, value: float | None) -> str:
    """An interval relative to its figure: "± 9 %", or "−8 % / +12 %" when it is lopsided. Empty when either is missing."""
    if interval is None or not value:
        return ""
    below, above = 1 - interval[0] / value, interval[1] / value - 1
    if round(100 * below) == round(100 * above):
        return f"± {units.format_percent((below + above) / 2, 1 if above < 0.1 else 2)}"
    return f"−{units.format_percent(below, 2)} / +{units.format_percent(above, 2)}"


def duration_text(seconds: float | None, digits: int) -> str:
    """A duration [s] rounded to what is known: with two digits "3 h 10 min" is a multiple of ten minutes."""
    if seconds is None or not math.isfinite(seconds):
        return units.UNKNOWN
    fine = digits > 2
    steps = (
        (10 * units.HOUR, 10 * units.MINUTE if fine else units.HOUR),
        (units.HOUR, units.MINUTE if fine else 10 * units.MINUTE),
        (10 * units.MINUTE, 10.0 if fine else units.MINUTE),
        (units.MINUTE, 1.0 if fine else 10.0),
    )
    for least, step in steps:
        if least <= seconds < 2 * units.DAY:
            seconds = round(seconds / step) * step
            break
    return units.format_seconds(seconds, digits)


def _time(estimate: Estimate) -> Figure:
    spread = _spread(estimate)
    digits, note = known_digits(estimate, spread), spread_text(estimate.step_time_interval_s, estimate.step_time_s)
    total = estimate.total_time_s
    label, value = ("Time to train", total) if total is not None else ("Time per step", estimate.step_time_s)
    if value is None:
        return Figure(label, "–", "", basis_text(estimate), "the step time is not known", "time")
    interval = _like_step(estimate, value)
    return Figure(
        label,
        duration_text(value, digits),
        _interval(interval, lambda v: duration_text(v, digits)),
        basis_text(estimate),
        note,
        "time",
    )


def _throughput(estimate: Estimate) -> Figure:
    rate, unit = estimate.tokens_per_s_per_gpu, "tokens/s per GPU" if estimate.run.hardware.gpus > 1 else "tokens/s"
    if rate is None:
        return Figure("Throughput", "–", "", basis_text(estimate), "the step time is not known", "throughput")
    digits = known_digits(estimate, _spread(estimate))
    step, bounds = estimate.step_time_s, estimate.step_time_interval_s
    interval = (rate * step / bounds[1], rate * step / bounds[0]) if step and bounds and min(bounds) > 0 else None
    chip = f"{units.format_percent(estimate.mfu, 2)} MFU" if estimate.mfu is not None else ""
    text = _interval(interval, lambda v: units.format_rate(v, "", digits).strip())
    return Figure("Throughput", units.format_rate(rate, unit, digits), text, basis_text(estimate), chip, "throughput")


def _memory(estimate: Estimate) -> Figure:
    peak, interval = estimate.peak_reserved_bytes, estimate.peak_memory_interval_bytes
    digits = known_digits(estimate, _half_width(interval, peak))
    label = "Peak memory per GPU" if estimate.run.hardware.gpus > 1 else "Peak memory"
    usable = estimate.usable_memory_bytes
    chip = f"of {units.format_bytes(usable)} usable" if usable is not None else "usable memory not known"
    return Figure(
        label, units.format_bytes(peak, digits), _interval(interval, lambda v: units.format_bytes(v, digits)), basis_text(estimate), chip, "memory"
    )  # fmt: skip


def _cost(estimate: Estimate) -> Figure:
    price: dict[str, Any] = estimate.details.get("price") or {}
    hours = estimate.details.get("gpu_hours")
    source = ", ".join(str(price[key]) for key in ("provider", "date") if price.get(key)) or str(
        price.get("source") or ""
    )
    if estimate.cost_usd is None:
        if estimate.total_time_s is None:
            reason = (
                "no data given: add tokens or samples" if estimate.run.data is None else "the total time is not known"
            )
        else:
            reason = "no price: set price.usd_per_gpu_hour"
        return Figure("Cost", "–", "", source, reason, "cost")
    digits = known_digits(estimate, _spread(estimate))
    interval = _like_step(estimate, estimate.cost_usd)
    parts = [f"{units.significant(hours, digits)} GPU-hours" if hours is not None else ""]
    if price.get("usd_per_gpu_hour") is not None:
        parts.append(f"at {units.format_usd(price['usd_per_gpu_hour'])}")
    text = _interval(interval, lambda v: _usd(v, digits))
    return Figure("Cost", _usd(estimate.cost_usd, digits), text, source, " ".join(filter(None, parts)), "cost")


def share_text(share: float) -> str:
    """A share of a total in percent; what is below 0.1 % says just that."""
    return units.format_percent(share, 2) if share >= 0.001 or share <= 0 else "< 0.1 %"


def _clause(sentence: str) -> str:
    """A sentence as the end of another one."""
    text = sentence.rstrip(". ")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _usd(value: float, digits: int) -> str:
    rounded = float(f"{value:.{digits - 1}e}")
    return units.format_usd(rounded).removesuffix(".00")


def _interval(interval: tuple[float, float] | None, formatter: Callable[[float], str]) -> str:
    return "" if interval is None else units.format_interval(interval, formatter)


def _like_step(estimate: Estimate, value: float) -> tuple[float, float] | None:
    """The step time's interval carried to a figure that is proportional to it."""
    step, bounds = estimate.step_time_s, estimate.step_time_interval_s
    return (value * bounds[0] / step, value * bounds[1] / step) if step and bounds else None


def _spread(estimate: Estimate) -> float | None:
    step, bounds = estimate.step_time_s, estimate.step_time_interval_s
    return _half_width(bounds, step) if step and bounds else None


def _half_width(interval: tuple[float, float], value: float) -> float:
    return max(abs(interval[1] - value), abs(value - interval[0])) / value if value else 0.0


def _groups(estimate: Estimate, head: str) -> dict[str, dict[str, float]]:
    """Values of the terms under `head`, by the next part of their names, then by the rest. The pipeline's bubble is a part of its own."""
    found: dict[str, dict[str, float]] = {}
    for term in estimate.terms:
        first, *rest = term.name.replace("time/overhead/bubble", "time/bubble").split("/")
        if first == head and rest:
            group = found.setdefault(rest[0], {})
            member = "/".join(rest[1:])
            group[member] = group.get(member, 0.0) + term.value
    return found


def _parts(groups: dict[str, dict[str, float]], labels: dict[str, str]) -> tuple[Part, ...]:
    order = {name: position for position, name in enumerate(labels)}
    total = math.fsum(value for members in groups.values() for value in members.values())
    parts = []
    for name in sorted(groups, key=lambda key: order.get(key, len(order))):
        value = math.fsum(groups[name].values())
        label = labels.get(name, name.replace("_", " ").capitalize())
        parts.append(Part(name, label, value, value / total if total else 0.0, _made_of(groups[name], value)))
    return tuple(part for part in parts if part.value)


def _made_of(members: dict[str, float], total: float) -> str:
    """The largest members with their shares, at most three of at least 5 %."""
    named: dict[str, float] = {}
    for name, value in members.items():
        if key := name.partition("/")[0]:
            named[key] = named.get(key, 0.0) + value
    large = sorted(((v / total, k) for k, v in named.items() if total and v / total >= 0.05), reverse=True)[:3]
    if len(named) == 1:
        name = _member(next(iter(named)))
        return "" if name in _SAY_NOTHING else name
    return ", ".join(f"{_member(name)} {units.format_percent(share, 2)}" for share, name in large)


def _member(name: str) -> str:
    """A member's name in the middle of a sentence."""
    said = MEMBERS.get(name, name.replace("_", " "))
    return said[:1].lower() + said[1:]


def stage_text(estimate: Estimate) -> str:
    """Which pipeline stage the memory is of; empty where there is one stage."""
    stages = estimate.details.get("memory_stages")
    if not stages:
        return ""
    first, last, of = stages[0] + 1, stages[-1] + 1, estimate.run.parallel.pp
    return f"pipeline stage {first} of {of}" if first == last else f"pipeline stages {first} to {last} of {of}"


def facts(estimate: Estimate) -> tuple[tuple[str, str], ...]:
    """Further figures, as (label, text): parameters, work, steps, energy. What is not known is left out."""
    digits = known_digits(estimate, _spread(estimate))
    share = estimate.trainable_parameters / estimate.parameters if estimate.parameters else 0.0
    trained = (
        "all"
        if share == 1
        else f"{units.format_count(estimate.trainable_parameters)}, {units.format_percent(share, 2)}"
    )
    rows: list[tuple[str, str | None]] = [
        ("Parameters", f"{units.format_count(estimate.parameters)} ({trained} trained)"),
        ("Work per step", units.format_flops(estimate.flops_per_step)),
        ("Step time", duration_text(estimate.step_time_s, digits) if estimate.step_time_s is not None else None),
        ("Steps", units.format_integer(steps) if (steps := estimate.details.get("steps")) is not None else None),
        (
            "Throughput of all GPUs",
            units.format_rate(estimate.tokens_per_s, digits=digits)
            if estimate.tokens_per_s is not None and estimate.run.hardware.gpus > 1
            else None,
        ),
        (
            "Allocated at the peak",
            units.format_bytes(estimate.peak_memory_bytes)
            + (f", {estimate.peak_moment}" if estimate.peak_moment else ""),
        ),
        ("Memory is that of", stage_text(estimate)),
        (
            "Host memory per machine",
            f"{units.format_bytes(host)} ({', '.join(part.label.lower() for part in _parts(_groups(estimate, 'host'), COMPONENTS))})"
            if (host := estimate.details.get("host_memory_bytes"))
            else None,
        ),
        ("Energy", units.format_energy(estimate.energy_kwh, digits) if estimate.energy_kwh is not None else None),
        ("Carbon", f"{units.format_mass(estimate.co2e_kg, 2)} CO2e" if estimate.co2e_kg is not None else None),
    ]
    return tuple((label, text) for label, text in rows if text)
