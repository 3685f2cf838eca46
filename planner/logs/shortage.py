"""An out-of-memory message set beside the plan: was it foreseen, which term was missing or too small, and what else took the memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from planner.advise import apply
from planner.errors import PlanError
from planner.estimate.result import Estimate
from planner.logs.record import OutOfMemory
from planner.logs.tensors import Sized, matching, tensors
from planner.logs.trials import Trial
from planner.run import Run
from planner.units import GIB, MIB, format_bytes

SHORT: Final = 1.03
"""Least ratio of what was needed to the planned peak at which the plan is called short."""
_PARTS: Final = ("weights", "gradients", "optimizer", "activations", "logits", "master")
FRAGMENTED: Final = 256 * MIB
_PHASES: Final = (
    ("optimizer step", ("adam", "adamw", "optimizer", "_multi_tensor", "foreach", "sgd", "lion", "adafactor")),
    ("backward", ("backward", "_engine_run_backward", "run_backward", "unpack")),
    ("loss", ("loss", "cross_entropy", "log_softmax")),
    ("loading", ("from_pretrained", "load_state_dict", "_load", "convert", "to_empty", "_apply")),
    ("forward", ("forward", "attention", "linear", "_call_impl")),
)
"""Words of functions in a traceback, by the part of a step that they are of; the innermost frame that has one decides."""


@dataclass(frozen=True, slots=True)
class Cause:
    """key: its name · sentence: with the arithmetic · remedy: what to change · change: of the plan, where it was another run."""

    key: str
    title: str
    sentence: str
    remedy: str = ""
    change: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Shortage:
    """foreseen: whether the plan said that it does not fit; None where it was too close to call · needed: least memory of tensors [bytes] ·
    phase: of the step, by the traceback."""

    verdict: Literal["foreseen", "not foreseen", "too close to call", "unknown"]
    sentence: str
    needed: float | None
    planned: float
    phase: str
    causes: tuple[Cause, ...]


def shortage(run: Run, plan: Estimate, message: OutOfMemory, trials: Sequence[tuple[Trial, Estimate]]) -> Shortage:
    """What an out-of-memory message says of a plan. trials: other runs it may have been, with their estimates."""
    needed = None if message.allocated is None or message.tried is None else message.allocated + message.tried
    phase = _phase(message.frames)
    causes = [*_room(plan, message), *_sizes(run, message, trials), *_terms(plan, message, needed, trials)]
    said = {True: "not foreseen", False: "foreseen", None: "too close to call"}[plan.fits] if plan.usable_memory_bytes is not None else "unknown"
    words = {
        "not foreseen": "The plan said that it fits, and it did not",
        "foreseen": "As planned, it does not fit",
        "too close to call": "The plan called it too close to tell, and it did not fit",
        "unknown": "The plan does not know the memory of this device",
    }
    parts = [words[said]]
    if needed is not None:
        parts.append(
            f"tensors held {format_bytes(message.allocated)} and {format_bytes(message.tried)} more were asked for: at least "
            f"{format_bytes(needed)} were needed, the planned peak is {format_bytes(plan.peak_memory_bytes)}"
        )
    elif message.tried is not None:
        parts.append(f"{format_bytes(message.tried)} were asked for")
    return Shortage(
        said,  # type: ignore[arg-type]
        ": ".join((parts[0], "; ".join(parts[1:]))) + (f", in the {phase}" if phase else "") + ".",
        needed, plan.peak_memory_bytes, phase, tuple(causes),
    )  # fmt: skip


def _phase(frames: Sequence[str]) -> str:
    for frame in reversed(frames):
        low = frame.lower()
        for phase, words in _PHASES:
            if any(word in low for word in words):
                return phase
    return ""


def _room(plan: Estimate, message: OutOfMemory) -> list[Cause]:
    """Memory of the device that was not for this run's tensors."""
    found = []
    context = float(plan.details.get("context_bytes") or 0.0)
    sticker = plan.details.get("sticker_memory_bytes") or plan.usable_memory_bytes
    if message.total and sticker and abs(message.total / sticker - 1) > 0.1:
        sentence = f"The message is of a device with {format_bytes(message.total)}, the plan of one with {format_bytes(float(sticker))}."
        found.append(Cause("device", "Another device", sentence))
    if message.others and message.others > 0.01 * (message.total or message.others):
        found.append(
            Cause(
                "others", "Other processes on the device",
                f"Other processes held {format_bytes(message.others)} of it, which no plan of this run counts.", "End them, or choose another device.",
            )
        )  # fmt: skip
    if (outside := message.outside) is not None and outside > context + 0.5 * GIB:
        found.append(
            Cause(
                "outside", "Memory outside PyTorch's allocator",
                f"{format_bytes(outside)} of this process were held outside PyTorch's allocator (CUDA context, NCCL, libraries); the plan counts "
                f"{format_bytes(context)}.",
            )
        )  # fmt: skip
    if message.unallocated and message.unallocated > FRAGMENTED:
        enough = message.tried is not None and message.unallocated >= message.tried
        reserve = plan.peak_reserved_bytes - plan.peak_memory_bytes
        found.append(
            Cause(
                "fragmented", "Fragmented memory",
                f"{format_bytes(message.unallocated)} were reserved and in use by no tensor"
                + (f", more than the {format_bytes(message.tried)} asked for, but in pieces" if enough else "")
                + f"; the plan counts {format_bytes(reserve)} for it.",
                "Set PYTORCH_ALLOC_CONF=expandable_segments:True; pack or bucket samples, so that sizes repeat.",
            )
        )  # fmt: skip
    if message.limit:
        allowed = f"The process was allowed {format_bytes(message.limit)}."
        found.append(Cause("limit", "A limit on this process", allowed, "Raise set_per_process_memory_fraction."))
    return found


