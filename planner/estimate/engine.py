"""The one place that joins workload, profile and evidence into an `Estimate`."""

from __future__ import annotations

import math
from dataclasses import replace

from planner.device import DeviceProfile
from planner.estimate.assemble import assemble
from planner.estimate.fleet import estimate_fleet
from planner.estimate.observed import Observed
from planner.estimate.offload import add_time, host_bytes, offload_of
from planner.estimate.ranks import rank_class, setting_of, shares_of, whole_model
from planner.estimate.resolve import resolve
from planner.estimate.result import Estimate
from planner.estimate.shape import shape_of
from planner.estimate.stages import stages_of
from planner.estimate.step import time_of
from planner.run import Run
from planner.workload.split import Split


def estimate(run: Run, profile: DeviceProfile | None = None, observed: Observed | None = None) -> Estimate:
    """What a run takes: does it fit, how long, how much memory, money and energy.

    run: what to do · profile: measured curves of the device; left out, those of the catalog · observed: steps of this very run that were
    measured on that device (`planner.evidence.kin.stands_on`).
    Raises `PlanError` for input that cannot be planned; not fitting is an answer.
    """
    if run.hardware.groups:
        return estimate_fleet(run, profile)
    resolved = resolve(run, profile)
    text = resolved.run.batch.seq_len or 0
    shape = shape_of(resolved.run, text, resolved.arch.sample_tokens(resolved.run.batch) - text)
    setting = setting_of(resolved, shape.longest)
    p = resolved.run.parallel
    stages = stages_of(
        setting, resolved.head, resolved.run.activation_checkpointing, p.pp, p.virtual_pp, p.schedule, p.stages
    )
    offload = offload_of(resolved)
    classes = [rank_class(resolved, stage, offload) for stage in stages]
    largest = max(range(len(classes)), key=lambda i: max(m.total for m in classes[i].moments))
    worst, timed = classes[largest], classes
    if not shape.packed:
        average = setting_of(resolved, shape.timed)
        again = stages_of(
            average, resolved.head, resolved.run.activation_checkpointing, p.pp, p.virtual_pp, p.schedule, p.stages
        )
        timed = [replace(c, stage=stage) for c, stage in zip(classes, again, strict=True)]
    whole = worst.workload if len(classes) == 1 and setting.split == Split() else whole_model(resolved, shape.timed)
    timing = time_of(resolved, timed, timed[largest], shape.timed)
    if offload.any or worst.step.paged:
        usable = (resolved.usable_memory or math.inf) - worst.detail.context
        over = max(m.total for m in worst.moments) + sum(worst.step.paged.values()) - usable
        share = shares_of(resolved).optimizer
        add_time(timing, resolved, timed[largest].workload, offload, worst.trained, worst.step, share, worst.away, over)
    host = host_bytes(
        resolved, worst.workload, offload, worst.trained, worst.step, shares_of(resolved).optimizer, worst.away
    )
    return assemble(resolved, whole, classes, worst, timing, host, shape, observed)
