"""What has changed since a plan was locked: its grounds (catalogue, versions, calibration, defaults) and, with them, its figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from planner import units
from planner.advise import apply
from planner.device.profile import DeviceProfile
from planner.errors import PlanError, shorten
from planner.estimate.resolve import resolve
from planner.estimate.result import Estimate
from planner.estimate.verdict import FITS
from planner.lock.document import Figures, Lock
from planner.lock.pins import Pins, catalogue, leaves, pins_of, versions
from planner.run import Run
from planner.summary import BASES

Kind = Literal["default", "model", "accelerator", "price", "grid", "calibration", "catalogue", "version", "figure"]
SAME: Final = 0.005
"""Relative difference of a figure that is worth a word."""
_SHOWN: Final[tuple[tuple[str, str, Callable[[float | None], str]], ...]] = (
    ("step_time_s", "Step time", units.format_seconds),
    ("total_time_s", "Time to train", units.format_seconds),
    ("cost_usd", "Cost", units.format_usd),
    ("peak_reserved_bytes", "Peak memory", units.format_bytes),
    ("energy_kwh", "Energy", units.format_energy),
    ("co2e_kg", "Emissions", units.format_mass),
    ("parameters", "Parameters", units.format_count),
    ("trainable_parameters", "Trained parameters", units.format_count),
    ("flops_per_step", "FLOP of a step", units.format_flops),
)
_TABLES: Final = {"accelerators": "accelerators", "models": "models", "prices": "prices", "grid": "grid intensities"}


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs. kind: what it is · name: its path · then, now: values, None where there was or is none · text: a sentence."""

    kind: Kind
    name: str
    then: Any
    now: Any
    text: str

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {"kind": self.kind, "name": self.name, "then": self.then, "now": self.now, "text": self.text}


def pinned(lock: Lock, profile: DeviceProfile | None = None) -> tuple[Run, tuple[Change, ...]]:
    """The locked run with every value that it had, and a sentence on each default that would be another one today.

    What the author stated stays as stated; a default that has moved since is pinned to what it was. Raises `PlanError` for a run that cannot
    be planned any more.
    """
    run = lock.run
    today = dict(leaves(resolve(run, profile).run.model_dump(mode="json")))
    found, gone = [], []
    for path, then in leaves(lock.resolved):
        if path not in today:
            gone.append(path)
            continue
        now = today[path]
        if now == then or path == "model":
            continue
        text = f"{path}: the default was {_value(then)} and is {_value(now)} now; the plan keeps {_value(then)}."
        try:  # of number formats, one alone would have today's defaults beside it
            run = apply(run, {"precision": lock.resolved["precision"]} if path.startswith("precision.") else {path: then})
        except PlanError as problem:
            text = f"{path}: {_value(then)} of the plan is not possible any more, {_value(now)} is taken ({problem.problem})."
        found.append(Change("default", path, then, now, text))
    if gone:
        names = ", ".join(shorten(path, 40) for path in gone[:5]) + (f" and {len(gone) - 5} more" if len(gone) > 5 else "")
        found.append(Change("default", "run", None, None, f"Fields of the plan that a run does not have: {names}."))
    return run, tuple(found)


def changes(lock: Lock, now: Estimate, profile: DeviceProfile | None = None) -> tuple[Change, ...]:
    """What differs between a lock and today's estimate of its run, figures first.

    Arguments
    ---------
    lock: the plan as it was.
    now: the estimate of `pinned(lock)` today.
    profile: the measured device that `now` stands on.
    """
    return (*_figures(lock.figures, now), *_pins(lock.pins, pins_of(now, profile)), *_catalogue(lock.catalogue), *_versions(lock.versions))


