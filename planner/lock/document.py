"""`plan.lock`: a plan as one JSON document. The same plan on the same catalogue gives the same bytes, so it can be committed and compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from planner.device.profile import DeviceProfile
from planner.errors import PlanError, shorten
from planner.estimate.result import Basis, Estimate
from planner.lock.pins import Pins, catalogue, digest, pins_of, standalone, versions
from planner.run import Run, parse_run

LOCK_VERSION: Final = 1
MAX_LOCK_BYTES: Final = 4 * 2**20
_FIX: Final = "Write it anew with `planner lock RUN -o plan.lock`."


class Figures(BaseModel):
    """The figures of an estimate, without its ledger. SI units."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    fits: bool | None
    parameters: int
    trainable_parameters: int
    flops_per_step: float
    step_time_s: float | None
    step_time_interval_s: tuple[float, float] | None
    tokens_per_s: float | None
    peak_memory_bytes: float
    peak_reserved_bytes: float
    peak_memory_interval_bytes: tuple[float, float]
    usable_memory_bytes: float | None
    total_time_s: float | None
    cost_usd: float | None
    energy_kwh: float | None
    co2e_kg: float | None
    basis: Basis


class Lock(BaseModel):
    """A locked plan.

    inputs: the run as it was stated · resolved: the run with every default filled in · pins: model, accelerators, price, grid and calibration
    that it stands on · catalogue: date of the prices and hashes of the tables · versions: of what computed it · figures: what came out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    lock_version: Literal[1] = 1
    inputs: dict[str, Any]
    resolved: dict[str, Any]
    pins: Pins
    catalogue: dict[str, str]
    versions: dict[str, str]
    figures: Figures
    sha256: str = Field("", max_length=64, description="SHA-256 of all the rest; it tells a file that was edited by hand.")

    @property
    def run(self) -> Run:
        """The run as it was stated, validated as any run from outside. Raises `PlanError`."""
        return parse_run(self.inputs)


def lock_of(run: Run, one: Estimate, profile: DeviceProfile | None = None) -> Lock:
    """The lock of a plan.

    Arguments
    ---------
    run: as it was stated.
    one: its estimate.
    profile: the measured device that the estimate stands on.
    """
    inputs = standalone(run)
    resolved = one.run.model_dump(mode="json", exclude_none=True)
    if isinstance(inputs["model"], dict) and isinstance(resolved.get("model"), str):
        resolved["model"] = inputs["model"]  # a path means nothing elsewhere
    figures = Figures.model_validate({name: getattr(one, name) for name in Figures.model_fields})
    made = Lock(inputs=inputs, resolved=resolved, pins=pins_of(one, profile), catalogue=catalogue(), versions=versions(), figures=figures)
    return made.model_copy(update={"sha256": _content_hash(made)})


def lock_text(lock: Lock) -> str:
    """The file's text: indented JSON."""
    return json.dumps(lock.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"


def parse_lock(mapping: Any) -> Lock:
    """A lock from a mapping. Raises `PlanError` for one of another version, one that lacks a part, and one that was edited."""
    if not isinstance(mapping, dict) or "lock_version" not in mapping:
        raise PlanError("lock", type(mapping).__name__, "is no locked plan", _FIX)
    if mapping["lock_version"] != LOCK_VERSION:
        raise PlanError("lock_version", mapping["lock_version"], f"is not {LOCK_VERSION}, the version read here", _FIX)
    try:
        lock = Lock.model_validate(mapping)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise PlanError("lock." + ".".join(map(str, first["loc"])), "", shorten(f"cannot be read: {first['msg']}", 200), _FIX) from None
    if lock.sha256 != _content_hash(lock):
        raise PlanError("lock.sha256", lock.sha256[:12], "is not that of the content: the file was changed by hand, or cut", _FIX)
    return lock


def lock_in(document: Any) -> Lock | None:
    """The lock that a document is, or that a JSON report of one plan holds; None where it is neither. Raises `PlanError` for one that cannot be used."""
    if not isinstance(document, dict):
        return None
    if "lock_version" in document:
        return parse_lock(document)
    if "schema_version" not in document:
        return None
    if document.get("kind") == "comparison":
        raise PlanError("report", "comparison", "holds several plans", "Take the report of one plan, or a run file.")
    if not isinstance(document.get("lock"), dict):
        raise PlanError("report.lock", "", "is missing: it is no report of schema 2", "Write it anew with `planner report RUN -o report.json`.")
    return parse_lock(document["lock"])


def load_lock(path: str | Path) -> Lock:
    """Read a lock file. Raises `PlanError`."""
    file = Path(path)
    try:
        if file.stat().st_size > MAX_LOCK_BYTES:
            raise PlanError("lock", file, f"is larger than {MAX_LOCK_BYTES // 2**20} MiB", "Check the path.")
        return parse_lock(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError("lock", file, f"cannot be read ({type(error).__name__})", "Give the path of a plan.lock.") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, PlanError):
            raise
        raise PlanError("lock", file, f"is not valid JSON ({shorten(error, 120)})", _FIX) from None


def _content_hash(lock: Lock) -> str:
    return digest(lock.model_dump(mode="json", exclude={"sha256"}))
