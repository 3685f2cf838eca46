"""Ideas: changes of a run that people make, none of them judged yet.

The run is resolved: its fields hold what the engine used, so that an idea never proposes what already is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Final

from planner.advise import division
from planner.advise.idea import Change, Idea
from planner.catalog import Accelerator, accelerators, find_accelerator, price_for
from planner.errors import PlanError
from planner.estimate.result import Estimate
from planner.run import Run
from planner.summary import global_batch, gpu_name, precision_name

_MOST_GPUS: Final = 1024


def in_need(estimate: Estimate) -> bool:
    """Whether changes must first of all make the run fit. Where the memory of the device is not known they cannot, and speed counts."""
    return estimate.fits is not True and estimate.usable_memory_bytes is not None


def settings(run: Run) -> Iterator[Idea]:
    """Changes that need no other hardware. `run` is resolved: its fields hold what the engine used."""
    for kind in ("none", "selective", "full"):
        if kind != run.activation_checkpointing:
            change = {"activation_checkpointing": kind}
            yield Idea(
                f"{kind.capitalize()} activation checkpointing" if kind != "none" else "No activation checkpointing",
                "checkpointing",
                change,
            )
    yield from _micro_batches(run)
    if run.attention == "eager":
        for kernel, words in (("flash", "FlashAttention"), ("sdpa", "Fused attention (sdpa)")):
            yield Idea(f"{words} instead of eager attention", "attention", {"attention": kernel})
    yield from division.sharding(run)
    yield from division.degrees(run)
    if run.optimizer.startswith("adamw"):
        for name, words in (
            ("adamw-fused", "Fused AdamW"),
            ("adamw8bit", "8-bit AdamW"),
            ("adafactor", "Adafactor instead of AdamW"),
        ):
            if name != run.optimizer:
                yield Idea(words, "optimizer", {"optimizer": name})
    yield from _methods(run)
    yield from _precisions(run)


def _micro_batches(run: Run) -> Iterator[Idea]:
    batch = run.batch
    samples = batch.micro * batch.accumulation
    sizes = {size for size in (batch.micro // 2, 2 * batch.micro, 1) if size >= 1 and samples % size == 0} - {
        batch.micro
    }
    for size in sorted(sizes, reverse=True):
        accumulation = samples // size
        title = f"Micro batch {batch.micro} → {size}, accumulation {batch.accumulation} → {accumulation}"
        yield Idea(title, "batch", {"batch.micro": size, "batch.accumulation": accumulation})


def _methods(run: Run) -> Iterator[Idea]:
    if run.task != "sft":
        return
    name = run.method.name
    if name in ("full", "freeze"):
        before = "full fine-tuning" if name == "full" else "freezing layers"
        for low_rank, words in (("lora", "LoRA"), ("qlora", "QLoRA")):
            change: Change = {"method": {"name": low_rank, "rank": 16, "targets": "all-linear"}}
            if low_rank == "qlora" or (run.precision is not None and run.precision.weights == "fp32"):
                change["precision"] = None
            yield Idea(f"{words} (rank 16) instead of {before}", "method", change)
    elif name in ("lora", "qlora"):
        other, words = ("qlora", "QLoRA instead of LoRA") if name == "lora" else ("lora", "LoRA instead of QLoRA")
        yield Idea(words, "method", {"method.name": other, "precision": None})


def _precisions(run: Run) -> Iterator[Idea]:
    precision, peaks = run.precision, _peaks(run)
    if precision is None or run.method.name == "qlora":
        return
    half = "bf16" if "bf16" in peaks else "fp16" if "fp16" in peaks else None
    names = []
    if precision.compute == "fp32" and "tf32" in peaks:
        names.append("tf32")
    if precision.compute in ("fp32", "tf32") and half:
        names.append(f"{half}-mixed")
    if precision.weights == "fp32" and half == "bf16":
        names.append("bf16")
    if precision.compute == "bf16" and half == "fp16":
        names.append("fp16-mixed")
    now = precision_name(run)
    for name in names:
        if name != now:
            yield Idea(f"{name} instead of {now} precision", "precision", {"precision": name})


def _peaks(run: Run) -> Mapping[str, float]:
    part = _part(run)
    return part.peak_flops if part is not None else {}


def _part(run: Run) -> Accelerator | None:
    gpu = run.hardware.gpu
    name = gpu.get("base") if isinstance(gpu, dict) else gpu
    try:
        return find_accelerator(name) if isinstance(name, str) else None
    except PlanError:
        return None  # the device of a profile need not stand in the catalogue


def more_gpus(estimate: Estimate, checkpointing: bool = False) -> Iterator[Idea]:
    """The same accelerators, twice as many and on, with the global batch held where it divides.

    For a run that does not fit the states are sharded, because copies save no memory, and the micro batch shrinks before the accumulation does.
    """
    run, rescue = estimate.run, in_need(estimate)
    if run.hardware.groups:
        return  # which kind there would be more of is not said
    factor = 2
    while run.hardware.gpus * factor <= max(_MOST_GPUS, 2 * run.hardware.gpus):
        gpus = run.hardware.gpus * factor
        change: Change = {"hardware.gpus": gpus}
        title = f"{gpus} × {gpu_name(run)}"
        deepest = division.kinds_of_sharding(run)[0]
        if rescue and run.parallel.sharding != deepest:
            change["parallel.sharding"] = deepest
            title += ", fully sharded" if deepest == "zero3" else ", sharded optimizer"
        if checkpointing:
            change["activation_checkpointing"] = "full"
            title += ", full activation checkpointing"
        samples = run.batch.micro * run.batch.accumulation
        if samples % factor == 0:
            most = max(1, run.batch.micro // factor) if rescue else run.batch.micro
            micro = max(size for size in range(1, most + 1) if (samples // factor) % size == 0)
            change |= {"batch.micro": micro, "batch.accumulation": samples // factor // micro}
        else:
            title += f" (global batch {global_batch(run) * factor})"
        yield Idea(title, "gpus", change)
        factor *= 2


def hardware(estimate: Estimate, sharded: bool = False) -> Iterator[Idea]:
    """The next accelerators of the catalogue: with more memory when the run does not fit, faster ones for the money when it does.

    Candidates are parts of the same vendor that somebody rents out, so that the suggestion can be followed. `sharded` says that the states will be
    divided over the ranks, so that less memory is enough.
    """
    now = _part(estimate.run)
    if now is None or estimate.run.hardware.groups:
        return
    candidates = [
        (part, usd)
        for part, usd in _rented()
        if part.vendor == now.vendor and part.name != now.name and (part.year or 0) >= (now.year or 0)
    ]
    if in_need(estimate):
        need = 0.9 * estimate.peak_memory_interval_bytes[0] / (estimate.run.dp if sharded else 1)
        larger = [c for c in candidates if c[0].usable_memory_bytes > now.usable_memory_bytes]
        enough = [c for c in larger if c[0].usable_memory_bytes >= need]
        chosen = sorted(enough, key=lambda c: (c[0].usable_memory_bytes, c[1]))[:3]
    else:
        faster = [c for c in candidates if _rate(c[0]) > 1.2 * _rate(now)]
        roomy = [c for c in faster if c[0].usable_memory_bytes >= 0.9 * estimate.peak_reserved_bytes]
        chosen = sorted(roomy, key=lambda c: c[1] / _rate(c[0]))[:3]
    for part, _ in chosen:
        change: Change = {"hardware.gpu": part.name}
        if estimate.run.price.usd_per_gpu_hour is not None:
            change["price.usd_per_gpu_hour"] = None  # the user's price is that of the other accelerator
        yield Idea(f"{part.name} instead of {now.name}", "hardware", change)


@cache
def _rented() -> tuple[tuple[Accelerator, float], ...]:
    """Accelerators that have a price, with it [USD per hour]."""
    return tuple(
        (part, price.usd_per_gpu_hour) for part in accelerators() if (price := price_for(part.name)) is not None
    )


def _rate(part: Accelerator) -> float:
    return max(part.peak_flops.get(key, 0.0) for key in ("bf16", "fp16", "fp32"))


def pairs(estimate: Estimate) -> Iterator[Idea]:
    """Two changes that people make together."""
    run = estimate.run
    samples = run.batch.micro * run.batch.accumulation
    firsts = [idea for idea in division.sharding(run) if idea.change["parallel.sharding"] in ("zero3", "zero1")][:1]
    larger = list(hardware(estimate, sharded=bool(firsts)))[:2]
    firsts += [replace(idea, title=idea.title.split(" instead")[0]) for idea in _methods(run) if idea.change.get("method.name") != "lora"]
    if run.activation_checkpointing != "full":
        firsts.append(Idea("Full activation checkpointing", "checkpointing", {"activation_checkpointing": "full"}))
    if run.batch.micro > 1:
        firsts.append(Idea("Micro batch 1", "batch", {"batch.micro": 1, "batch.accumulation": samples}))
    if run.optimizer.startswith("adamw") and run.optimizer != "adamw8bit":
        firsts.append(Idea("8-bit AdamW", "optimizer", {"optimizer": "adamw8bit"}))
    for i, first in enumerate(firsts):
        for second in (*firsts[i + 1 :], *larger):
            if first.topic != second.topic:
                words = second.title.split(" instead")[0]
                words = words if second.topic in ("method", "hardware") else words[:1].lower() + words[1:]
                yield Idea(f"{first.title}, with {words}", f"{first.topic}+{second.topic}", first.change | second.change)
