"""How far an estimate may be off: 90 % intervals from the errors on measured runs of the same class.

``data/uncertainty.json`` holds, per class of runs, the range of measured / predicted that held 90 % of rows which were not used to
make it (`planner.evidence.fit` writes it). A class joins the evidence that the device's curves stand on, the training stack and
whether accelerators or machines communicate. The most specific class with enough rows speaks; without one the widest does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

Kind = Literal["time", "memory"]
KINDS: Final[tuple[Kind, ...]] = ("time", "memory")
DATA: Final = Path(__file__).with_name("data") / "uncertainty.json"
CALIBRATED: Final = DATA.with_name("calibrated.json")
"""How plans from a calibration missed real steps, by kind of device (`planner.evidence.calibrated` writes it)."""
MIN_ROWS: Final = 30
"""Fewer rows do not settle a 5 % and a 95 % quantile."""
UNSEEN: Final[dict[Kind, tuple[float, float]]] = {"time": (0.5, 2.0), "memory": (0.8, 1.3)}
"""measured / predicted where no measured run is alike: a stated judgement, wider than any fitted class, not a fit."""
SAME_STACK: Final = {
    "hf-4": "hf",
    "hf-scattermoe": "hf",
    "hf-4-gptq": "hf",
    "hf-kernels": "hf",
    "hf-liger": "hf",
    "litgpt-compile": "litgpt",
    "tensorflow": "hf-compile",
    "deepspeed-kernels": "deepspeed",
    "nanotron-blocking": "nanotron",
    "torchtitan-2024": "torchtitan",
    "torchtitan-eager": "torchtitan",
    "torchtitan-async-tp": "torchtitan",
}
"""Variants of one stack share its classes: what differs between them is modelled."""
APART: Final = frozenset({"nanotron-blocking", "hf-scattermoe", "deepspeed-kernels", "tensorflow"})
"""Variants whose errors are of another kind than those of their family: their classes are their own."""
LONG_STEP: Final = 1500
"""Tokens of a micro step from which kernels, not their launches, take the time: below it the error is two to three times larger."""
CURVES: Final = {"measured": "fitted", "calibrated": "fitted", "fitted": "fitted", "datasheet": "datasheet"}


@dataclass(frozen=True, slots=True)
class Interval:
    """Multipliers of an estimate that hold 90 % of comparable measurements.

    n: measured rows behind it, 0 for a stated judgement. median_error: median of |predicted - measured| / measured on held-out rows.
    """

    low_ratio: float
    high_ratio: float
    n: int
    median_error: float | None
    note: str
    class_name: str = ""


def class_names(kind: Kind, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Classes that a run belongs to, the most specific first.

    Arguments
    ---------
    facts: `basis` of the device's curves, `stack`, `gpus`, `nodes` (machines), `tokens` of one micro step on one accelerator, `encoder` and
        `mixture` (of experts) where the model is one; for memory `lengths`: "varying" where samples differ in length and are neither packed
        nor padded to one, so that the longest batch is unknown and the allocator's cache breaks up; for memory `counter`: "live" where tensors are
        counted, "held" where what the allocator holds is. Missing facts widen the class.
    """
    curves = CURVES.get(str(facts.get("basis")), "datasheet")
    stack = facts.get("stack")
    if stack not in APART:
        stack = SAME_STACK.get(str(stack), stack)
    gpus, nodes, tokens = int(facts.get("gpus") or 1), int(facts.get("nodes") or 1), facts.get("tokens")
    scale = "one GPU" if gpus == 1 else "one node" if nodes == 1 else "several nodes"
    model = " · mixtures" if facts.get("mixture") else " · encoders" if facts.get("encoder") else ""
    if kind == "memory" and facts.get("lengths") == "varying" and not model:
        return (f"{stack} · {scale} · varying lengths", "varying lengths")
    steps = f"{'long' if tokens >= LONG_STEP else 'short'} steps" if tokens else None
    if kind == "memory":  # how fast a device is says nothing about memory
        named = [f"{stack} · {scale} · {steps}"] if stack and steps else []
        if named and facts.get("counter"):
            named = [f"{named[0]} · {facts['counter']}", *named]
        named += [f"{stack} · {scale}", f"{stack}"] if stack else []
        return tuple(name + model for name in (*named, scale, "all"))
    named = [f"{stack} · {scale} · {curves} · {steps}"] if stack and steps else []
    named += [f"{stack} · {scale} · {curves}", f"{stack} · {scale}", f"{stack} · {curves}"] if stack else []
    return tuple(name + model for name in (*named, f"{scale} · {curves}", curves))


def interval(kind: Kind, facts: Mapping[str, Any]) -> Interval:
    """The 90 % interval of an estimate.

    Arguments
    ---------
    kind: "time" (step time) or "memory" (peak).
    facts: see `class_names`; `device`: "processor" or "GPU". Time from a calibration has a class of its own where proofs of that kind of
        device were measured; elsewhere, the fitted classes stand in, which are wider.
    """
    if kind == "time" and facts.get("basis") == "calibrated":
        device = str(facts.get("device") or "GPU")
        entry = _calibrated().get(device)
        if entry is not None and entry["n"] >= MIN_ROWS and int(facts.get("gpus") or 1) == 1:
            note = f"n = {entry['n']}, median error {100 * entry['median']:.1f} % on training steps that no calibration saw, measured on {entry['device']}"
            name = f"calibrated {device}"
            return Interval(float(entry["low"]), float(entry["high"]), int(entry["n"]), float(entry["median"]), note, name)
    table = _table().get(kind, {})
    classes = table.get("classes", {})
    for name in class_names(kind, facts):
        entry = classes.get(name)
        if entry is not None and entry["n"] >= MIN_ROWS:
            return _interval(name, entry)
    low, high = UNSEEN[kind]
    return Interval(
        low, high, 0, None, "no measured runs of this class: a wide interval by judgement, not by fit", "unseen"
    )


def _interval(name: str, entry: Mapping[str, Any]) -> Interval:
    note = f"n = {entry['n']}, median error {100 * entry['median']:.1f} % on held-out published runs ({name})"
    return Interval(float(entry["low"]), float(entry["high"]), int(entry["n"]), float(entry["median"]), note, name)


@cache
def _calibrated() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(CALIBRATED.read_text(encoding="utf-8"))
    return table


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))
    return table
