"""A plan as it is saved, and what has changed since: a run with the figures that it had."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from planner import units
from planner.errors import PlanError
from planner.estimate.result import Estimate
from planner.estimate.verdict import FITS
from planner.lock.changes import same
from planner.lock.pins import standalone
from planner.run import Run, parse_run
from planner.store.store import Entry, Revision, Store

_SHOWN: Final = (
    ("step_time_s", "Step time", units.format_seconds),
    ("total_time_s", "Time to train", units.format_seconds),
    ("cost_usd", "Cost", units.format_usd),
    ("peak_reserved_bytes", "Peak memory", units.format_bytes),
)


def figures_of(one: Estimate) -> dict[str, Any]:
    """The values of an estimate that lists of saved plans show, in SI units."""
    run = one.run
    return {
        "model": one.details["model"]["name"],
        "method": run.method.name,
        "gpu": one.details["accelerator"],
        "gpus": run.hardware.gpus,
        "fits": one.fits,
        "basis": one.basis,
        **{name: getattr(one, name) for name, _, _ in _SHOWN},
    }


def save_plan(store: Store, name: str, run: Run, one: Estimate, *, tags: Iterable[str] = (), entry: str | None = None) -> Entry:
    """Save a run as it was stated, with the figures of its estimate."""
    figures = figures_of(one)
    words = " ".join(str(figures[key]) for key in ("model", "method", "gpu"))
    document = {"run": standalone(run)}
    return store.save("plan", name, document, figures=figures, tags=tags, words=f"{words} {run.task} {run.stack}", entry=entry)


def plan_of(saved: Revision) -> Run:
    """The run of a saved plan, validated as any run from outside. Raises `PlanError`."""
    run = saved.document.get("run")
    if not isinstance(run, dict):
        raise PlanError("plan", saved.number, "holds no run", "Open another revision.")
    return parse_run(run)


def changes(figures: Mapping[str, Any], now: Estimate) -> list[str]:
    """What the plan's figures were and are, where they differ: catalogues, prices and formulas move on."""
    found = []
    if figures.get("fits") != now.fits:
        found.append(f"Verdict: {FITS.get(figures.get('fits'), 'unknown')} when saved, {FITS[now.fits]} now.")
    for name, label, text in _SHOWN:
        kept, is_now = figures.get(name), getattr(now, name)
        then = kept if isinstance(kept, int | float) else None
        if not same(then, is_now):
            found.append(f"{label}: {text(then)} when saved, {text(is_now)} now.")
    return found
