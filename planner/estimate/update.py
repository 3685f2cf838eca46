"""The optimizer's step of one rank: what it updates, what it costs in states and scratch, and how long it takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from planner.device import DeviceProfile
from planner.device.measured import Host, Update
from planner.estimate.arrays import most
from planner.estimate.resolve import Resolved
from planner.workload import Workload
from planner.workload.graph import Kernel
from planner.workload.optimizers import Decomposition, Step, Task, Trained

_COLUMN_KERNELS = {"qr": 3.0, "eigh": 4.0, "svd": 8.0}
"""Kernels per column of a blocked factorisation on the device: panel reflections and their update (assumed from LAPACK's panel algorithms)."""
_FACTOR_FLOPS = {"qr": 8 / 3, "eigh": 9.0, "svd": 14.0}
"""FLOP of a factorisation with vectors, over rows · columns² (Golub & Van Loan, Matrix Computations, 4th ed., sec. 5.2, 8.3, 8.6)."""


def trained_parameters(w: Workload) -> tuple[Trained, ...]:
    """Everything that the optimizer updates, with its place in the model."""
    return tuple(
        Trained(p, float(stretch.count), stretch.name)
        for stretch in w.stretches
        for p in stretch.parameters
        if p.trainable and not p.idle
    )


def update_step(r: Resolved, trained: Iterable[Trained], share: float) -> Step:
    """The optimizer's step on this rank's share; it works on the stored type, or on fp32 masters."""
    task = Task(
        tuple(trained),
        master="fp32" if r.formats.master or r.formats.stored == "fp32" else "",
        fused=r.stack.optimizer == "fused",
        wide_embeddings=r.stack.wide_embedding_states,
        hidden=r.arch.hidden,
        heads=r.arch.heads,
        product="tf32" if r.formats.compute == "tf32" else "fp32",
        rank=r.run.optimizer_options.rank,
        every=r.run.optimizer_options.every,
        single=r.profile.synchronous,
        operators=r.stack.optimizer == "operators",
    )
    name = "adamw-fused" if task.fused and r.optimizer.name == "adamw" else r.optimizer.name
    return replace(r.adaptation.stepped(r.optimizer, task), name=name).share(share)


def update_seconds(profile: DeviceProfile, step: Step, trained: Sequence[Trained], dispatch: float) -> Any:
    """Time of the update without its products: measured of this optimizer where that was done, else its bytes at the rate of updates [s].

    dispatch: processor time of one operator [s].
    """
    measured = profile.measured
    if measured is not None and (known := _measured(measured.optimizer, measured.updates, step.name, step.moved, trained)) is not None:
        return known
    passes = max(1.0, step.kernels)
    busy = passes * profile.stream_seconds(step.moved / passes, "optimizer")
    return most(busy, step.kernels * dispatch)


def clip_seconds(profile: DeviceProfile, trained: Sequence[Trained], gradient_bytes: Any) -> Any:
    """Time of clipping by global norm: one pass for the norms, one to read and write [s].

    gradient_bytes: of this rank [bytes].
    """
    measured = profile.measured
    if measured is not None and (known := _measured(measured.clip, measured.updates, "clip", 3 * gradient_bytes, trained)) is not None:
        return known
    return profile.stream_seconds(gradient_bytes, "reduction") + profile.stream_seconds(2 * gradient_bytes, "elementwise")


def _measured(loops: dict[str, Host], queued: dict[str, Update], name: str, moved: Any, trained: Sequence[Trained]) -> Any:
    """Time of a step over all tensors that moves `moved` [bytes]: of a loop over them, else behind a queue; None where neither was measured [s]."""
    if loops and trained:
        per_element = moved / sum(t.parameter.numel * t.times for t in trained)
        seconds = 0.0
        for parameter, times, _ in trained:
            # the loop over tensors of this type, or the nearest that was measured: AdamW's, of any type
            host = loops.get(f"{name}/{parameter.dtype}") or loops.get(parameter.dtype) or next(iter(loops.values()))
            seconds += times * host.tensor(parameter.numel * per_element)
        return seconds + host.step_s
    if (known := queued.get(name)) is not None:  # the longer of issuing the step and of moving its bytes
        return most(known.step_s + known.tensor_s * sum(t.times for t in trained), moved / known.rate)
    return None


def product_seconds(profile: DeviceProfile, step: Step) -> tuple[float, float]:
    """Time and FLOP of the step's matrix products and factorisations on the device [s], [FLOP]."""
    seconds = flops = 0.0
    for kernel, times in step.products:
        seconds += times * _product(profile, kernel)
        flops += times * kernel.flops
    for decomposition in step.decompositions:
        one, work = _factor(profile, decomposition)
        seconds += decomposition.times * one
        flops += decomposition.times * work
    return seconds, flops


def _product(profile: DeviceProfile, kernel: Kernel) -> float:
    known = (kernel.dtype, "fp16", "fp32", "bf16")  # a TPU multiplies in bf16 alone
    dtype = next(d for d in known if profile.supports(d))
    return float(profile.matmul_seconds(kernel.m, kernel.n, kernel.k, dtype, batch=kernel.batch))


def _factor(profile: DeviceProfile, d: Decomposition) -> tuple[float, float]:
    """One factorisation: a chain of small kernels, one reflection after the other, beside the work of its products in fp32 [s], [FLOP]."""
    rows, columns = max(d.rows, d.columns), min(d.rows, d.columns)
    work = _FACTOR_FLOPS[d.kind] * rows * columns**2
    as_product = float(profile.matmul_seconds(rows, columns, columns, "fp32"))
    chain = _COLUMN_KERNELS[d.kind] * columns * profile.launch_seconds
    return chain + as_product * work / (2.0 * rows * columns**2), work
