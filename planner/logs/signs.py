"""What a log itself shows to have taken time or memory: seen, not inferred; each with its arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from planner.estimate.result import Estimate
from planner.evidence.agreement import unsteady
from planner.logs.seen import Seen
from planner.units import GIB, format_bytes, format_percent, format_seconds, significant

LEAST: Final = 0.02
"""Share of a step from which waiting for data is named."""
SLOW_CLOCK: Final = 0.97
IDLE: Final = 0.85
"""Mean utilisation below which a device is called idle in part."""


@dataclass(frozen=True, slots=True)
class Sign:
    """key: its name · seconds: of a step that it explains, None where it is no part of a step · sentence: with the arithmetic · change: of the plan."""

    key: str
    title: str
    sentence: str
    seconds: float | None = None
    remedy: str = ""
    change: dict[str, Any] = field(default_factory=dict)


def signs(plan: Estimate, seen: Seen) -> Iterator[Sign]:
    """All that the logs show. plan: with what they are certain of in it."""
    yield from _data(plan, seen)
    yield from _clock(plan, seen)
    yield from _start_and_pauses(seen)
    yield from _memory(plan, seen)
    yield from _padding(plan, seen)


def _data(plan: Estimate, seen: Seen) -> Iterator[Sign]:
    steps = seen.steps
    if steps is not None and seen.data is not None and seen.data > LEAST * steps.median:
        tokens = plan.details.get("tokens_per_step")
        change = {"whole_run.loader_tokens_per_s": float(f"{tokens / steps.median:.3g}")} if tokens and seen.data > 0.1 * steps.median else {}
        yield Sign(
            "data", "Waiting for data",
            f"The log says {format_seconds(seen.data)} of every step were waited for data: {format_seconds(steps.median)} less {format_seconds(seen.data)} "
            f"leave {format_seconds(max(0.0, steps.median - seen.data))} for the step itself.",
            min(seen.data, steps.median), "Load with more workers (dataloader_num_workers), pin memory, or tokenise beforehand.", change,
        )  # fmt: skip
    told = seen.telemetry
    if told is not None and told.utilisation is not None and told.utilisation < IDLE and told.samples >= 5:
        yield Sign(
            "idle", "An idle device",
            f"The device ran a kernel in {format_percent(told.utilisation)} of the samples ({told.where}); for the rest it waited for the host: data, "
            "evaluation, checkpoints, or launches of small kernels.",
            None, "Load data with more workers; a larger micro batch or torch.compile where kernels are small.",
        )  # fmt: skip


def _clock(plan: Estimate, seen: Seen) -> Iterator[Sign]:
    told = seen.telemetry
    if told is None or not told.samples:
        return
    products = sum(term.value for term in plan.terms if term.name.startswith("time/") and term.name.endswith(("/matmul", "/attention")))
    slow = told.clock is not None and told.clock_limit is not None and told.clock < SLOW_CLOCK * told.clock_limit
    if not slow and not (told.throttled or 0) > 0.1:
        return
    parts = []
    if told.throttled:
        parts.append(f"throttled in {format_percent(told.throttled)} of the samples")
    if told.power and told.power_limit:
        parts.append(f"{told.power:.0f} W of {told.power_limit:.0f} W")
    seconds = None
    sentence = f"Under load ({told.where}) the device was " + (", ".join(parts) or "below its clock")
    if slow and told.clock and told.clock_limit:
        seconds = products * (told.clock_limit / told.clock - 1)
        sentence += (
            f"; its clock {told.clock / 1e6:.0f} of {told.clock_limit / 1e6:.0f} MHz. The planned {format_seconds(products)} of matrix products and "
            f"attention at that clock take up to {format_seconds(seconds)} more, where the plan's rates are not of a board that throttles as this one"
        )
    yield Sign("throttled", "A throttled device", sentence + ".", seconds, "Cool the device, raise its power limit, or plan with a profile measured on it.")


def _start_and_pauses(seen: Seen) -> Iterator[Sign]:
    steps = seen.steps
    if steps is None:
        return
    if steps.warm_steps and steps.warm_seconds > 0.25 * steps.median:
        yield Sign(
            "warm-up", "First steps",
            f"{'The first step' if steps.warm_steps == 1 else f'The first {steps.warm_steps} steps'} took {format_seconds(steps.warm_seconds)} more than "
            "later ones (compilation, autotuning, caches); that is not in the step time that is compared.",
            change={"whole_run.warmup_s": float(f"{steps.warm_seconds:.3g}")},
        )  # fmt: skip
    for kind, title in (("evaluation or checkpoint", "Evaluations and checkpoints"), ("evaluation", "Evaluations"), ("unknown", "Pauses")):
        of_kind = [pause for pause in steps.pauses if pause.kind == kind and pause.seconds > 0]
        if total := sum(pause.seconds for pause in of_kind):
            share = f", {format_percent(total / seen.wall)} of the time that the log tells of" if seen.wall else ""
            known = kind != "unknown"
            what = "beside an evaluation or a checkpoint" if known else "that the log does not explain (a stalled loader, a busy host, another process)"
            yield Sign(
                f"pauses-{kind.partition(' ')[0]}", title,
                f"{len(of_kind)} {'entry' if len(of_kind) == 1 else 'entries'} {what} took {format_seconds(total)} more{share}, the first at "
                f"{of_kind[0].where}; not in the step time that is compared.",
            )  # fmt: skip
    if unsteady(steps.low, steps.median, steps.high):
        yield Sign(
            "unsteady", "Unsteady steps",
            f"The middle half of the steps lies between {format_seconds(steps.low)} and {format_seconds(steps.high)}: lengths of the samples, a busy host or a "
            "shared device.",
            None, "Pack the samples, or group them by length.",
        )  # fmt: skip


def _memory(plan: Estimate, seen: Seen) -> Iterator[Sign]:
    if seen.retries:
        yield Sign(
            "retries", "Allocations that were tried again",
            f"The allocator emptied its cache and tried again {seen.retries:.0f} times: memory is full, and each time stops the device.",
            None, "Use a smaller micro batch or activation checkpointing, or PYTORCH_ALLOC_CONF=expandable_segments:True.",
        )  # fmt: skip
    told, context = seen.telemetry, float(plan.details.get("context_bytes") or 0.0)
    own = seen.reserved or (plan.peak_reserved_bytes if seen.allocated is None else None)
    if told is not None and told.used and own and (others := told.used - own - context) > max(GIB, 0.1 * told.used):
        yield Sign(
            "others", "Memory that is not this run's",
            f"The driver counts {format_bytes(told.used)} in use: {format_bytes(own)} {'reserved' if seen.reserved else 'planned'} and "
            f"{format_bytes(context)} of context leave {format_bytes(others)} to other processes or libraries.",
            None, "See with nvidia-smi what else runs there; it takes time as well as memory.",
        )  # fmt: skip


def _padding(plan: Estimate, seen: Seen) -> Iterator[Sign]:
    planned = plan.details.get("tokens_per_step")
    if seen.tokens and planned and seen.tokens < 0.97 * planned:
        share = 1 - seen.tokens / planned
        yield Sign(
            "padding", "Fewer tokens than planned",
            f"The log counts {significant(seen.tokens)} tokens a step, the plan {planned:,.0f}: {format_percent(share)} of the planned positions held "
            "padding or were not there.",
            None, "Pack the samples (packing=True), or give their lengths to the plan.",
        )  # fmt: skip
