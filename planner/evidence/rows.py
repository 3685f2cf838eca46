"""Measured training runs: one typed row per configuration, read with the csv module."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Final

from planner.errors import PlanError, shorten

DATA: Final = Path(__file__).with_name("data")
SHIPPED: Final = DATA / "measurements.csv"
MAX_BYTES: Final = 256 * 2**20
"""A table of 4,000 rows has 3 MB; more than this is another kind of file."""
MAX_ROWS: Final = 200_000
FIELD: Final = "rows"

_NUMBER_LIMIT = 1e18


@dataclass(frozen=True, slots=True)
class Row:
    """One measured configuration. Blank cells are None; the columns are described in ``data/SOURCES.md``.

    Memory in GiB, time in seconds, rates per second, as in the file; `planner.evidence.mapping` turns a row into a run.
    """

    id: str = ""
    source_group: str = ""
    source: str = ""
    framework: str | None = None
    task: str | None = None
    model: str | None = None
    hf_id: str | None = None
    arch: str | None = None
    params_b: float | None = None
    layers: int | None = None
    hidden: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    ffn: int | None = None
    vocab: int | None = None
    tied: bool | None = None
    mlp: str | None = None
    experts: int | None = None
    experts_per_token: int | None = None
    expert_ffn: int | None = None
    shared_experts: int | None = None
    dense_layers: int | None = None
    seq_len: float | None = None
    method: str | None = None
    lora_r: int | None = None
    lora_targets: str | None = None
    peft_detail: str | None = None
    trainable_params: float | None = None
    weights_dtype: str | None = None
    compute_dtype: str | None = None
    autocast: bool | None = None
    master_weights: bool | None = None
    grad_dtype: str | None = None
    adapter_dtype: str | None = None
    optimizer: str | None = None
    optimizer_state_dtype: str | None = None
    gpu: str | None = None
    gpu_as_told: str | None = None
    gpu_mem_gib: float | None = None
    gpus: int | None = None
    gpus_per_node: int | None = None
    interconnect: str | None = None
    dp: int | None = None
    tp: int | None = None
    pp: int | None = None
    cp: int | None = None
    ep: int | None = None
    virtual_pp: int | None = None
    sharding: str | None = None
    sequence_parallel: bool | None = None
    micro_batch: int | None = None
    grad_accum: int | None = None
    global_batch: int | None = None
    act_ckpt: str | None = None
    attention: str | None = None
    compile: bool | None = None
    offload: str | None = None
    packing_or_padding: str | None = None
    variant: str | None = None
    step_time_s: float | None = None
    tokens_per_s_gpu: float | None = None
    samples_per_s: float | None = None
    tflops_per_gpu: float | None = None
    mfu_pct: float | None = None
    hfu_pct: float | None = None
    peak_mem_gib: float | None = None
    mem_kind: str | None = None
    outcome: str | None = None
    targets: str | None = None
    derived: str | None = None
    quality: str | None = None
    quality_reason: str | None = None
    repeat_group: str | None = None
    problem: str | None = None
    raw: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def target_set(self) -> frozenset[str]:
        """What the row may be compared on: time, memory, fit. Without the column, whatever was measured."""
        if self.targets is not None:
            return frozenset(self.targets.replace(",", " ").replace(";", " ").split())
        found = {"time"} if self.tokens_per_s_gpu or self.step_time_s or self.samples_per_s else set()
        if self.peak_mem_gib:
            found.add("memory")
        if self.outcome == "oom":
            found = {"fit"}
        return frozenset(found)


_TYPES: Final[dict[str, str]] = {f.name: str(f.type) for f in fields(Row) if f.name not in ("raw", "problem")}
COLUMNS: Final = tuple(_TYPES)
_MODEL_COLUMNS: Final = frozenset({"hf_id", "layers", "hidden"})


def rows(path: str | Path | None = None) -> list[Row]:
    """All rows of a table of measurements.

    Arguments
    ---------
    path: a CSV file with the columns of ``data/SOURCES.md`` (any subset, any order); the shipped table when left out.
        A cell that is not of its column's kind leaves the row in place and says so in `Row.problem`.

    Errors
    ------
    PlanError: no such file, not UTF-8 text, no CSV, or a header without the columns that name a model.
    """
    if path is None:
        return list(_shipped())
    return [_row(record, line) for line, record in enumerate(read_records(Path(path)), start=2)]


def read_records(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file as text. Raises `PlanError` as `rows` does."""
    text = _text(path)
    fix = "Write a CSV file whose first line names the columns (hf_id or layers and hidden, seq_len, gpu, micro_batch, …)."
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", restval="")
    try:
        header = reader.fieldnames
        if not header:
            raise PlanError(FIELD, path, "is empty", fix)
        if len(set(header)) != len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise PlanError(FIELD, twice, "names two columns", "Give every column its own name.")
        if not _MODEL_COLUMNS & set(header):
            raise PlanError(FIELD, ", ".join(header), "has no column that names a model", fix)
        records: list[dict[str, str]] = []
        for record in reader:
            if "" in record and "" not in header:
                raise PlanError(
                    FIELD,
                    f"{path}, line {reader.line_num}",
                    "has more cells than the header",
                    "Quote cells that contain commas.",
                )
            records.append(record)
            if len(records) > MAX_ROWS:
                raise PlanError(FIELD, path, f"has more than {MAX_ROWS} rows", "Split the table.")
    except csv.Error as error:
        raise PlanError(FIELD, f"{path}, line {reader.line_num}", f"is not valid CSV ({error})", fix) from None
    if not records:
        raise PlanError(FIELD, path, "has a header but no rows", "Write one measured configuration per line.")
    return records


@cache
def _shipped() -> tuple[Row, ...]:
    with SHIPPED.open(encoding="utf-8", newline="") as file:
        return tuple(_row(record, line) for line, record in enumerate(csv.DictReader(file), start=2))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PlanError(FIELD, path, f"is larger than {MAX_BYTES >> 20} MiB", "Check the path.")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(
            FIELD, path, f"cannot be read ({type(error).__name__})", "Give the path of a CSV file in UTF-8."
        ) from None
    if "\0" in text:
        raise PlanError(FIELD, path, "is a binary file", "Give the path of a CSV file in UTF-8.")
    return text


def _row(record: dict[str, str], line: int) -> Row:
    values: dict[str, object] = {}
    problem: str | None = None
    for name, kind in _TYPES.items():
        text = (record.get(name) or "").strip()
        if not text:
            continue
        try:
            values[name] = _cell(text, kind)
        except ValueError as error:
            problem = problem or f"{name}: {shorten(text, 60)!r} {error}"
    values.setdefault("id", f"line {line}")
    return Row(**values, problem=problem, raw=record)  # type: ignore[arg-type]


def _cell(text: str, kind: str) -> object:
    if kind.startswith("str"):
        return text
    try:
        number = float(text)
    except ValueError:
        raise ValueError("is not a number") from None
    if not math.isfinite(number) or not 0 <= number <= _NUMBER_LIMIT:
        raise ValueError("is not a finite number of at least 0")
    if kind.startswith("float"):
        return number
    if number != int(number):
        raise ValueError("is not a whole number")
    if kind.startswith("bool"):
        if number not in (0, 1):
            raise ValueError("is neither 0 nor 1")
        return bool(number)
    return int(number)
