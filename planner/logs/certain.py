"""What a log is certain of and the plan says otherwise: written into the plan before anything is judged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from planner.catalog import identify
from planner.estimate.result import Estimate
from planner.logs.seen import Seen


@dataclass(frozen=True, slots=True)
class Correction:
    """A change of the plan, and what in the log says so."""

    title: str
    change: dict[str, Any]
    why: str


def corrections(plan: Estimate, seen: Seen) -> Iterator[Correction]:
    """Changes of a plan by what a log says of the run itself."""
    yield from _device(plan, seen)
    yield from _batch(plan, seen)
    length = plan.run.batch.seq_len
    if seen.sequence and length and seen.sequence == int(seen.sequence) and int(seen.sequence) != length:
        yield Correction(f"Sequences of {int(seen.sequence):,} tokens", {"batch.seq_len": int(seen.sequence)}, f"the log says so, and the plan {length:,}")


def _device(plan: Estimate, seen: Seen) -> Iterator[Correction]:
    total = seen.telemetry.total if seen.telemetry is not None else None
    known = None if seen.device is None else identify(seen.device, None if total is None else round(total))
    if known is not None and plan.details.get("accelerator") not in (None, known.name) and isinstance(plan.run.hardware.gpu, str | None):
        yield Correction(f"{known.name}", {"hardware.gpu": known.name}, f"the driver says {seen.device}, the plan {plan.details['accelerator']}")


def _batch(plan: Estimate, seen: Seen) -> Iterator[Correction]:
    batch, ranks = plan.run.batch, int(plan.details.get("dp") or 1)
    micro, accumulation = batch.micro, batch.accumulation
    if seen.micro and seen.micro == int(seen.micro) and int(seen.micro) != micro and 0 < seen.micro < 10**6:
        micro = int(seen.micro)
        yield Correction(f"Micro batch of {micro}", {"batch.micro": micro}, f"the log says so, and the plan {batch.micro}")
    if not seen.global_batch or seen.global_batch == micro * accumulation * ranks or seen.global_batch != int(seen.global_batch):
        return
    whole = int(seen.global_batch)
    why = f"the log says {whole:,} samples a step, the plan {batch.micro * batch.accumulation * ranks:,}"
    if whole % (micro * ranks) == 0 and whole // (micro * ranks) < 10**6:
        yield Correction(f"Global batch of {whole:,}: accumulation {whole // (micro * ranks)}", {"batch.accumulation": whole // (micro * ranks)}, why)
    elif whole % ranks == 0 and whole // ranks < 10**6:
        yield Correction(f"Global batch of {whole:,}: micro batch {whole // ranks}", {"batch.micro": whole // ranks, "batch.accumulation": 1}, why)
