"""What the Explore page shows: sweeps of one input, a map of two, the price of one more of each, and which assumption moves the answer most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from planner import units
from planner.catalog import price_for, providers_of
from planner.device import DeviceProfile
from planner.errors import PlanError
from planner.estimate.result import Estimate
from planner.run import Run
from planner.search.figures import figures_of
from planner.ui import estimates

Outcome = Estimate | PlanError
MOST: Final = 9
"""Values of a sweep."""


@dataclass(frozen=True)
class Knob:
    """An input that can be swept. value: that of a resolved run, None where it has none · change: to another value · values: to try · unit: of it."""

    label: str
    value: Callable[[Run], int | None]
    change: Callable[[Run, int], dict[str, Any]]
    values: tuple[int, ...]
    unit: str


def _powers(low: int, high: int) -> tuple[int, ...]:
    return tuple(2**i for i in range(low, high + 1))


KNOBS: Final[dict[str, Knob]] = {
    "micro": Knob("Micro batch", lambda run: run.batch.micro, estimates.micro_batch, _powers(0, 9), "sequences"),
    "seq": Knob("Sequence length", lambda run: run.batch.seq_len, lambda _, n: {"batch.seq_len": n}, _powers(8, 20), "tokens"),
    "gpus": Knob("GPUs", lambda run: run.hardware.gpus, estimates.on_gpus, _powers(0, 13), "GPUs"),
    "rank": Knob("Rank", lambda run: run.method.rank, lambda _, n: {"method.rank": n}, _powers(0, 12), "of the update"),
    "accumulation": Knob("Accumulation", lambda run: run.batch.accumulation, lambda _, n: {"batch.accumulation": n}, _powers(0, 10), "micro steps"),
}


@dataclass(frozen=True)
class Point:
    """One value of a sweep and what comes of it."""

    value: int
    outcome: Outcome


def knobs(resolved: Run) -> list[str]:
    """Inputs that mean something for a run."""
    return [name for name, knob in KNOBS.items() if knob.value(resolved) is not None]


def values_of(name: str, resolved: Run, most: int = MOST) -> list[int]:
    """Powers of two around the plan's own value, which is one of them."""
    knob = KNOBS[name]
    own = knob.value(resolved) or 1
    ordered = sorted({*knob.values, own})
    at = ordered.index(own)
    low = max(0, min(at - most // 2, len(ordered) - most))
    return ordered[low : low + most]


def swept(name: str, run: Run, resolved: Run, profile: DeviceProfile | None) -> list[Point]:
    """The run with each value of one input."""
    return [Point(value, _with(name, value, run, resolved, profile)) for value in values_of(name, resolved)]


def _with(name: str, value: int, run: Run, resolved: Run, profile: DeviceProfile | None) -> Outcome:
    knob = KNOBS[name]
    if value == knob.value(resolved):
        return estimates.estimated(run, profile)
    try:
        return estimates.changed(run, knob.change(run, value), profile)
    except PlanError as error:
        return error


def figures(points: Sequence[Point], name: str) -> list[float | None]:
    """Time [s], cost [USD] or reserved memory [bytes] of each point, None where it cannot be planned or is not known."""
    whole = all(isinstance(p.outcome, PlanError) or p.outcome.total_time_s is not None for p in points)
    return [None if isinstance(p.outcome, PlanError) else figures_of(p.outcome, whole)[name] for p in points]


def fits(points: Sequence[Point]) -> list[bool | None]:
    """Whether each point fits; one that cannot be planned does not."""
    return [False if isinstance(p.outcome, PlanError) else p.outcome.fits for p in points]


def sentence(points: Sequence[Point], unit: str) -> str:
    """Where a sweep stops fitting, in words."""
    ok = [p.value for p in points if not isinstance(p.outcome, PlanError) and p.outcome.fits]
    if not ok:
        return "None of these values fits for certain."
    known = [(seconds, p.value) for p, seconds in zip(points, figures(points, "time"), strict=True) if p.value in ok and seconds is not None]
    quickest = f" The quickest is {units.format_integer(min(known)[1])} with {units.format_seconds(min(known)[0])}." if known else ""
    between = ", and not every value between them" if len(ok) < sum(ok[0] <= p.value <= ok[-1] for p in points) else ""
    return f"It fits from {units.format_integer(ok[0])} to {units.format_integer(ok[-1])} {unit}{between}.{quickest}"


def refused(points: Sequence[Point]) -> list[str]:
    """Why values cannot be planned, each reason once."""
    found: dict[str, list[str]] = {}
    for p in points:
        if isinstance(p.outcome, PlanError):
            found.setdefault(f"{p.outcome.field} {p.outcome.problem}", []).append(units.format_integer(p.value))
    return [f"{', '.join(values)} cannot be planned: {why}." for why, values in found.items()]


FAR: Final = PlanError("batch", "", "needs more than twice the memory that there is", "Choose a smaller micro batch or a shorter sequence.")
"""What lies beyond cells that need so much: memory grows with both inputs, so that half of the map need not be estimated."""


def _far(one: Outcome) -> bool:
    if isinstance(one, PlanError):
        return one is FAR
    return one.usable_memory_bytes is not None and one.peak_reserved_bytes > 2 * one.usable_memory_bytes


@dataclass(frozen=True)
class Map:
    """Micro batch by sequence length. cells: by sequence, then micro batch · here: of the plan."""

    micros: list[int]
    lengths: list[int]
    cells: list[list[Outcome]]
    seconds: list[list[float | None]]
    here: tuple[int, int]


def mapped(run: Run, resolved: Run, profile: DeviceProfile | None) -> Map | None:
    """The map around a plan; None where the model has no sequence length. The global batch is kept as nearly as it divides."""
    own = resolved.batch.seq_len
    if own is None:
        return None
    micros, lengths = values_of("micro", resolved, 7), values_of("seq", resolved, 7)
    cells: list[list[Outcome]] = []
    for y, length in enumerate(lengths):
        row: list[Outcome] = []
        for x, micro in enumerate(micros):
            if x and y and _far(row[x - 1]) and _far(cells[y - 1][x]):
                row.append(FAR)
                continue
            change = {} if micro == resolved.batch.micro else estimates.micro_batch(run, micro)
            change |= {} if length == own else {"batch.seq_len": length}
            row.append(estimates.changed(run, change, profile))
        cells.append(row)
    whole = all(isinstance(one, PlanError) or one.total_time_s is not None for row in cells for one in row)
    seconds = [[None if isinstance(one, PlanError) else figures_of(one, whole)["time"] for one in row] for row in cells]
    return Map(micros, lengths, cells, seconds, (micros.index(resolved.batch.micro), lengths.index(own)))


def may_fit(one: Outcome) -> bool:
    """Whether a run can be planned and is not known not to fit."""
    return not isinstance(one, PlanError) and one.fits is not False


def frontier(found: Map) -> str:
    """The out-of-memory frontier in words."""
    parts = []
    for length, row in zip(found.lengths, found.cells, strict=True):
        ok = [m for m, one in zip(found.micros, row, strict=True) if not isinstance(one, PlanError) and one.fits]
        if ok:
            parts.append(f"{units.format_integer(max(ok))} at {units.format_integer(length)} tokens")
    return f"Largest micro batch of the map that fits: {', '.join(parts)}." if parts else "Nothing on this map fits for certain."


@dataclass(frozen=True)
class Price:
    """What one step of an input does. deltas: of time [s], reserved memory [bytes], cost [USD], CO₂e [kg]; None where unknown."""

    label: str
    change: dict[str, Any]
    fits: bool | None
    time: float | None
    memory: float
    cost: float | None
    carbon: float | None


def marginal(run: Run, now: Estimate, profile: DeviceProfile | None) -> list[Price]:
    """One step up of every input that means something for the run."""
    resolved = now.run
    tries: list[tuple[str, dict[str, Any]]] = []
    for name in knobs(resolved):
        knob = KNOBS[name]
        value = knob.value(resolved) or 1
        try:
            tries.append((f"{knob.label} {units.format_integer(value)} → {units.format_integer(2 * value)}", knob.change(run, 2 * value)))
        except PlanError:
            continue
    for level in ("none", "selective", "full"):
        if level != resolved.activation_checkpointing:
            tries.append((f"Checkpointing {resolved.activation_checkpointing} → {level}", {"activation_checkpointing": level}))
    found = []
    for label, change in tries:
        one = estimates.changed(run, change, profile)
        if isinstance(one, PlanError):
            continue
        pairs = [(one.total_time_s, now.total_time_s), (one.cost_usd, now.cost_usd), (one.co2e_kg, now.co2e_kg)]
        if now.total_time_s is None:
            pairs[0] = (one.step_time_s, now.step_time_s)
        time, cost, carbon = (None if a is None or b is None else a - b for a, b in pairs)
        if time == 0 and one.peak_reserved_bytes == now.peak_reserved_bytes:
            continue  # this kind of checkpointing drops nothing here
        found.append(Price(label, change, one.fits, time, one.peak_reserved_bytes - now.peak_reserved_bytes, cost, carbon))
    return found


@dataclass(frozen=True)
class Swing:
    """How far one assumption moves a figure. low, high: the figure at its ends · words: which ends."""

    label: str
    low: float
    high: float
    words: str


def swings(run: Run, now: Estimate, profile: DeviceProfile | None, figure: str) -> list[Swing]:
    """The assumptions that move the time [s] or the cost [USD] of the whole run, the widest first.

    The speed is varied over its own 90 % interval, the price over the offers of the dated catalogue; the others by a stated share.
    """
    base = now.total_time_s if figure == "time" else now.cost_usd
    if base is None or now.step_time_s is None:
        return []
    found = []
    if now.step_time_interval_s is not None:
        low, high = (base * end / now.step_time_s for end in now.step_time_interval_s)
        found.append(Swing("Speed of a step", low, high, "90 % interval"))
    if figure == "cost":
        name, price = str(now.details["accelerator"]), now.details["price"]
        offers = sorted(offer.usd_per_gpu_hour for p in providers_of(name) if (offer := price_for(name, p)) is not None)
        rented = run.price.usd_per_gpu_hour is None and run.price.own.purchase_usd is None
        if len(offers) > 1 and price is not None and rented:
            scale = now.total("cost/compute") / price["usd_per_gpu_hour"]
            rest = base - now.total("cost/compute")
            words = f"{units.format_usd(offers[0])} to {units.format_usd(offers[-1])}, {len(offers)} providers"
            found.append(Swing("Price of a GPU-hour", rest + scale * offers[0], rest + scale * offers[-1], words))
    data = run.data
    if data is not None:
        path = "data.tokens" if data.tokens is not None else "data.samples"
        amount = data.tokens if data.tokens is not None else data.samples
        assert amount is not None
        found += _varied(run, profile, figure, "Amount of data", [{path: max(1, round(amount * f))} for f in (0.9, 1.1)], "± 10 %")
    network = now.run.hardware.network_gbps
    if network is not None and now.run.hardware.gpus > (now.run.hardware.gpus_per_node or 1):
        found += _varied(run, profile, figure, "Network", [{"hardware.network_gbps": network * f} for f in (2.0, 0.5)], "twice or half as fast")
    micro = now.run.batch.micro
    if micro > 1:
        steps = [estimates.micro_batch(run, size) for size in (2 * micro, micro // 2)]
        found += _varied(run, profile, figure, "Micro batch", steps, f"{2 * micro} or {micro // 2}")
    return sorted(found, key=lambda swing: -abs(swing.high - swing.low))


def _varied(run: Run, profile: DeviceProfile | None, figure: str, label: str, ends: Sequence[dict[str, Any]], words: str) -> list[Swing]:
    values = []
    for change in ends:
        one = estimates.changed(run, change, profile)
        value = None if isinstance(one, PlanError) else one.total_time_s if figure == "time" else one.cost_usd
        if value is None:
            return []
        values.append(value)
    low, high = values
    return [Swing(label, low, high, words)] if abs(high - low) > 1e-3 * max(values) else []



def figures_text(one: Estimate) -> str:
    """Time, memory and cost of an estimate in one line."""
    time = units.format_seconds(one.total_time_s) if one.total_time_s is not None else f"{units.format_seconds(one.step_time_s)} a step"
    cost = f" · {units.format_usd(one.cost_usd)}" if one.cost_usd is not None else ""
    return f"{time} · {units.format_bytes(one.peak_reserved_bytes)} per GPU{cost}"
