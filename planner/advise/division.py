"""Ideas that divide the work otherwise: sharded states, and the degrees of tensor, pipeline and context parallelism.

The accelerators and the global batch stay as they are: what tensor or pipeline ranks are given up become data-parallel copies, which take so much
fewer micro steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from planner.advise.idea import Change, Idea
from planner.run import Run
from planner.workload.stacks import STACKS

NAMES: Final = {
    "zero3": "Fully sharded states (ZeRO-3, FSDP)",
    "zero2": "Sharded gradients and optimizer (ZeRO-2)",
    "zero1": "Sharded optimizer states (ZeRO-1)",
    "ddp": "Unsharded copies (DDP)",
}
WORDS: Final = {"tp": "Tensor parallel", "pp": "Pipeline stages", "cp": "Context parallel"}


def kinds_of_sharding(run: Run) -> tuple[str, ...]:
    """How states may sensibly be shared. Under pipeline stages weights and gradients would travel once per micro batch, and some stacks
    divide the optimizer's states alone: there ZeRO-1."""
    stack = STACKS.get(run.stack)
    if run.parallel.pp > 1 or (stack is not None and stack.deepest_sharding == "zero1"):
        return "zero1", "ddp"
    return "zero3", "zero2", "ddp"


def _pipelines(run: Run) -> bool:
    """Whether the run's stack trains with pipeline stages."""
    stack = STACKS.get(run.stack)
    return stack is None or stack.pipelines


def sharding(run: Run) -> Iterator[Idea]:
    """Other ways to share states among data-parallel ranks."""
    if run.dp == 1:
        return
    for kind in kinds_of_sharding(run):
        if kind != run.parallel.sharding:
            yield Idea(NAMES[kind], "sharding", {"parallel.sharding": kind})


def degrees(run: Run) -> Iterator[Idea]:
    """Twice or half of a degree that the run has, chunks and sequence parallelism that fit to it."""
    p = run.parallel
    for name, words in WORDS.items():
        now = getattr(p, name)
        for other in (now // 2, 2 * now) if now > 1 else ():
            if name == "pp" and other > now and not _pipelines(run):
                continue
            if name == "tp" and other > (run.hardware.gpus_per_node or other):
                continue  # beyond a machine the sums of every layer cross the network
            change = _held(run, name, other)
            if change is not None:
                yield Idea(f"{words} {now} → {other}", "division", change)
    if p.tp > 1 and not p.sequence_parallel:
        yield Idea("Sequence parallelism beside tensor parallelism", "sequence parallel", {"parallel.sequence_parallel": True})
    if p.pp > 1 and p.stages is None:
        for chunks in dict.fromkeys((2, 2 * p.virtual_pp)):
            if chunks != p.virtual_pp and p.schedule in ("1f1b", "interleaved"):
                change = {"parallel.virtual_pp": chunks, "parallel.schedule": None}
                yield Idea(f"{chunks} chunks a stage (interleaved)", "schedule", change)


def smaller_parts(run: Run, checkpointing: bool = False) -> Iterator[Idea]:
    """More model parallelism on the same accelerators, the least first: tensor parallel within a machine, and pipeline stages."""
    p, here = run.parallel, run.parallel.tp * run.parallel.pp
    machine = run.hardware.gpus_per_node or run.hardware.gpus
    pairs = [(tp, pp) for tp in _DEGREES if p.tp <= tp <= machine for pp in _DEGREES if p.pp <= pp and tp * pp > here and (pp == p.pp or _pipelines(run))]
    for tp, pp in sorted(pairs, key=lambda pair: (pair[0] * pair[1], pair[1]))[:_MOST_PAIRS]:
        change = _held(run, "tp", tp, {"pp": pp})
        if change is None:
            continue
        if pp != p.pp:
            change |= {"parallel.stages": None, "parallel.schedule": None, "parallel.virtual_pp": 1}
        if tp > 1:
            change["parallel.sequence_parallel"] = True
        if pp > 1 and p.sharding in ("zero2", "zero3", "hsdp"):
            change["parallel.sharding"] = "zero1"
        title = f"Tensor parallel {tp}" + (f", {pp} pipeline stages" if pp > 1 else "")
        if checkpointing:
            change["activation_checkpointing"] = "full"
            title += ", full activation checkpointing"
        yield Idea(title, "division", change)


_DEGREES: Final = (1, 2, 4, 8, 16, 32)
_MOST_PAIRS: Final = 8


def _held(run: Run, name: str, degree: int, more: dict[str, int] | None = None) -> Change | None:
    """The change of a degree, and of more, with the global batch held; None where accelerators or micro steps cannot be divided so."""
    p, batch, gpus = run.parallel, run.batch, run.hardware.gpus
    model = math.prod(({"tp": p.tp, "pp": p.pp, "cp": p.cp, name: degree} | (more or {})).values())
    samples = batch.micro * batch.accumulation * run.dp
    if degree < 1 or gpus % model or samples % (gpus // model * batch.micro):
        return None
    change: dict[str, Any] = {f"parallel.{key}": value for key, value in {name: degree, **(more or {})}.items()}
    change["batch.accumulation"] = samples // (gpus // model) // batch.micro
    if name == "tp" and degree == 1 and p.sequence_parallel:
        change["parallel.sequence_parallel"] = False
    if name == "cp" and degree == 1:
        change["parallel.cp_kind"] = None
    if name == "pp":
        change |= {"parallel.stages": None}
        if degree == 1:
            change |= {"parallel.virtual_pp": 1, "parallel.schedule": None}
    if gpus == model and p.cp == 1 and p.sharding not in (None, "none", "ddp"):
        change["parallel.sharding"] = None
    return change
