"""What the Calibrate page shows of measurements and profiles. Reads files only; torch stays in the worker's process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import streamlit as st

from planner import estimate, units
from planner.calibrate import jobs
from planner.calibrate.budget import BUDGETS
from planner.calibrate.jobs import Job, Request, Status
from planner.calibrate.telemetry import WARNINGS
from planner.device import DeviceProfile, default_profile, load_profile, part_of
from planner.device.rates import product_rate, product_rates
from planner.errors import PlanError
from planner.estimate.result import Estimate
from planner.files import data_folder
from planner.run import Run, parse_run

LABELS: Final = {name: f"{name.capitalize()}, {units.format_seconds(seconds)}" for name, seconds in BUDGETS.items()}
IN_USE: Final = "profile_in_use"
MAX_UPLOAD: Final = 4 * 2**20
SHOWN: Final = ("bf16", "fp16", "fp32")
"""Number formats of the table of rates."""


@dataclass(frozen=True)
class Saved:
    """A profile on disk: where, and what it says; or why it cannot be read."""

    path: Path
    profile: DeviceProfile | None
    problem: str = ""

    @property
    def label(self) -> str:
        return self.profile.name if self.profile is not None else self.path.stem


@st.cache_data(ttl=300, show_spinner="Looking for devices")
def devices() -> tuple[list[dict[str, str]], str]:
    """What can be measured here, and a plain sentence when nothing can."""
    try:
        return jobs.devices(), ""
    except PlanError as error:
        return [], f"{error.problem[:1].upper()}{error.problem[1:]}. {error.fix}"


def saved() -> list[Saved]:
    """Every profile that was measured or imported here, the newest first."""
    found = []
    imported = sorted((data_folder() / "profiles").glob("*.json"), reverse=True)
    for path in [*(job.profile for job in jobs.jobs() if job.profile.exists()), *imported]:
        if path.name.endswith(".samples.json"):
            continue
        found.append(_read(path, path.stat().st_mtime_ns))
    return found


@st.cache_resource(max_entries=100, show_spinner=False)
def _read(path: Path, changed: int) -> Saved:
    """A profile's file, read once until it changes."""
    try:
        return Saved(path, load_profile(path))
    except PlanError as error:
        return Saved(path, None, str(error))


def keep_upload(name: str, content: bytes) -> Saved:
    """Check an uploaded profile and keep it under a name of our own. Raises `PlanError`."""
    if len(content) > MAX_UPLOAD:
        raise PlanError("profile", name, "is larger than 4 MiB", "Upload a profile that `calibrate` wrote.")
    folder = data_folder() / "profiles"
    folder.mkdir(parents=True, exist_ok=True)
    stem = "".join(c if c.isalnum() or c in "-_." else "-" for c in Path(name).stem)[:60].strip(".-") or "profile"
    part = folder / f".{stem}.part"
    try:
        part.write_bytes(content)
        profile = load_profile(part)
        target = folder / f"{stem}.json"
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return Saved(target, profile)


def in_use() -> DeviceProfile | None:
    """The profile that plans of this session stand on."""
    found = st.session_state.get(IN_USE)
    return found if isinstance(found, DeviceProfile) else None


def on_device(run: Run, profile: DeviceProfile) -> Run:
    """The run on the profile's device: its own GPU is left out, and a device without a known network stands alone."""
    mapping = run.model_dump(mode="json", exclude_unset=True)
    hardware = {k: v for k, v in mapping.get("hardware", {}).items() if k != "gpu"}
    if part_of(profile) is None:
        hardware = {"gpus": 1}
        mapping.pop("parallel", None)
    return parse_run({**mapping, "hardware": hardware})


def change(run: Run, before: Estimate, profile: DeviceProfile) -> str:
    """The line that users came for: what the measurement does to this plan."""
    try:
        after = estimate(on_device(run, profile), profile)
    except PlanError as error:
        return f"Your plan cannot be made on this device: {error}"
    if after.total_time_s is None or after.step_time_s is None:
        return f"Your plan on this device: {after.fits_reason}"
    same = before.details["accelerator"] == profile.accelerator_name
    if same and before.total_time_s is not None:
        return (
            f"Your plan changes from {units.format_seconds(before.total_time_s)} to {units.format_seconds(after.total_time_s)} "
            f"(a step from {units.format_seconds(before.step_time_s)} to {units.format_seconds(after.step_time_s)})."
        )
    fits = "" if after.fits else " It does not fit there."
    return f"On this device your plan takes {units.format_seconds(after.total_time_s)}, a step {units.format_seconds(after.step_time_s)}.{fits}"