def _figures(then: Figures, now: Estimate) -> Iterator[Change]:
    if then.fits != now.fits:
        yield Change("figure", "fits", then.fits, now.fits, f"Verdict: {FITS[then.fits]} then, {FITS[now.fits]} now.")
    for name, label, text in _SHOWN:
        before, after = getattr(then, name), getattr(now, name)
        if same(before, after):
            continue
        share = f" ({'+' if after > before else '−'}{units.format_percent(abs(after / before - 1), 2)})" if before and after is not None else ""
        yield Change("figure", name, before, after, f"{label}: {text(before)} then, {text(after)} now{share}.")
    if then.basis != now.basis:
        yield Change("figure", "basis", then.basis, now.basis, f"Basis: {BASES[then.basis]} then, {BASES[now.basis]} now.")


def same(then: float | None, now: float | None) -> bool:
    """Whether a figure is what it was, but for a difference that is worth no word."""
    return then == now or (then is not None and now is not None and abs(now - then) <= SAME * abs(then))


def _pins(then: Pins, now: Pins) -> Iterator[Change]:
    before, after = then.model.get("config_sha256"), now.model["config_sha256"]
    if before != after:
        yield Change("model", "model", before, after, f"The configuration of {now.model['name']} is another one.")
    for part in {**then.accelerators, **now.accelerators}:
        old, new = then.accelerators.get(part, {}), now.accelerators.get(part, {})
        for key in {**old, **new}:
            if old.get(key) != new.get(key):
                text = f"Accelerator {shorten(part, 60)}: {shorten(key, 60)} was {_value(old.get(key))}, is {_value(new.get(key))}."
                yield Change("accelerator", f"{part}.{key}", old.get(key), new.get(key), text)
    if then.price != now.price:
        yield Change("price", "price", then.price, now.price, f"Price of a GPU-hour: {_price(then.price)} then, {_price(now.price)} now.")
    if then.grid != now.grid:
        yield Change("grid", "grid", then.grid, now.grid, f"Electricity: {_grid(then.grid)} then, {_grid(now.grid)} now.")
    if (then.calibration or {}).get("sha256") != (now.calibration or {}).get("sha256"):
        yield Change("calibration", "calibration", then.calibration, now.calibration, _calibration(then.calibration, now.calibration))


def _calibration(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> str:
    if before is None:
        return f"The plan stood on no calibration; it is estimated on that of {_value((after or {}).get('name'))} now."
    what = f"{_value(before.get('name'))} ({str(before.get('sha256'))[:12]})"
    if after is None:
        return f"The plan stood on the calibration {what}, which is not given now: load its profile to have its figures."
    return f"The plan stood on the calibration {what}, now on {_value(after.get('name'))} ({str(after.get('sha256'))[:12]})."


def _catalogue(then: Mapping[str, str]) -> Iterator[Change]:
    now = catalogue()
    if then.get("date") != now["date"]:
        text = f"Prices are of {_value(now['date'])}; those of the plan were of {_value(then.get('date'))}."
        yield Change("catalogue", "date", then.get("date"), now["date"], text)
    for table, label in _TABLES.items():
        if then.get(table) != now[table]:
            yield Change("catalogue", table, then.get(table), now[table], f"The catalogue's table of {label} is another one.")


def _versions(then: Mapping[str, str]) -> Iterator[Change]:
    now = versions()
    for name in {**then, **now}:
        before, after = then.get(name), now.get(name)
        if before == after:
            continue
        text = f"{shorten(name, 60)} {shorten(before or 'not installed', 60)} then, {after or 'not installed'} now."
        if name == "engine":
            text = "The formulas or their constants have changed since."
        elif name == "planner":
            text = f"Locked by Plumbline {_value(before)}, read by {_value(after)}."
        yield Change("version", name, before, after, text)


def _price(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "not known"
    where = ", ".join(shorten(row[key], 60) for key in ("provider", "date") if row.get(key))
    return units.format_usd(_number(row.get("usd_per_gpu_hour"))) + (f" ({where})" if where else "")


def _grid(row: Mapping[str, Any]) -> str:
    return f"{_value(row.get('kg_co2e_per_kwh'))} kg CO2e/kWh ({shorten(row.get('country', 'of the run'), 40)}), PUE {_value(row.get('pue'))}"


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _value(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return units.format_integer(value)
    return f"{value:.6g}" if isinstance(value, float) else shorten(value, 80)
