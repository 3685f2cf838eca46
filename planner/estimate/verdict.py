"""What follows from peak memory and data: reserved memory, whether the run fits, how many steps it has."""

from __future__ import annotations

import math
from typing import Final

from planner.estimate.constants import by_stack
from planner.estimate.shape import Shape
from planner.run import Run
from planner.units import format_bytes

FITS: Final = {True: "fits", None: "too close to call", False: "does not fit"}
"""A verdict in words."""


def reserved_of(allocated: float, stack: str) -> float:
    """What the caching allocator holds at the peak: whole 2 MiB segments and the share of them that no tensor fills [bytes]."""
    segment = 2 * 2**20
    return -(-allocated * (1 + by_stack("reserved_slack", stack)) // segment) * segment


def verdict_of(reserved: float, interval: tuple[float, float], usable: float | None) -> tuple[bool | None, str]:
    """True or False when the whole interval is on one side of the usable memory, None when it straddles it.

    Allocated may come close to the limit before the allocator fails, since it then gives cached segments back; the reserved peak is compared.
    """
    if usable is None:
        return None, "The memory of this device is not known to the plan."
    if interval[1] <= usable:
        return True, f"{format_bytes(usable - reserved)} of {format_bytes(usable)} to spare on each accelerator."
    if reserved > usable and interval[0] > usable * 0.98:
        return False, f"{format_bytes(reserved - usable)} over the usable {format_bytes(usable)} on each accelerator."
    if reserved > usable:
        return (
            False,
            f"{format_bytes(reserved - usable)} over the usable {format_bytes(usable)} on each accelerator, though the error band reaches below it.",
        )
    return (
        None,
        f"Too close to call: {format_bytes(reserved)} of {format_bytes(usable)} usable, and the 90 % interval reaches {format_bytes(interval[1])}.",
    )


def steps_of(run: Run, shape: Shape, samples_per_step: int, tokens_per_step: int) -> int | None:
    """Optimizer steps of the whole run, rounded up: by tokens where samples are packed to full sequences, else by samples."""
    data = run.data
    if data is None:
        return None
    if not shape.packed:
        samples = data.samples if data.samples is not None else (data.tokens or 0) / shape.mean
        return max(1, math.ceil(samples * data.epochs / samples_per_step))
    tokens = data.tokens if data.tokens is not None else (data.samples or 0) * shape.mean
    return max(1, math.ceil(tokens * (1 - shape.cut) * data.epochs / tokens_per_step))
