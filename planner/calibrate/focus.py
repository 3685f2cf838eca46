"""Which cases the run at hand turns on: its own products and attention, the slowest first."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from planner.calibrate.benchmarks import Case
from planner.calibrate.benchmarks.attention import attention_case
from planner.calibrate.benchmarks.matmul import formats, product_case
from planner.calibrate.hardware import Hardware, open_hardware
from planner.calibrate.prior import prior_profile
from planner.device import DeviceProfile
from planner.estimate.ranks import whole_model
from planner.estimate.resolve import resolve
from planner.run import Run
from planner.workload.graph import Kernel

MOST = 40
"""More cases than this leave a short budget nothing for the rest."""


def cases_of(run: Run, device: str) -> list[tuple[str, Case]]:
    """(benchmark, case) of the run's kernels, by the time that the profile before measuring gives them.

    Errors: PlanError for a run that cannot be planned.
    """
    hardware = open_hardware(device)
    profile = prior_profile(hardware, ())
    spent: dict[Kernel, float] = defaultdict(float)
    resolved = resolve(run, profile)
    for stretch in whole_model(resolved, resolved.run.batch.seq_len or 0).stretches:
        for operation in stretch.operations:
            for kernel in (*operation.forward, *(operation.backward if operation.grads else ())):
                if kernel.kind in ("matmul", "attention"):
                    spent[_bare(kernel)] += stretch.count * kernel.times * _seconds(profile, kernel)
    ordered = sorted(spent, key=lambda kernel: -spent[kernel])[:MOST]
    return [case for kernel in ordered if (case := _case(hardware, kernel)) is not None]


def _bare(kernel: Kernel) -> Kernel:
    extra = tuple(sorted(kernel.extra.items())) if isinstance(kernel.extra, dict) else None
    return kernel._replace(times=1.0, extra=extra)


def _seconds(profile: DeviceProfile, kernel: Kernel) -> float:
    dtype = kernel.dtype if profile.supports(kernel.dtype) else "fp32"
    if kernel.kind == "matmul":
        return float(profile.matmul_seconds(kernel.m, kernel.n, kernel.k, dtype, batch=kernel.batch))
    shape: dict[str, Any] = dict(kernel.extra)
    return float(profile.attention_seconds(**shape, dtype=dtype, backward=kernel.layout == "backward"))


def _case(hardware: Hardware, kernel: Kernel) -> tuple[str, Case] | None:
    if kernel.dtype not in formats(hardware):
        return None
    if kernel.kind == "matmul":
        m, n, k, batch = (round(v) for v in (kernel.m, kernel.n, kernel.k, kernel.batch))
        name = "batched" if batch > 1 else "matmul"
        return name, product_case(hardware, m, n, k, kernel.dtype, kernel.layout, batch)
    shape = dict(kernel.extra or ())
    if shape["q_len"] != shape["kv_len"] or shape["heads"] != shape["kv_heads"] or shape["window"]:
        return None  # the grid's full heads stand for these
    sizes = tuple(round(shape[name]) for name in ("batch", "heads", "q_len", "head_dim"))
    return "attention", attention_case(hardware, sizes, kernel.dtype, bool(shape["causal"]), kernel.layout == "backward")