def rates(profile: DeviceProfile) -> list[dict[str, Any]]:
    """Measured rates beside those without a measurement, by product."""
    part = part_of(profile)
    before = None if part is None else default_profile(part)
    rows = []
    for dtype, sizes, now in product_rates(profile):
        if dtype not in SHOWN:
            continue
        then = product_rate(before, *sizes, dtype) if before is not None and before.supports(dtype) else None
        rows.append(
            {
                "operation": f"{dtype} product {' × '.join(map(str, sizes))}",
                "before": None if then is None else then / units.TERA,
                "measured": now / units.TERA,
                "ratio": None if then is None else now / then,
            }
        )
    return rows


def laws(profile: DeviceProfile) -> list[dict[str, Any]]:
    """Error of every law, each case predicted from the others."""
    names = {"attention": "Attention"} | {f"gemm/{d}": f"{d} products" for d in profile.gemm}
    return [
        {"law": names.get(name, name), "median": e["median"], "p90": e["p90"], "cases": int(e["cases"])}
        for name, e in profile.fit_errors.items()
        if "median" in e and "cases" in e
    ]


def conditions(profile: DeviceProfile) -> str:
    """Where and when, in one line."""
    c = profile.conditions
    if c is None:
        return profile.source
    parts = [c.device, f"torch {c.torch}", f"driver {c.driver}" if c.driver else "", f"CUDA {c.cuda}" if c.cuda else ""]
    parts += [f"power limit {c.power_limit_w:.0f} W" if c.power_limit_w else "", f"measured {c.date[:16].replace('T', ' ')} UTC in {c.seconds:.0f} s"]
    return " · ".join(part for part in parts if part)


def remedies(names: tuple[str, ...]) -> list[str]:
    """The sentences of the warnings of a measurement."""
    return [WARNINGS[name] for name in names if name in WARNINGS]


@dataclass(frozen=True)
class Figure:
    """One live figure of the device: its name, its value to read, and its last minutes in the same unit."""

    label: str
    value: str
    history: tuple[float, ...] = ()


def readings(status: Status) -> list[Figure]:
    """Clock, power, temperature and memory now and lately, where the driver (or the system) says them."""
    told = (("Clock", "sm_clock_mhz", "MHz"), ("Power", "power_w", "W"), ("Temperature", "temperature_c", "°C"))
    found = [
        Figure(label, f"{value:.0f} {unit}", tuple(round(v) for v in status.history.get(key, ())))
        for label, key, unit in told
        if (value := status.reading.get(key)) is not None
    ]
    used = status.reading.get("memory_bytes")
    if used is not None:
        lately = tuple(round(v / units.GIB, 3) for v in status.history.get("memory_bytes", ()))
        found.append(Figure("Memory in use", units.format_bytes(used), lately))
    return found


def per_benchmark(status: Status) -> list[dict[str, Any]]:
    """How far each benchmark is."""
    return [
        {"benchmark": label, "cases": f"{done} of {planned}", "share": 100.0 * done / planned if planned else 100.0}
        for label, done, planned in status.benchmarks
    ]


def result_of(job: Job) -> DeviceProfile | None:
    """The profile that a job left, None where it left none that can be read."""
    return _read(job.profile, job.profile.stat().st_mtime_ns).profile if job.profile.exists() else None


def begin(device: str, budget: float, run: Run, resume: Job | None) -> Job:
    """Start, or join, the measurement of a device; the plan's own operations come first. Raises `PlanError`."""
    mapping = json.loads(run.model_dump_json(exclude_unset=True))
    mapping["hardware"] = {"gpus": 1}
    mapping.pop("parallel", None)
    return jobs.start(Request(device=device, budget=budget, run=mapping), resume=resume)
