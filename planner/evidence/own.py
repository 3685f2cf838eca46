"""Runs that were measured here: kept in the user's data folder, and found again when the very run is planned.

One JSON line a probe, or a log that was audited, in DATA/measured.jsonl. `keep` and `rows` are all that knows of the file. A measurement stands for
a plan when what decides a step is equal (model, method, precision, optimizer, batch, checkpoints, attention, software, and of several
accelerators how the work is divided and what connects them) and so is the device; data, price and the number of steps may differ. A probe goes
before a log: its steps are timed one by one on a device that does nothing else.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from planner.device.profile import DeviceProfile
from planner.errors import PlanError
from planner.estimate.observed import Observed
from planner.estimate.resolve import Resolved, model_config, resolve
from planner.estimate.shape import shape_of
from planner.files import data_folder
from planner.run import Run

FILE: Final = "measured.jsonl"
NEWEST: Final = 5
"""So many of the latest measurements of one run speak together."""
REPEATABLE: Final = 0.02
"""Least half width of a step's interval over its median: what one probe differs by from the next."""
STEP: Final = (
    "head", "method", "precision", "optimizer", "optimizer_options", "stack", "batch", "activation_checkpointing", "checkpoints",
    "attention", "offload", "compression",
)  # fmt: skip
"""Fields of a resolved run that decide what one step does, beside the model's configuration."""
CONNECTED: Final = ("gpus_per_node", "network", "network_gbps", "oversubscription", "machines_per_leaf")
"""Fields of the hardware that decide it where there are several accelerators."""


class Own(BaseModel):
    """One measured run. key: what was run · steps: every timed step [s] · row: the same as a row of the table of measured runs.

    origin: a probe, or a log of a run · least: least half width of the step's interval over its median · log: SHA-256 of the log ·
    family: what its kin have in common (`kin.py`) · run: as it was planned.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    version: int = 1
    key: str
    device: str
    accelerator: str | None = Field(None, description="Name of the device in the catalogue.")
    steps: tuple[float, ...] = Field(min_length=1)
    allocated_bytes: float | None = None
    reserved_bytes: float | None = None
    energy_per_step_j: float | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    date: str
    row: dict[str, str] = Field(default_factory=dict)
    origin: Literal["probe", "log"] = "probe"
    least: float = Field(REPEATABLE, ge=0, le=1)
    log: str = ""
    family: str = ""
    run: dict[str, Any] | None = None


def family_of(resolved: Resolved, attention: str | None = None) -> str:
    """What runs have in common that differ in their batch alone."""
    return key_of(resolved, attention, without="batch")


def same_device(row: Own, resolved: Resolved, profile: DeviceProfile | None) -> bool:
    """Whether a run was measured on the device that another is planned for."""
    measured_on = profile.conditions.device if profile is not None and profile.conditions is not None else None
    name = None if resolved.accelerator is None else resolved.accelerator.name
    return row.device == measured_on if measured_on else name is not None and row.accelerator == name


def key_of(resolved: Resolved, attention: str | None = None, without: str = "") -> str:
    """What tells one measured run from another. attention: the kernel that ran in place of the planned one · without: a field that does not."""
    told: dict[str, Any] = resolved.run.model_dump(mode="json", include=set(STEP) - {without})
    if (gpus := resolved.run.hardware.gpus) > 1:
        told |= {"parallel": resolved.run.parallel.model_dump(mode="json"), "gpus": gpus}
        told |= resolved.run.hardware.model_dump(mode="json", include=set(CONNECTED))
    told |= {"head": resolved.head, "attention": attention or str(resolved.attention), "model": model_config(resolved.run.model)[1]}
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:24]


def keep(found: Own, folder: Path | None = None) -> Path:
    """Add a measurement to the user's own. Raises `PlanError` where the data folder cannot be written."""
    path = (folder or data_folder()) / FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            handle.write(found.model_dump_json() + "\n")
            handle.flush()
            os.fsync(handle.fileno())
    except OSError as error:
        raise PlanError("data folder", str(path.parent), f"cannot be written: {error.strerror or error}", "Name another one in PLANNER_DATA.") from None
    return path


def rows(folder: Path | None = None) -> tuple[Own, ...]:
    """All of them, the oldest first; a line that cannot be read (cut off, or of a later version) is left out."""
    path = (folder or data_folder()) / FILE
    try:
        written = path.stat()
        return _read(path, written.st_mtime_ns, written.st_size)
    except OSError:
        return ()


@lru_cache(maxsize=4)
def _read(path: Path, changed: int, size: int) -> tuple[Own, ...]:
    """The file's lines, read once until it changes: every plan of the app asks for them."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found.append(Own.model_validate_json(line))
        except ValidationError:
            continue
    return tuple(found)


def find(run: Run, profile: DeviceProfile | None = None, folder: Path | None = None) -> Observed | None:
    """Measured steps of this very run on the device that it is planned for; None where there are none.

    Raises `PlanError` for a run that cannot be planned.
    """
    kept = rows(folder)
    if not kept or run.hardware.groups:
        return None
    resolved = resolve(run, profile)
    full = resolved.run
    if full.hardware.gpus != 1 and all(row.origin == "probe" for row in kept):
        return None  # a probe has one device
    text = full.batch.seq_len or 0
    if not shape_of(full, text, resolved.arch.sample_tokens(full.batch) - text).packed:
        return None  # a probe's samples are all of one length
    key = key_of(resolved)
    own = [row for row in kept if row.key == key and same_device(row, resolved, profile)]
    own = [row for row in own if row.origin == "probe"] or own
    own = [row for row in own if row.versions.get("torch") == own[-1].versions.get("torch")][-NEWEST:]
    if not own:
        return None
    return _observed(own)


def _observed(own: list[Own]) -> Observed:
    steps = np.array([seconds for row in own for seconds in row.steps])
    low, median, high = (float(q) for q in np.quantile(steps, (0.05, 0.5, 0.95)))
    least, probed = max(row.least for row in own), own[-1].origin == "probe"
    times = f", {len(own)} {'probes' if probed else 'logs'}" if len(own) > 1 else ""
    how = f"{steps.size} steps measured on" if probed else f"{steps.size} entries of a log of a run on"
    source = f"{how} {own[-1].device}, {own[-1].date[:10]}{times}"
    return Observed(median, min(low, median * (1 - least)), max(high, median * (1 + least)), source)
