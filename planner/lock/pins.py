"""What a plan stands on, as names, dates and hashes: model, accelerators, price, grid, calibration, catalogue, versions."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from planner import __version__
from planner.catalog import DEFAULT_PUE, find_accelerator, find_grid, snapshot_date
from planner.catalog.grid import WORLD
from planner.catalog.models import load_config
from planner.device.profile import DeviceProfile
from planner.errors import PlanError
from planner.estimate.resolve import model_config
from planner.estimate.result import Estimate
from planner.run import Run

TABLES: Final = ("accelerators.csv", "models.csv", "prices.csv", "grid.csv")
"""The catalogue's tables, each pinned by its hash."""
ENGINE: Final = ("units.py", "run.py", "method.py", "whole_run.py", "catalog", "workload", "device", "estimate")
"""Parts of the package that decide a figure: their text is the version of the formulas, whatever number the release has."""
LIBRARIES: Final = ("numpy", "pydantic", "torch", "transformers", "peft")
"""Packages whose versions are pinned: the first two compute the plan, the others are what a calibration or a probe measured with."""
DEEPEST: Final = 4
"""Levels of a run below its top; what is deeper in a file from outside is no field."""
_PART: Final = ("memory_bytes", "usable_memory_bytes", "memory_bandwidth", "peak_flops", "tdp_w", "intra_node_bandwidth")


def digest(value: Any) -> str:
    """SHA-256 of a value as canonical JSON, hexadecimal."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def standalone(run: Run) -> dict[str, Any]:
    """A run as it was stated that needs no other file: a configuration named by its path stands in it."""
    mapping = run.model_dump(mode="json", exclude_unset=True)
    if isinstance(run.model, str):
        path = Path(run.model).expanduser()
        if len(run.model) < 4096 and "\0" not in run.model and (path.is_file() or (path / "config.json").is_file()):
            mapping["model"] = load_config(path, "model")
    return mapping


def leaves(mapping: Mapping[str, Any], prefix: str = "", depth: int = DEEPEST) -> Iterator[tuple[str, Any]]:
    """Dotted path and value of every field; a model, an accelerator or a distribution of lengths that is itself a mapping counts as one value."""
    for name, value in mapping.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and depth and path not in ("model", "hardware.gpu", "data.lengths"):
            yield from leaves(value, path + ".", depth - 1)
        else:
            yield path, value


class Pins(BaseModel):
    """What a plan stands on. model: name and hash of its configuration · accelerators: figures by name · price, grid: the rows of the catalogue
    that were used · calibration: name and hash of the profile; None where there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: dict[str, str]
    accelerators: dict[str, dict[str, Any]] = Field(max_length=1000)
    price: dict[str, float | str] | None
    grid: dict[str, float | int | str]
    calibration: dict[str, str] | None


def pins_of(one: Estimate, profile: DeviceProfile | None) -> Pins:
    """What an estimate stands on."""
    name, config = model_config(one.run.model)
    return Pins(
        model={"name": name, "config_sha256": digest(dict(config))},
        accelerators=_parts(one.run),
        price={key: value for key, value in (one.details.get("price") or {}).items() if value not in (None, "")} or None,
        grid=_grid(one.run),
        calibration=None if profile is None else calibration(profile),
    )


def calibration(profile: DeviceProfile) -> dict[str, str]:
    """What tells one device profile from another."""
    told = {"name": profile.name, "accelerator": profile.accelerator_name, "sha256": digest(profile.model_dump(mode="json"))}
    if profile.conditions is not None:
        told |= {"device": profile.conditions.device, "date": str(profile.conditions.date)}
    return told


def catalogue() -> dict[str, str]:
    """Date of the price snapshot, and the hash of every table."""
    return {"date": snapshot_date().isoformat(), **_table_hashes()}


def versions() -> dict[str, str]:
    """Versions of what computes the plan; `engine` is the hash of the formulas' own text."""
    return {"planner": __version__, "engine": _engine(), **_installed()}


@cache
def _installed() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def _table_hashes() -> dict[str, str]:
    folder = resources.files("planner.catalog").joinpath("data")
    return {name.removesuffix(".csv"): hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest()[:16] for name in TABLES}


@cache
def _engine() -> str:
    """Hash of the formulas and their fitted constants: 1.5 MB, about ten milliseconds, once."""
    root = Path(str(resources.files("planner")))
    files = [path for part in ENGINE for path in ([root / part] if part.endswith(".py") else (root / part).rglob("*"))]
    found = hashlib.sha256()
    for path in sorted(path for path in files if path.suffix in (".py", ".json", ".csv") and "catalog/data" not in path.as_posix()):
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


def _parts(run: Run) -> dict[str, dict[str, Any]]:
    """Figures of every accelerator in the run as the catalogue has them, by name; one that is of no catalogue has none."""
    given = [group.gpu for group in run.hardware.groups] if run.hardware.groups else [run.hardware.gpu]
    found = {}
    for gpu in given:
        name = gpu.get("base") if isinstance(gpu, dict) else gpu
        if not isinstance(name, str):
            continue
        try:
            part = find_accelerator(name.removesuffix(" (edited)"))
        except PlanError:
            continue  # a device that only a profile describes
        found[part.name] = part.model_dump(mode="json", include=set(_PART), exclude_none=True)
    return found


def _grid(run: Run) -> dict[str, Any]:
    e = run.energy
    if e.kg_co2e_per_kwh is not None:
        return {"kg_co2e_per_kwh": e.kg_co2e_per_kwh, "source": "given in the run", "pue": e.pue or DEFAULT_PUE}
    found = find_grid(e.country or WORLD)
    return {"country": found.code, "kg_co2e_per_kwh": found.kg_co2e_per_kwh, "year": found.year, "pue": e.pue or DEFAULT_PUE}
