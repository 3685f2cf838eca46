"""Kernels that were timed elsewhere with plain torch, one JSON object a line, read as samples of a calibration.

A line has `kind` (device, matmul, attention, elementwise, norm, optimizer, transfer, launch, step, …), what was run, and `seconds` with `iqr` and
`repeats`, or `error`. Attention and norms are timed forward, and forward and backward together: the backward alone is the difference.
What no law or table of a profile reads (chains of operators, losses) is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from planner.calibrate.benchmarks.operators import written
from planner.calibrate.fit import fit_profile
from planner.calibrate.hardware import Hardware
from planner.calibrate.result import MAX_BYTES, Calibration, Sample
from planner.device.conditions import Conditions
from planner.errors import PlanError

Line = Mapping[str, Any]
_DTYPES: Final = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "tf32": "tf32"}
_BACKENDS: Final = {"FLASH_ATTENTION": "flash", "CUDNN_ATTENTION": "cudnn", "EFFICIENT_ATTENTION": "efficient", "MATH": "math"}
_OPERATORS: Final = {"add": "residual", "gelu": "gelu", "cast_fp32": "cast", "dropout": "dropout"}
_UPDATES: Final = {"foreach": ("optimizer", "adamw"), "fused": ("fused_optimizer", "adamw-fused")}
_LAUNCHES: Final = 1000.0
"""Operators of one timed launch."""


def read_lines(path: str | Path) -> tuple[Line, list[Line]]:
    """The line of the device, and all others that ended well or ran out of memory. Raises `PlanError`."""
    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise PlanError("recorded", str(path), "is larger than 64 MiB", "Name a file of recorded rows.")
        text = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise PlanError("recorded", str(path), f"cannot be read: {error.strerror or error}", "Name a file of recorded rows.") from None
    found: list[dict[str, Any]] = []
    for number, line in enumerate(text):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            if number == len(text) - 1:
                continue  # the recorder was killed while it wrote
            row = None
        if not isinstance(row, dict) or not isinstance(row.get("kind"), str):
            raise PlanError("recorded", str(path), f"holds no row in line {number + 1}", "Give one JSON object a line, each with its kind.")
        found.append(row)
    device = next((row for row in found if row["kind"] == "device"), None)
    if device is None:
        raise PlanError("recorded", str(path), "does not say on which device it was measured", "Keep its first line, of kind device.")
    if not isinstance(device.get("name"), str):
        device = device | {"name": "processor"}  # the recorder names GPUs alone
    return device, [row for row in found if "error" not in row and row["kind"] != "device"]


def samples_of(lines: Sequence[Line]) -> list[Sample]:
    """Samples of every kernel that a profile can use. Raises `PlanError` for a row without its fields."""
    found: list[Sample] = []
    forward: dict[tuple[Any, ...], float] = {}
    for row in lines:
        try:
            found += _READERS[row["kind"]](row, forward) if row["kind"] in _READERS else ()
        except (KeyError, TypeError, ValueError) as error:
            raise PlanError("recorded", row["kind"], f"is a row that lacks {error}", "Record it again.") from None
    return found


def calibration_of(path: str | Path) -> Calibration:
    """The profile of the device that was recorded, as a calibration there would have made it.

    Errors: PlanError for a file without kernels, or of a device that is no CUDA GPU.
    """
    device, lines = read_lines(path)
    if "total_memory" not in device:
        raise PlanError("recorded", str(path), "is not of a CUDA device", "Calibrate a processor here.")
    samples = samples_of(lines)
    if not samples:
        raise PlanError("recorded", str(path), "holds no kernel", "Record kernels, not steps alone.")
    hardware = Hardware(
        torch.device("cuda"), device["name"], int(device["total_memory"]), float(device.get("l2") or 0.0) or 40.0 * 2**20, int(device["sms"])
    )
    limit = device.get("power_limit_mw")
    conditions = Conditions(
        device=device["name"], kind="cuda", torch=str(device.get("torch")), cuda=device.get("cuda"), driver=device.get("driver"), python="",
        memory_bytes=hardware.memory_bytes, power_limit_w=None if limit is None else limit / 1e3, sm_clock_mhz=device.get("sm_mhz"),
        temperature_c=device.get("temp_c"), date=str(device.get("utc")), seconds=0.0,
    )  # fmt: skip
    return Calibration(profile=fit_profile(hardware, samples, conditions), conditions=conditions, samples=tuple(samples))


def _sample(row: Line, benchmark: str, seconds: float, **case: float | str) -> Sample:
    return Sample(benchmark=benchmark, case=case, seconds=seconds, iqr=float(row.get("iqr") or 0.0), raw=(seconds,))


def _matmul(row: Line, _: dict[tuple[Any, ...], float]) -> Iterator[Sample]:
    m, n, k, dtype = float(row["m"]), float(row["n"]), float(row["k"]), _DTYPES[row["dtype"]]
    layout = "forward" if row["layout"] == "fwd" else str(row["layout"])
    rows, columns, inner = {"forward": (m, n, k), "dgrad": (m, k, n), "wgrad": (n, k, m)}[layout]
    told: dict[str, float | str] = {"m": rows, "n": columns, "k": inner, "batch": 1.0, "dtype": dtype, "layout": layout}
    yield _sample(row, "low_precision" if dtype == "tf32" else "matmul", float(row["seconds"]), **told)


def _attention(row: Line, forward: dict[tuple[Any, ...], float]) -> Iterator[Sample]:
    backend = _BACKENDS[row["backend"]]
    key = ("attention", backend, *(row[name] for name in ("batch", "seq", "heads", "head_dim", "causal", "dtype")))
    seconds = _alone(row, forward, key)
    if seconds is None:
        return
    told: dict[str, float | str] = {
        "batch": float(row["batch"]), "heads": float(row["heads"]), "length": float(row["seq"]), "head_dim": float(row["head_dim"]),
        "dtype": _DTYPES[row["dtype"]], "causal": float(row["causal"]), "backward": float(row["mode"] != "fwd"),
    }  # fmt: skip
    if backend == "flash":  # what torch chooses for these shapes
        yield _sample(row, "attention", seconds, **told)
    yield _sample(row, "backends", seconds, **told, backend=backend)


def _elementwise(row: Line, _: dict[tuple[Any, ...], float]) -> Iterator[Sample]:
    elements, dtype = float(row["elements"]), _DTYPES[row["dtype"]]
    seconds = float(row["seconds"])
    if row["op"] == "copy":
        yield _sample(row, "memory", seconds, operation="copy", moved=4.0 * elements)
    elif row["op"] in _OPERATORS:
        name = _OPERATORS[row["op"]]
        yield _sample(row, "operators", seconds, operator=name, dtype=dtype, moved=_moved(name, elements, dtype, False), backward=0.0)


def _norm(row: Line, forward: dict[tuple[Any, ...], float]) -> Iterator[Sample]:
    if row["op"] != "layer":
        return
    seconds = _alone(row, forward, ("norm", row["rows"], row["width"], row["dtype"]))
    if seconds is None:
        return
    backward, dtype = row["mode"] != "fwd", _DTYPES[row["dtype"]]
    moved = _moved("layer_norm", float(row["rows"]) * float(row["width"]), dtype, backward)
    yield _sample(row, "operators", seconds, operator="layer_norm", dtype=dtype, moved=moved, backward=float(backward))


def _optimizer(row: Line, _: dict[tuple[Any, ...], float]) -> Iterator[Sample]:
    if row["impl"] in _UPDATES:
        benchmark, name = _UPDATES[row["impl"]]
        numel, count = float(row["elements_each"]), float(row["tensors"])
        yield _sample(row, benchmark, float(row["seconds"]), name=name, numel=numel, count=count, dtype=_DTYPES[row["dtype"]])


def _transfer(row: Line, _: dict[tuple[Any, ...], float]) -> Iterator[Sample]:
    direction = {"h2d": "to_device", "d2h": "to_host"}[row["way"]]
    told = {"bytes": float(row["bytes"]), "pinned": float(row["pinned"]), "beside": 0.0}
    yield _sample(row, "transfers", float(row["seconds"]), direction=direction, **told)


def _launch(row: Line, _: dict[tuple[Any, ...], float]) -> Iterator[Sample]:
    yield _sample(row, "overhead", float(row["seconds"]), kernels=_LAUNCHES, backward=0.0)


def _alone(row: Line, forward: dict[tuple[Any, ...], float], key: tuple[Any, ...]) -> float | None:
    """Seconds of forward, or of backward alone; None where the forward is not known or took as long as both."""
    seconds = float(row["seconds"])
    if row["mode"] == "fwd":
        forward[key] = seconds
        return seconds
    first = forward.get(key)
    return None if first is None or seconds <= first else seconds - first


def _moved(name: str, elements: float, dtype: str, backward: bool) -> float:
    """Bytes that the planner's graph counts for an operator over so many elements [bytes]."""
    operation = written(name, (max(1, round(elements / 256)), 256), dtype)
    return sum(kernel.moved for kernel in (operation.backward if backward else operation.forward))


_READERS: Final = {
    "matmul": _matmul, "attention": _attention, "elementwise": _elementwise, "norm": _norm, "optimizer": _optimizer, "transfer": _transfer,
    "launch": _launch,
}  # fmt: skip
