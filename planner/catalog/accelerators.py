"""Accelerators: one validated row per part, found by exact name only.

The rows stand in ``data/accelerators.csv`` in the units of datasheets (GiB, GB/s, TFLOP/s, Gbit/s) and are
converted to SI here. Peaks are dense and, for fp16 and bf16, with fp32 accumulation, which is what training uses.
"""

from __future__ import annotations

import difflib
import math
import re
from functools import cache
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from planner import units
from planner.catalog.tables import read_table
from planner.catalog.usable_memory import MemoryRow, usable_memory
from planner.errors import PlanError

FIELD: Final = "hardware.gpu"
PEAK_KEYS: Final = ("fp32", "tf32", "fp16", "bf16", "fp8", "fp4", "int8")
_EDITED = " (edited)"


class Accelerator(BaseModel):
    """One accelerator as software sees it (one CUDA device, one GCD, one TPU chip).

    Equation: none; every figure is a datasheet or device-reported value, see `source` and `confidence`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=100)
    aliases: tuple[str, ...] = Field((), description="Other names of this part alone, the driver's device name first.")
    family_names: tuple[str, ...] = Field((), description="Names that it shares with other parts: never resolved.")
    vendor: str
    arch: str
    target: str = Field("", description="Compiler target or framework device: 9.0, gfx942, xpu, hpu, mps, tpu, …")
    compute_capability: float | None = Field(None, description="CUDA compute capability; None outside NVIDIA.")
    year: int | None = Field(None, ge=1990, le=2100)
    memory_bytes: int = Field(gt=0, description="Memory on the sticker [bytes]; vendors' GB of memory are GiB.")
    usable_memory_bytes: int = Field(gt=0, description="What the framework reports as total memory [bytes].")
    memory_type: str = ""
    memory_bandwidth: float = Field(gt=0, description="Peak memory bandwidth [B/s].")
    peak_flops: dict[str, float] = Field(description="Dense peak [FLOP/s] by type; only the types that are known.")
    sparsity: str = ""
    sm_count: int | None = Field(None, gt=0)
    l2_bytes: int | None = Field(None, gt=0)
    boost_hz: float | None = Field(None, gt=0, description="Boost clock that defines the peaks [Hz].")
    tensor_flop_per_clock_per_sm: int | None = Field(None, gt=0)
    tdp_w: float | None = Field(None, gt=0, description="Board power limit [W].")
    interconnect: str = ""
    intra_node_bandwidth: float | None = Field(
        None, gt=0, description="Link to the other accelerators of a node [B/s per direction]; None where unknown."
    )
    pcie_generation: int | None = Field(None, ge=1, le=10)
    gpus_per_node: int = Field(1, ge=1, description="Typical node size.")
    node_network_bandwidth: float | None = Field(
        None, gt=0, description="Typical network of a whole node [B/s per direction]; None where unknown."
    )
    confidence: Literal["A", "B", "C"] = Field(
        "C", description="A: two sources agree or device-reported; B: one source or a clock rule; C: not confirmed."
    )
    source: str = ""
    notes: str = ""
    assumed: tuple[str, ...] = Field((), description="Figures that no source states, each with its rule.")

    @field_validator("peak_flops")
    @classmethod
    def _known_positive_peaks(cls, value: dict[str, float]) -> dict[str, float]:
        for key, peak in value.items():
            if key not in PEAK_KEYS:
                raise ValueError(f"unknown type {key!r}; known: {', '.join(PEAK_KEYS)}")
            if not peak > 0:
                raise ValueError(f"the peak of {key} must be above 0")
        if not value:
            raise ValueError("at least one peak is needed")
        return value

    @property
    def label(self) -> str:
        """Name with memory and the training peak, for lists: "H100 SXM 80GB · 80 GiB · 989 TFLOP/s bf16"."""
        key = next(k for k in ("bf16", "fp16", "fp32", *PEAK_KEYS) if k in self.peak_flops)
        rate = units.format_flops(self.peak_flops[key], per_second=True)
        return f"{self.name} · {units.format_bytes(self.memory_bytes)} · {rate} {key}"


def customise(base: Accelerator, **fields: Any) -> Accelerator:
    """Copy of `base` with edited fields; its name gains "(edited)" and it answers to no alias.

    Arguments
    ---------
    base: a catalogue row, or an edited copy.
    fields: `Accelerator` fields in SI units; `peak_flops` replaces only the types it names.

    Errors
    ------
    PlanError: an unknown field, or a value that is not positive and finite.
    """
    for field, value in fields.items():
        if field not in Accelerator.model_fields:
            known = difflib.get_close_matches(field, Accelerator.model_fields, 1, 0)
            raise PlanError(f"{FIELD}.{field}", value, "is not a field of an accelerator", f"Did you mean {known[0]}?")
    name = str(fields.get("name", base.name))
    data: dict[str, Any] = base.model_dump() | fields
    if isinstance(fields.get("peak_flops"), dict):
        data["peak_flops"] = base.peak_flops | fields["peak_flops"]
    data |= {"name": name.removesuffix(_EDITED) + _EDITED, "aliases": (), "family_names": ()}
    data["assumed"] = tuple(text for text in base.assumed if text.split(":")[0] not in fields)
    memory = fields.get("memory_bytes")
    if isinstance(memory, (int, float)) and "usable_memory_bytes" not in fields and math.isfinite(memory):
        share = base.usable_memory_bytes / base.memory_bytes
        data["usable_memory_bytes"] = round(memory * share)
        data["assumed"] = (*base.assumed, f"usable_memory_bytes: {share:.4f} of the sticker, as before the edit")
    try:
        edited = Accelerator.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PlanError(
            f"{FIELD}.{where}", first["input"], f"is not valid: {first['msg']}", "Write a positive, finite number."
        ) from None
    if edited.usable_memory_bytes > edited.memory_bytes:
        field = f"{FIELD}.usable_memory_bytes"
        raise PlanError(field, edited.usable_memory_bytes, "is above memory_bytes", "Lower it.")
    return edited


@cache
def accelerators() -> tuple[Accelerator, ...]:
    """All rows of the catalogue, in its order."""
    rows = read_table("accelerators.csv")
    memory = [_memory_row(row) for row in rows]
    return tuple(_accelerator(row, memory, index) for index, row in enumerate(rows))


def find_accelerator(name: str, field: str = FIELD) -> Accelerator:
    """The accelerator with exactly this name or alias; never a part of a name.

    Case, spaces, hyphens, underscores and a leading "NVIDIA" do not count: "rtx4090" is "NVIDIA RTX 4090".

    Arguments
    ---------
    name: catalogue name, driver's device name, or another alias.
    field: dotted name of the input, for the message.

    Errors
    ------
    PlanError: no such part (with the closest names), or several parts share the name (with all of them).
    """
    if not isinstance(name, str) or not name.strip():
        raise PlanError(field, name, "is not the name of an accelerator", 'Write a name such as "H100 SXM 80GB".')
    wanted = normalise(name[:200])
    exact, families = _index()
    if wanted in exact:
        return accelerators()[exact[wanted]]
    if wanted in families:
        candidates = ", ".join(f'"{accelerators()[i].name}"' for i in families[wanted])
        raise PlanError(field, name, "names several accelerators", f"Choose one of {candidates}.")
    close = difflib.get_close_matches(wanted, [*exact, *families], 12, 0)
    positions = dict.fromkeys(i for key in close for i in ([exact[key]] if key in exact else families[key]))
    nearest = ", ".join(f'"{accelerators()[i].name}"' for i in list(positions)[:3])
    raise PlanError(field, name, "is not in the catalogue of accelerators", f"The closest are {nearest}.")


def identify(device_name: str, total_memory: int | None = None, sm_count: int | None = None) -> Accelerator | None:
    """The catalogue row of a device that a driver reports, or None when no row fits.

    One device name can stand for boards of several memory sizes, so a row must also agree with the reported
    memory (within 10 %) and number of multiprocessors, where they are given.

    Arguments
    ---------
    device_name: as the driver or framework prints it.
    total_memory: as the framework reports it [bytes].
    sm_count: multiprocessors (compute units).
    """
    exact, families = _index()
    wanted = normalise(device_name)
    positions = [exact[wanted]] if wanted in exact else list(families.get(wanted, ()))
    fitting = [
        row
        for row in (accelerators()[i] for i in positions)
        if (total_memory is None or abs(total_memory / row.usable_memory_bytes - 1) <= 0.10)
        and (sm_count is None or row.sm_count is None or sm_count == row.sm_count)
    ]
    return fitting[0] if len(fitting) == 1 else None


def normalise(name: str) -> str:
    """Form in which names are compared: no case, spaces, hyphens or underscores, no leading "NVIDIA"."""
    plain = " ".join(name.replace("_", " ").split()).casefold().removeprefix("nvidia ")
    return re.sub(r"[\s-]+", "", plain)


@cache
def _index() -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    exact: dict[str, int] = {}
    families: dict[str, tuple[int, ...]] = {}
    for i, row in enumerate(accelerators()):
        exact |= {normalise(name): i for name in (row.name, *row.aliases)}
        for name in row.family_names:
            families[normalise(name)] = (*families.get(normalise(name), ()), i)
    return exact, families


def _memory_row(row: dict[str, str]) -> MemoryRow:
    return MemoryRow(
        vendor=row["vendor"],
        kind=row["memory_type"],
        ecc=row["memory_ecc"],
        sticker=float(row["memory_gib"]) * units.GIB,
        reported=float(row["usable_gib"]) * units.GIB if row["usable_gib"] else None,
        driver=float(row["smi_mib"]) * units.MIB if row["smi_mib"] else None,
    )


def _accelerator(row: dict[str, str], memory: list[MemoryRow], index: int) -> Accelerator:
    def number(column: str, scale: float = 1.0) -> float | None:
        return float(row[column]) * scale if row[column] else None

    def whole(column: str, scale: float = 1.0) -> int | None:
        value = number(column, scale)
        return None if value is None else round(value)

    peaks = {key: number("int8_tops" if key == "int8" else f"{key}_tflops", units.TERA) for key in PEAK_KEYS}
    usable, assumption = usable_memory(memory, index)
    is_cuda = row["vendor"] == "NVIDIA"
    return Accelerator.model_validate(
        {
            "name": row["name"],
            "aliases": tuple(filter(None, row["aliases"].split("|"))),
            "family_names": tuple(filter(None, row["family_names"].split("|"))),
            **{key: row[key] for key in ("vendor", "arch", "target", "memory_type", "sparsity")},
            **{key: row[key] for key in ("interconnect", "confidence", "source", "notes")},
            "compute_capability": float(row["target"]) if is_cuda else None,
            "year": whole("year"),
            "memory_bytes": round(memory[index].sticker),
            "usable_memory_bytes": usable,
            "memory_bandwidth": number("memory_bandwidth_gb_s", units.GB),
            "peak_flops": {key: peak for key, peak in peaks.items() if peak is not None},
            "sm_count": whole("sm_count"),
            "l2_bytes": whole("l2_mib", units.MIB),
            "boost_hz": number("boost_mhz", units.MEGA),
            "tensor_flop_per_clock_per_sm": whole("tensor_flop_per_clock_per_sm"),
            "tdp_w": number("tdp_w"),
            "intra_node_bandwidth": number("intra_node_gb_s_per_direction", units.GB),
            "pcie_generation": whole("pcie_generation"),
            "gpus_per_node": whole("gpus_per_node"),
            "node_network_bandwidth": number("node_network_gbit_s", units.GBIT_PER_SECOND),
            "assumed": (assumption,) if assumption else (),
        }
    )