def _sizes(run: Run, message: OutOfMemory, trials: Sequence[tuple[Trial, Estimate]]) -> list[Cause]:
    """Tensors that have the size that was asked for: of the plan, else of what may have run in its place."""
    if message.tried is None:
        return []
    if found := matching(_tensors(run), message.tried):
        return [Cause("tensor", "The tensor that was asked for", _named(message.tried, found) + " The plan counts it.")]
    for trial, _ in trials:
        try:
            changed = apply(run, trial.change)
        except PlanError:
            continue
        if found := matching(_tensors(changed), message.tried):
            sentence = f"{_named(message.tried, found)} The plan has no such tensor; with this change it has."
            return [Cause("tensor", f"The tensor that was asked for: {trial.name}", sentence, trial.remedy, trial.change)]
    return []


def _tensors(run: Run) -> list[Sized]:
    try:
        return tensors(run)
    except PlanError:
        return []


def _named(tried: float, found: Sequence[Sized]) -> str:
    names = list(dict.fromkeys(one.name for one in found))
    others = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return f"{format_bytes(tried)} is the size of {' or of '.join(names[:2])}{others}: {found[0].formula}."


def _terms(plan: Estimate, message: OutOfMemory, needed: float | None, trials: Sequence[tuple[Trial, Estimate]]) -> list[Cause]:
    """Where the plan's peak is too small for what was needed: runs whose peak is not."""
    if needed is None or needed <= SHORT * plan.peak_memory_bytes:
        if needed is not None and plan.fits is not False:
            sentence = "What was needed lies within the planned peak: the room was smaller than planned, not the run larger."
            return [Cause("covered", "The planned peak covers it", sentence)]
        return []
    found = []
    for trial, changed in trials:
        parts = {name: changed.total(f"memory/{name}") - plan.total(f"memory/{name}") for name in _PARTS}
        if changed.peak_memory_bytes < needed / SHORT or changed.peak_memory_bytes > 2.5 * needed:
            continue
        name = max(parts, key=lambda part: parts[part])
        if parts[name] <= 0:
            continue
        found.append(
            Cause(
                trial.key, trial.title,
                f"The plan is at least {format_bytes(needed - plan.peak_memory_bytes)} short. With {trial.name} it says "
                f"{format_bytes(changed.peak_memory_bytes)}: {format_bytes(parts[name])} more of {name}.",
                trial.remedy, trial.change,
            )
        )  # fmt: skip
    found.sort(key=lambda cause: cause.key not in ("eager", "unfused", "fp32", "fp32-weights"))
    if not found:
        short = format_bytes(needed - plan.peak_memory_bytes)
        sentence = f"The plan is at least {short} short, and none of {len(trials)} other ways to run it explains that."
        found = [Cause("short", "Larger than planned", sentence)]
    return found[:4]
