"""From moments and seconds to an `Estimate`: figures, terms, intervals and details."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from planner.estimate import ledger, uncertainty, whole_run_terms
from planner.estimate.curve import Curve, StageView
from planner.estimate.fragmentation import fragmented
from planner.estimate.money import Rate, bill, hourly_rate, usd_per_hour
from planner.estimate.observed import Observed, scale
from planner.estimate.offload import HostBytes
from planner.estimate.ranks import RankClass
from planner.estimate.resolve import Resolved
from planner.estimate.result import Estimate, Term
from planner.estimate.shape import Shape
from planner.estimate.time import StepTime, model_flops
from planner.estimate.verdict import reserved_of, steps_of, verdict_of
from planner.estimate.whole_run import checkpoint_bytes, course_of, forward_seconds
from planner.estimate.words import NOT_MODELLED, assumptions_of, host_warnings, limits_of, summary_of, warnings_of
from planner.workload import Workload

_PHASES = {
    "forward": "forward",
    "backward": "backward",
    "recompute": "recomputation before backward",
    "optimizer": "the optimizer step",
}


def assemble(
    r: Resolved,
    w: Workload,
    classes: Sequence[RankClass],
    worst: RankClass,
    timing: StepTime,
    host: HostBytes,
    shape: Shape,
    observed: Observed | None = None,
) -> Estimate:
    """The estimate of a run whose memory and time are known. observed: measured steps of this run, which then stand for the time."""
    measured = () if observed is None else (scale(timing, observed),)
    run, batch = r.run, r.run.batch
    moments, detail = worst.moments, worst.detail
    peak = max(moments, key=lambda m: m.total)
    allocated = peak.total
    reserved = reserved_of(allocated, r.stack.name)
    routed = r.arch.experts is not None
    usable = None if r.usable_memory is None else r.usable_memory - detail.context
    facts = facts_of(r, shape)
    time_range, memory_range = uncertainty.interval("time", facts), uncertainty.interval("memory", facts)
    seconds = timing.total
    samples = batch.micro * batch.accumulation * run.dp
    tokens = round(samples * shape.real)
    steps = steps_of(run, shape, samples, tokens)
    forward = forward_seconds(timing.seconds)
    course = None
    if steps is not None:
        course = course_of(r, checkpoint_bytes(r, w), steps, seconds, forward, tokens, run.hardware.gpus, run.hardware.machines)
    total = None if course is None or math.isnan(course.total) else float(course.total)
    low, high = seconds * time_range.low_ratio, seconds * time_range.high_ratio
    time_note = time_range.note
    if observed is not None:
        low, high, time_note = observed.low, observed.high, observed.note(time_range.note)
    memory_interval = (reserved * memory_range.low_ratio, reserved * memory_range.high_ratio)
    fits, reason = verdict_of(reserved, memory_interval, usable)
    alone = w is worst.workload
    flops = {
        key: value * run.dp for key, value in (timing.flops if alone else model_flops(w, batch.accumulation)).items()
    }
    useful = sum(v for (phase, _), v in flops.items() if phase not in ("recompute", "optimizer"))
    peak_rate = r.profile.peak_flops.get(r.formats.product)
    if r.fleet:
        rates = [(m.share, m.profile.peak_flops.get(r.formats.product)) for m in r.fleet]
        peak_rate = None if any(rate is None for _, rate in rates) else sum(share * (rate or 0.0) for share, rate in rates)
    rate = hourly_rate(r)
    busy = sum(v for (_, kind), v in timing.seconds.items() if kind in ("matmul", "attention")) / seconds
    if course is not None and total is not None:
        busy *= float(course.busy)
    cost, energy, hours, watts, lines = bill(r, rate, None if total is None else total * run.hardware.gpus, busy)
    terms: list[Term] = []
    terms += ledger.parameter_terms(w)
    terms += ledger.memory_terms(r, worst.workload, peak, detail.parts)
    terms += ledger.host_terms(host.parts, r.run.hardware.gpus_per_node or 1)
    terms += ledger.reserved_terms(allocated, reserved, detail.context, r.stack.name)
    terms += ledger.flop_terms(r, w, flops)
    terms += ledger.time_terms(r, timing)
    if course is not None and total is not None:
        terms += whole_run_terms.course_terms(r, course)
    terms += whole_run_terms.cost_terms(r, rate, lines, hours, energy)
    terms += ledger.energy_terms(r, watts, hours, energy)
    terms += ledger.figure_terms(r, timing, tokens, steps, useful, peak_rate, usable, detail.context)
    return Estimate.model_construct(
        fits=fits,
        fits_reason=reason,
        parameters=w.parameter_count(),
        trainable_parameters=w.parameter_count(trainable=True),
        flops_per_step=sum(flops.values()),
        step_time_s=seconds,
        step_time_interval_s=(low, high),
        tokens_per_s=tokens / seconds,
        tokens_per_s_per_gpu=tokens / seconds / run.hardware.gpus,
        mfu=None if peak_rate is None else useful / seconds / run.hardware.gpus / peak_rate,
        peak_memory_bytes=allocated,
        peak_reserved_bytes=reserved,
        peak_memory_interval_bytes=memory_interval,
        usable_memory_bytes=usable,
        total_time_s=total,
        cost_usd=cost,
        energy_kwh=energy,
        co2e_kg=None if energy is None else energy * watts.intensity,
        basis="measured" if observed is not None and observed.exact else r.profile.basis,
        terms=tuple(terms),
        warnings=host_warnings(r, host)
        + whole_run_terms.course_warnings(r, course, tokens / seconds)
        + warnings_of(r, w, _no_cost(r, rate) if cost is None and hours is not None else "", hours),
        run=run,
        memory_curve=Curve(moments),
        peak_moment=_PHASES[peak.phase]
        if peak.phase == "optimizer"
        else f"{_PHASES[peak.phase]}, at {peak.place.replace('_', ' ')}",
        limited_by=limits_of(timing),
        assumptions=(
            *measured,
            *r.notes,
            *assumptions_of(r, shape, fragmented(moments, routed=routed)),
            *whole_run_terms.course_notes(r, course),
            *NOT_MODELLED,
        ),
        interval_note=f"Time: {time_note}. Memory: {memory_range.note}.",
        details={
            "model": {
                "name": r.model_name,
                "summary": summary_of(r, w),
                "model_type": r.arch.model_type,
                "layers": r.arch.layers,
                "hidden": r.arch.hidden,
                "heads": r.arch.heads,
                "kv_heads": r.arch.kv_heads,
                "head_dim": r.arch.head_dim,
                "ffn": r.arch.ffn,
                "vocab": r.arch.vocab,
                "tied": r.arch.tied,
                "mlp": "gated" if r.arch.gated else "plain",
            },
            "steps": steps,
            "gpu_hours": hours,
            "course": course,
            "tokens_per_step": tokens,
            "peak_flops": peak_rate,
            "board_w": watts.board_w,
            "watts_per_gpu": None if watts.board_w is None else (watts.board_w + watts.host_w) * watts.pue,
            "price": None
            if rate.usd_per_gpu_hour is None
            else {
                "usd_per_gpu_hour": usd_per_hour(r, rate, watts),
                "provider": rate.provider,
                "date": rate.date,
                "source": rate.source,
            },
            "accelerator": None if r.accelerator is None else r.accelerator.name,
            "profile_source": r.profile.source,
            "context_bytes": detail.context,
            "memory_stages": worst.stage.indices if run.parallel.pp > 1 else (),
            "timeline": timing.timeline,
            "stages": tuple(StageView(c.stage.indices, c.stage.layers, Curve(c.moments)) for c in classes) if run.parallel.pp > 1 else (),
            "host_memory_bytes": host.total * min(run.hardware.gpus, run.hardware.gpus_per_node or 1),
            "fragmented_bytes": {"kept": fragmented(moments, routed=routed), "cleared": fragmented(moments, cleared=True)},
            "sticker_memory_bytes": None if r.accelerator is None else r.accelerator.memory_bytes,
            "time_ratios": (low / seconds, high / seconds),
            "dp": run.dp,
            "collectives": dict(timing.collectives),
            "crosscheck": {
                "six_nd_flops": 6.0 * w.parameter_count() * tokens,
                "sixteen_bytes_per_parameter": 16.0 * w.parameter_count(),
            },
        },
    )


def _no_cost(r: Resolved, rate: Rate) -> str:
    """Why there is no cost."""
    own = r.run.price.own.purchase_usd is not None
    return "the power of this device is not known, so that its electricity has no price" if own else rate.source


def facts_of(r: Resolved, shape: Shape) -> dict[str, Any]:
    """What decides which measured runs an estimate is compared with."""
    hardware = r.run.hardware
    return {
        "basis": r.profile.basis,
        "device": "processor" if r.profile.synchronous else "GPU",
        "stack": r.stack.name,
        "gpus": hardware.gpus,
        "nodes": hardware.machines,
        "tokens": r.run.batch.micro * shape.computed,
        "encoder": not r.arch.causal,
        "mixture": r.arch.experts is not None,
        "counter": "held",
    }
