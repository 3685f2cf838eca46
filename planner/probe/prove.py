"""A matrix of probes with predicted beside measured, in rounds, so that slow spells of a machine do not fall on one case. Resumable."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from planner.errors import PlanError, shorten
from planner.files import write_whole
from planner.probe.cases import Case
from planner.probe.compare import compare
from planner.probe.device import Device, open_device
from planner.probe.load import BUSY
from planner.probe.measure import Measured, Spread, measure
from planner.probe.predict import predict
from planner.probe.table import summary
from planner.run import Run

if TYPE_CHECKING:
    from planner.device.profile import DeviceProfile

VERSION = 1
_FAILURES = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, ImportError, AssertionError)
"""What a model, its method or a missing kernel may end with."""
Show = Callable[[str, float], None]


def prove(
    cases: Sequence[Case],
    device: str,
    out: Path,
    *,
    profile: DeviceProfile | None = None,
    rounds: int = 1,
    seconds: float = 2.0,
    budget: float | None = None,
    show: Show | None = None,
) -> dict[str, Any]:
    """Measure every case that `out` does not hold yet, predict all, and write the whole document.

    Arguments
    ---------
    out: the document; rows that it holds are kept, and a killed run goes on where it was.
    rounds: times that every case is measured, all cases once before any a second time.
    seconds: about how long the timed steps of one probe take [s].
    budget: time after which no further probe starts [s].
    show: told (name, share done) before each probe.

    Errors: PlanError when `out` belongs to another device or is no such document.
    """
    place = open_device(device)
    document = _open(out, place)
    rows: dict[str, dict[str, Any]] = document["rows"]
    begin, total, done = time.monotonic(), rounds * len(cases), 0
    for number in range(rounds):
        for case in cases:
            done += 1
            row = rows.setdefault(case.name, {"run": case.run.model_dump(mode="json", exclude_none=True), "rounds": []})
            if len(row["rounds"]) > number or "problem" in row:
                continue
            if budget is not None and time.monotonic() - begin > budget:
                break
            if show is not None:
                show(case.name, (done - 1) / total)
            _one(case, row, device, profile, first=number == 0, seconds=seconds, place=place)
            _write(out, document)
    wanted = [case for case in cases if rows.get(case.name, {}).get("rounds")]
    document["predicted"] = _predictions(wanted, rows, place, profile)
    document["summary"] = summary(document["predicted"].values())
    document["missing"] = [case.name for case in cases if len(rows.get(case.name, {}).get("rounds", ())) < rounds]
    _write(out, document)
    return document


def _one(
    case: Case, row: dict[str, Any], device: str, profile: DeviceProfile | None, *, first: bool, seconds: float, place: Device
) -> None:
    try:
        found = measure(case.run, device, steps=20, profile=profile, memory=first, seconds=seconds)
    except PlanError as error:
        row["problem"] = str(error)
        return
    except _FAILURES as error:  # one model that does not run must not end the matrix
        row["problem"] = f"{type(error).__name__}: {shorten(error, 300)}"
        return
    row["rounds"].append({**found.model_dump(mode="json"), "pace_s": pace(place)})


def pace(place: Device) -> float:
    """Seconds of one fixed product, the fastest of ten: how fast the machine was at that moment."""
    x = torch.randn(512, 512, device=place.device)
    times = []
    for _ in range(10):
        place.synchronize()
        begin = time.perf_counter()
        x @ x
        place.synchronize()
        times.append(time.perf_counter() - begin)
    return min(times)


def merged(rounds: Sequence[Measured]) -> Measured:
    """Several measurements of one case as one: all timed steps together, memory of the round that has it.

    On a processor, rounds during which other programs were busy count only where no round was quiet.
    """
    good = [found for found in rounds if found.outcome == "ok"]
    if not good:
        return rounds[0]
    quiet = [found for found in good if found.device_kind != "cpu" or found.others is None or found.others <= BUSY]
    samples = tuple(sample for found in quiet or good for sample in found.samples)
    times = Spread.of([sample["step"] for sample in samples])
    first = good[0]
    scale = first.step_time_s.median / times.median if first.step_time_s is not None else 1.0
    return first.model_copy(
        update={
            "samples": samples,
            "step_time_s": times,
            "phases": {name: Spread.of([sample[name] for sample in samples]) for name in first.phases},
            "tokens_per_s": None if first.tokens_per_s is None else first.tokens_per_s * scale,
            "samples_per_s": None if first.samples_per_s is None else first.samples_per_s * scale,
        }
    )


def _predictions(
    cases: Sequence[Case], rows: dict[str, dict[str, Any]], place: Device, profile: DeviceProfile | None
) -> dict[str, dict[str, Any]]:
    """By case: measured figures, the estimate without and with the profile, and how they compare."""
    found = {}
    for case in cases:
        measured = merged([Measured.model_validate({k: v for k, v in r.items() if k != "pace_s"}) for r in rows[case.name]["rounds"]])
        found[case.name] = judged(case.run, place, profile, measured)
    return found


def judged(run: Run, place: Device, profile: DeviceProfile | None, measured: Measured, *, clipped: bool = True) -> dict[str, Any]:
    """Measured figures, the estimate without and with the profile, and how they compare. clipped: whether the steps clipped gradients."""
    entry: dict[str, Any] = {
        "outcome": measured.outcome,
        "step_time_s": measured.step_time_s.model_dump() if measured.step_time_s else None,
        "phases_s": {name: spread.median for name, spread in measured.phases.items()},
        "allocated_bytes": measured.allocated_bytes,
        "reserved_bytes": measured.reserved_bytes,
        "energy_per_step_j": measured.energy_per_step_j,
    }
    planned: dict[str, DeviceProfile | None] = {"uncalibrated": None} | ({} if profile is None else {"calibrated": profile})
    for name, given in planned.items():
        try:
            predicted = predict(run, place, given, clipped=clipped)
        except PlanError as error:
            entry[name] = {"predicted": None, "comparison": None, "problem": str(error)}
            continue
        entry[name] = {
            "predicted": predicted.model_dump(mode="json") if predicted else None,
            "comparison": compare(predicted, measured).model_dump(mode="json"),
            "problem": None,
        }
    return entry


def _open(out: Path, place: Device) -> dict[str, Any]:
    """The document so far, or a new one. Raises `PlanError` when it is another device's."""
    fresh: dict[str, Any] = {
        "version": VERSION, "device": place.name, "kind": place.kind, "versions": place.versions(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "rows": {},
    }  # fmt: skip
    if not out.exists():
        if not out.parent.is_dir():
            raise PlanError("out", str(out), "is in a folder that does not exist", "Name a file in a folder that exists.")
        return fresh
    try:
        known = json.loads(out.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise PlanError("out", str(out), "is there and is no proof to go on with", "Name a new file, or move this one away.") from None
    if not isinstance(known, dict) or known.get("version") != VERSION or not isinstance(known.get("rows"), dict):
        raise PlanError("out", str(out), "is there and is no proof to go on with", "Name a new file, or move this one away.")
    for key in ("device", "versions"):
        if known.get(key) != fresh[key]:
            raise PlanError(
                "out", str(out), f"was measured with another {key.removesuffix('s')} ({shorten(known.get(key), 80)})", "Name a new file."
            )
    return known


def _write(out: Path, document: dict[str, Any]) -> None:
    """The whole document at once: the next run after a crash goes on from it."""
    write_whole(out, json.dumps(document, allow_nan=False))
