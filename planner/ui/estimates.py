"""Estimates of many runs for pages that draw sweeps and comparisons: each worked out once, shared by all sessions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import streamlit as st

from planner import estimate
from planner.advise import apply
from planner.device import DeviceProfile
from planner.errors import PlanError
from planner.estimate.result import Estimate
from planner.evidence.kin import stands_on
from planner.run import Run

Change = Mapping[str, Any]
T = TypeVar("T")
KEPT: Final = 4000
"""Estimates that are remembered, without ledger and curve: a few kilobytes each."""


def planned(run: Run, profile: DeviceProfile | None = None) -> Estimate:
    """The estimate that the pages show of a run: it stands on what was measured of this run, or of its kin, on this device. Raises `PlanError`."""
    return estimate(run, profile, stands_on(run, profile))


def profile_key(profile: DeviceProfile | None) -> str:
    """What tells one profile from another."""
    return "" if profile is None else hashlib.sha256(profile.model_dump_json().encode()).hexdigest()


def run_key(run: Run) -> str:
    """What tells one run from another: what was said of it."""
    return run.model_dump_json(exclude_unset=True)


@st.cache_resource(max_entries=KEPT, show_spinner=False)
def _estimated(key: str, device: str, _run: Run, _profile: DeviceProfile | None) -> Estimate | PlanError:
    try:
        whole = estimate(_run, _profile)
    except PlanError as error:
        return error
    return whole.model_copy(update={"terms": (), "memory_curve": ()})


def estimated(run: Run, profile: DeviceProfile | None = None) -> Estimate | PlanError:
    """The estimate of a run without its ledger and memory curve, or why there is none."""
    return _estimated(run_key(run), profile_key(profile), run, profile)


def changed(run: Run, change: Change, profile: DeviceProfile | None = None) -> Estimate | PlanError:
    """The same of a run with a change; a change of the accelerator is estimated without the profile of the old one."""
    try:
        return estimated(apply(run, change), None if "hardware.gpu" in change else profile)
    except PlanError as error:
        return error


def on_gpus(run: Run, count: int) -> dict[str, Any]:
    """The change that puts a run on so many accelerators: its global batch is kept where it divides, and sharding is not asked of one alone.

    Errors: `PlanError` where the degrees of the run do not divide the number.
    """
    p, batch = run.parallel, run.batch
    dp, rest = divmod(count, p.tp * p.pp * p.cp)
    if rest or not dp:
        raise PlanError("hardware.gpus", count, f"cannot be divided by tp × pp × cp = {p.tp * p.pp * p.cp}", "Choose a multiple.")
    change: dict[str, Any] = {"hardware.gpus": count}
    if dp != run.dp:
        change["batch.accumulation"] = max(1, round(batch.accumulation * run.dp / dp))
    if p.sharding not in (None, "none") and dp * p.cp == 1:
        change["parallel.sharding"] = "none"
    elif p.sharding == "none" and dp > 1:
        change["parallel.sharding"] = None
    return change


def micro_batch(run: Run, size: int) -> dict[str, Any]:
    """The change to another micro batch, the global batch kept as nearly as it divides."""
    batch = run.batch
    return {"batch.micro": size, "batch.accumulation": max(1, round(batch.micro * batch.accumulation / size))}


@st.cache_resource(max_entries=400, show_spinner=False)
def _remembered(what: str, key: str, device: str, _work: Callable[[], Any]) -> Any:
    return _work()


def remembered(what: str, run: Run, profile: DeviceProfile | None, work: Callable[[], T]) -> T:
    """What follows from a run and a profile alone, worked out once. what: its name, with everything else that it depends on."""
    found: T = _remembered(what, run_key(run), profile_key(profile), work)
    return found
