"""The one place that joins workload, profile and evidence into an `Estimate`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast, overload

from planner.device import DeviceProfile
from planner.device.collectives import collective_seconds
from planner.errors import PlanError
from planner.estimate import ledger, uncertainty
from planner.estimate.constants import by_architecture, by_stack, constant, source
from planner.estimate.fragmentation import fragmented
from planner.estimate.memory import (
    COMPONENTS,
    OPTIMIZER,
    Moment,
    Persistent,
    Walk,
    added,
    rounded,
)
from planner.estimate.money import HOUR, hourly_rate, power
from planner.estimate.offload import HostBytes, Offload, add_time, host_bytes, offload_of
from planner.estimate.pipeline import in_flight
from planner.estimate.resolve import Resolved, resolve
from planner.estimate.result import Estimate, MemoryPoint, Phase, Term
from planner.estimate.shape import Shape, shape_of
from planner.estimate.stages import Stage, stages_of
from planner.estimate.time import Clock, Ranks, StepTime, model_flops, pipeline_time, step_time
from planner.estimate.update import trained_parameters, update_step
from planner.run import Run
from planner.units import format_bytes, format_count, significant
from planner.workload import Setting, Workload, trace
from planner.workload.graph import BYTES, Parameter
from planner.workload.methods import adapt
from planner.workload.optimizers import Step, Trained
from planner.workload.precision import QUANTIZED, STORED_BYTES
from planner.workload.scaled import cached_weights
from planner.workload.sparse24 import SUFFIX
from planner.workload.split import Split, local

NOT_MODELLED = (
    "Data loading, evaluation, checkpoint writing, start-up, compilation and restarts are not in the step time.",
    "All sequences have the full length and no padding mask; with padding, sdpa falls back to a slower kernel and keeps a mask per layer.",
)
_PHASES = {
    "forward": "forward",
    "backward": "backward",
    "recompute": "recomputation before backward",
    "optimizer": "the optimizer step",
}


@dataclass(frozen=True)
class Shares:
    """Fractions of each persistent state that one rank keeps, and what data parallel adds."""

    weights: float
    gradients: float
    optimizer: float


def estimate(run: Run, profile: DeviceProfile | None = None) -> Estimate:
    """What a run takes: does it fit, how long, how much memory, money and energy.

    run: what to do · profile: measured curves of the device; left out, those of the catalog.
    Raises `PlanError` for input that cannot be planned; not fitting is an answer.
    """
    resolved = resolve(run, profile)
    text = resolved.run.batch.seq_len or 0
    shape = shape_of(resolved.run, text, resolved.arch.sample_tokens(resolved.run.batch) - text)
    setting = _setting(resolved, shape.longest)
    p = resolved.run.parallel
    stages = stages_of(setting, resolved.head, resolved.run.activation_checkpointing, p.pp, p.virtual_pp)
    offload = offload_of(resolved)
    classes = [_rank_class(resolved, stage, offload) for stage in stages]
    largest = max(range(len(classes)), key=lambda i: max(m.total for m in classes[i].moments))
    worst, timed = classes[largest], classes
    if not shape.packed:
        average = _setting(resolved, shape.timed)
        again = stages_of(average, resolved.head, resolved.run.activation_checkpointing, p.pp, p.virtual_pp)
        timed = [replace(c, stage=stage) for c, stage in zip(classes, again, strict=True)]
    whole = worst.workload if len(classes) == 1 and setting.split == Split() else _whole(resolved, shape.timed)
    timing = _time(resolved, timed, timed[largest], shape.timed)
    if offload.any or worst.step.paged:
        usable = (resolved.usable_memory or math.inf) - worst.detail.context
        over = max(m.total for m in worst.moments) + sum(worst.step.paged.values()) - usable
        share = _shares(resolved).optimizer
        add_time(timing, resolved, timed[largest].workload, offload, worst.trained, worst.step, share, worst.away, over)
    host = host_bytes(
        resolved, worst.workload, offload, worst.trained, worst.step, _shares(resolved).optimizer, worst.away
    )
    return _assemble(resolved, whole, classes, worst, timing, host, shape)


@dataclass(frozen=True)
class RankClass:
    """Ranks that do the same: one kind of pipeline stage. away: saved tensors that went to the host [bytes]."""

    stage: Stage
    trained: tuple[Trained, ...]
    step: Step
    moments: list[Moment]
    detail: Detail
    away: float

    @property
    def workload(self) -> Workload:
        """Of one micro step on one of the ranks."""
        return self.stage.workload


def _rank_class(r: Resolved, stage: Stage, offload: Offload) -> RankClass:
    workload, shares = stage.workload, _shares(r)
    trained = trained_parameters(workload)
    _check_trained_types(trained)
    # experts are spread over fewer replicas than the rest
    spread = min(r.run.parallel.ep, 1.0 / shares.optimizer)
    step = update_step(
        r, [t._replace(times=t.times * spread) if t.parameter.expert else t for t in trained], shares.optimizer
    )
    step = replace(step, moved=step.moved + cached_weights(workload)[1])
    moments, detail, away = _memory(r, workload, trained, step, shares, offload, _flying(r, stage))
    return RankClass(stage, trained, step, moments, detail, away)


def _flying(r: Resolved, stage: Stage) -> float:
    """Micro batches beside the running one whose activations the stage keeps at most."""
    p = r.run.parallel
    return (
        max(in_flight(i, p.pp, p.virtual_pp, r.run.batch.accumulation) for i in stage.indices) - 1 if p.pp > 1 else 0.0
    )


def _whole(r: Resolved, length: int) -> Workload:
    """The undivided model on the micro batch of one replica."""
    setting = replace(_setting(r, length), arch=r.arch, adaptation=r.adaptation, split=Split())
    return trace(setting, r.head, r.run.activation_checkpointing)


def _summary(r: Resolved, w: Workload) -> str:
    """One line on the model; of a mixture also how much of it each token passes."""
    idle = r.arch.idle_parameters
    if not idle:
        return r.arch.summary
    total = w.parameter_count()
    return f"{r.arch.summary}, {format_count(total - idle)} of {format_count(total)} parameters active"


def _check_trained_types(trained: Sequence[Trained]) -> None:
    """Weights stored in 8 bits or fewer take no gradient."""
    for parameter, *_ in trained:
        if parameter.dtype in QUANTIZED:
            raise PlanError(
                "precision.weights",
                parameter.dtype,
                f"cannot be trained, and the method trains {parameter.name}",
                "Use a 16- or 32-bit precision, or a method that leaves the base frozen, such as qlora.",
            )


def _setting(r: Resolved, length: int) -> Setting:
    """What the layers need to know; length: tokens of a sequence, for stacks that take text."""
    checkpointing = r.run.activation_checkpointing
    seq = length if r.run.batch.seq_len is not None else 0  # 0 where no stack takes text
    sharded = r.run.parallel.sharding in ("zero3", "hsdp") and replicas(r) > 1
    recompute = checkpointing == "selective" and r.stack.selective == "attention"
    batch = r.run.batch
    p = r.run.parallel
    split = Split(p.tp, p.sequence_parallel, p.cp, p.ep)
    arch = local(r.arch, split)
    adaptation = r.adaptation if arch is r.arch else adapt(r.run.method, arch)
    setting = Setting(arch, adaptation, r.formats, r.stack, batch.micro, seq, r.attention, recompute, sharded, batch)
    checkpoints = r.run.checkpoints
    return replace(
        setting,
        split=split,
        checkpoint_every=checkpoints.every,
        checkpoint_keep=checkpoints.keep or (),
        fused_mixers=r.fused_mixers,
    )


def replicas(r: Resolved) -> int:
    """Ranks that hold the same weights: data-parallel ones, and the context-parallel ones of each."""
    return r.run.dp * r.run.parallel.cp


def _shares(r: Resolved) -> Shares:
    dp, sharding = replicas(r), r.run.parallel.sharding
    group = dp
    if sharding == "hsdp" and r.topology is not None:
        group = min(dp, max(1, r.topology.gpus_per_node // r.run.parallel.tp))
    part = 1.0 / group
    return Shares(
        weights=part if sharding in ("zero3", "hsdp") else 1.0,
        gradients=part if sharding in ("zero2", "zero3", "hsdp") else 1.0,
        optimizer=part if sharding in ("zero1", "zero2", "zero3", "hsdp") else 1.0,
    )


def _stored(r: Resolved, p: Parameter) -> float:
    """Persistent bytes of one element: quantized and adapter weights as they are, others in the stored type."""
    if p.adapter or p.pinned or p.dtype in QUANTIZED or p.dtype.endswith(SUFFIX):
        return STORED_BYTES[p.dtype]
    return STORED_BYTES[r.formats.stored]


def _gradient_bytes(r: Resolved, p: Parameter) -> float:
    """Persistent bytes of one element's gradient."""
    return BYTES[p.dtype] if p.adapter or p.pinned else BYTES[r.formats.gradient]


@dataclass(frozen=True)
class Detail:
    """Persistent bytes by finer name, for the ledger; each component's parts sum to its books."""

    parts: dict[str, float]
    context: float


def _memory(
    r: Resolved,
    w: Workload,
    trained: Sequence[Trained],
    step: Step,
    shares: Shares,
    offload: Offload,
    flying: float = 0.0,
) -> tuple[list[Moment], Detail, float]:
    """Moments of the whole optimizer step, the persistent parts behind them, and the saved tensors that went to the host [bytes].

    flying: further micro batches whose activations wait for their backward.
    """
    if offload.params:
        shares = replace(shares, weights=0.0)
    fine: dict[str, float] = {}

    def spread(p: Parameter) -> float:
        return float(r.run.parallel.ep) if p.expert else 1.0

    def put(name: str, size: float) -> None:
        if size:
            fine[name] = fine.get(name, 0.0) + size

    for stretch in w.stretches:
        for p in stretch.parameters:
            kind = ledger.group_of(stretch, p.adapter)
            share = 1.0 if p.buffer else min(1.0, shares.weights * spread(p))  # buffers are whole on every rank
            put(f"weights/{kind}", rounded(p.numel * _stored(r, p) * share) * stretch.count)
    if r.formats.graph != r.formats.stored and shares.weights == 1.0 and not offload.params:
        put(
            "weights/working_copy",
            sum(
                rounded(p.numel * BYTES[p.dtype]) * s.count for s in w.stretches for p in s.parameters if not p.adapter
            ),
        )
    put("weights/quantized_copies", cached_weights(w)[0])
    if not offload.optimizer:
        for name, size in step.states.items():
            put(f"optimizer/{name}", size)
    if r.formats.master and not offload.optimizer:
        put(
            "optimizer/master_weights",
            sum(4.0 * p.numel * n * min(1.0, shares.optimizer * spread(p)) for p, n, _ in trained if not p.adapter),
        )
    sharding, accumulation = r.run.parallel.sharding, r.run.batch.accumulation
    present = accumulation > 1 or (r.stack.fp32_gradients and r.formats.gradient == "fp32")
    gradients = sum(
        rounded(p.numel * _gradient_bytes(r, p) * min(1.0, shares.gradients * spread(p))) * n for p, n, _ in trained
    )
    if offload.frees_gradients:
        present = False
    if present:
        put("gradients/accumulated", gradients)
    if r.stack.low_gradients and r.formats.gradient == "fp32":
        put("gradients/in_the_weights_type", sum(p.numel * BYTES[p.dtype] * n for p, n, _ in trained))
    whole = sharding == "ddp" or (sharding == "zero1" and r.stack.low_gradients)
    if whole and r.stack.bucket_copies:
        put("communication/buckets", sum(p.numel * BYTES[p.dtype] * n for p, n, _ in trained))
    elif sharding in ("zero1", "zero2"):
        put(
            "communication/buckets",
            2 * min(r.stack.bucket_bytes, sum(p.numel * BYTES[p.dtype] * n for p, n, _ in trained)),
        )
    if r.stack.keeps_gathered and sharding in ("zero3", "hsdp") and replicas(r) > 1:
        frozen = [(q, s.count) for s in w.stretches for q in s.parameters if not q.trainable and not q.buffer]
        if any(q.trainable for s in w.stretches for q in s.parameters):
            put("communication/frozen_weights", sum(q.numel * _stored(r, q) * n for q, n in frozen))
    capability = (r.accelerator.compute_capability if r.accelerator is not None else None) or 0.0
    on_gpu = r.accelerator is not None and r.accelerator.vendor == "NVIDIA"
    if on_gpu:
        put(
            "workspace/cublas",
            2 * constant("cublas_workspace_bytes_hopper" if capability >= 9.0 else "cublas_workspace_bytes"),
        )
    books = [sum(v for k, v in fine.items() if k.split("/")[0] == component) for component in COMPONENTS]
    persistent = Persistent(
        tuple(books),
        gradient_bytes=BYTES[r.formats.gradient],
        present=present,
        gathered=BYTES[r.formats.compute]
        if (sharding in ("zero3", "hsdp") and replicas(r) > 1) or offload.params
        else None,
        gradient_share=0.0 if offload.frees_gradients else shares.gradients,
        sharded_gradients=(sharding in ("zero2", "zero3", "hsdp") and replicas(r) > 1) or offload.frees_gradients,
        offloaded=offload.activations,
    )
    walk = Walk(w, persistent)
    moments = walk.run()
    if flying:
        moments = [m._replace(parts=added(m.parts, walk.kept, flying)) for m in moments]
    end = list(walk.live)
    end[OPTIMIZER] += 0.0 if offload.optimizer else step.temporaries
    walked = moments[-1].position if moments else 0.0  # a stage without layers only passes on
    moments.append(Moment("optimizer", "optimizer", tuple(end), 1.05 * (walked + 1)))
    context = (constant("cuda_context_bytes") if on_gpu else 0.0) + (
        constant("nccl_bytes") if on_gpu and r.run.hardware.gpus > 1 else 0.0
    )
    return moments, Detail(fine, context), walk.offloaded


def _scaled_rate(r: Resolved) -> float:
    """Rate of fp8 products with one scale per tensor over that of the profile's, which have one per row."""
    scaled = r.formats.scaled
    if scaled is None or scaled.recipe.name not in ("delayed", "current") or r.accelerator is None:
        return 1.0
    return by_architecture("tensor_scaled_rate", r.accelerator.arch, r.accelerator.compute_capability)


def _time(r: Resolved, classes: Sequence[RankClass], worst: RankClass, length: int) -> StepTime:
    """Time of the step; the optimizer's part is that of the ranks that update most."""
    p, shares = r.run.parallel, _shares(r)
    outside = p.tp * p.cp
    groups = {"tp": (p.tp, 1), "cp": (p.cp, p.tp), "ep": (p.ep, 1 if p.sequence_parallel else outside)}
    ranks = Ranks(
        replicas(r),
        p.sharding or "none",
        r.topology,
        BYTES[r.formats.graph],
        BYTES[r.formats.gradient],
        stride=p.tp,
        groups=groups,
        between=_between(r, length),
    )

    def gradients(c: RankClass) -> float:
        return sum(q.numel * _gradient_bytes(r, q) * n for q, n, _ in c.trained) * shares.optimizer

    clock = Clock(r.profile, r.stack, _scaled_rate(r))
    most = max(classes, key=gradients)
    if p.pp == 1:
        return step_time(worst.workload, clock, ranks, r.run.batch.accumulation, most.step, gradients(most))
    stages = [(c.stage.indices, c.workload) for c in classes]
    timing, _ = pipeline_time(stages, clock, ranks, r.run.batch.accumulation, p.virtual_pp, most.step, gradients(most))
    return timing


def _between(r: Resolved, length: int) -> float:
    """Time of a micro batch's hidden states from one pipeline stage to the next [s]."""
    p, batch = r.run.parallel, r.run.batch
    if p.pp == 1 or r.topology is None:
        return 0.0
    outside = p.cp * (p.tp if p.sequence_parallel else 1)
    size = batch.micro * (length if batch.seq_len is not None else 0) * r.arch.hidden * BYTES[r.formats.compute] / outside
    return collective_seconds("send_recv", size, 2, r.topology, stride=p.tp * p.cp * r.run.dp)


# -- assembling ----------------------------------------------------------------------------------------------------------------------------------------


def _assemble(
    r: Resolved,
    w: Workload,
    classes: Sequence[RankClass],
    worst: RankClass,
    timing: StepTime,
    host: HostBytes,
    shape: Shape,
) -> Estimate:
    run, batch = r.run, r.run.batch
    moments, detail = worst.moments, worst.detail
    peak = max(moments, key=lambda m: m.total)
    allocated = peak.total
    reserved = _reserved(allocated, r.stack.name)
    usable = None if r.usable_memory is None else r.usable_memory - detail.context
    facts = {
        "basis": r.profile.basis,
        "stack": r.stack.name,
        "gpus": run.hardware.gpus,
        "nodes": math.ceil(run.hardware.gpus / (run.hardware.gpus_per_node or 1)),
        "tokens": batch.micro * shape.computed,
        "encoder": not r.arch.causal,
        "mixture": r.arch.experts is not None,
    }
    time_range, memory_range = uncertainty.interval("time", facts), uncertainty.interval("memory", facts)
    seconds = timing.total
    samples = batch.micro * batch.accumulation * run.dp
    tokens = round(samples * shape.real)
    steps = _steps(run, shape, samples, tokens)
    total = None if steps is None else steps * seconds
    low, high = seconds * time_range.low_ratio, seconds * time_range.high_ratio
    memory_interval = (reserved * memory_range.low_ratio, reserved * memory_range.high_ratio)
    fits, reason = _verdict(reserved, memory_interval, usable)
    alone = w is worst.workload
    flops = {
        key: value * run.dp for key, value in (timing.flops if alone else model_flops(w, batch.accumulation)).items()
    }
    useful = sum(v for (phase, _), v in flops.items() if phase not in ("recompute", "optimizer"))
    peak_rate = r.profile.peak_flops.get(r.formats.product)
    rate = hourly_rate(r)
    hours = None if total is None else total * run.hardware.gpus / HOUR
    busy = sum(v for (_, kind), v in timing.seconds.items() if kind in ("matmul", "attention")) / seconds
    watts = power(r, busy)
    energy = (
        None if hours is None or watts.board_w is None else hours * (watts.board_w + watts.host_w) * watts.pue / 1000
    )
    cost = None if hours is None or rate.usd_per_gpu_hour is None else hours * rate.usd_per_gpu_hour
    terms: list[Term] = []
    terms += ledger.parameter_terms(w)
    terms += ledger.memory_terms(r, worst.workload, peak, detail.parts)
    terms += ledger.host_terms(host.parts, r.run.hardware.gpus_per_node or 1)
    terms += ledger.reserved_terms(allocated, reserved, detail.context, r.stack.name)
    terms += ledger.flop_terms(r, w, flops)
    terms += ledger.time_terms(r, timing)
    terms += ledger.money_terms(r, rate, watts, hours, cost, energy)
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
        basis=r.profile.basis,
        terms=tuple(terms),
        warnings=_host_warnings(r, host)
        + _warnings(r, w, rate.source if cost is None and hours is not None else "", hours),
        run=run,
        memory_curve=_Curve(moments),
        peak_moment=_PHASES[peak.phase]
        if peak.phase == "optimizer"
        else f"{_PHASES[peak.phase]}, at {peak.place.replace('_', ' ')}",
        limited_by=_limits(timing),
        assumptions=(*r.notes, *_assumptions(r, shape, fragmented(moments)), *NOT_MODELLED),
        interval_note=f"Time: {time_range.note}. Memory: {memory_range.note}.",
        details={
            "model": {
                "name": r.model_name,
                "summary": _summary(r, w),
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
            "tokens_per_step": tokens,
            "peak_flops": peak_rate,
            "board_w": watts.board_w,
            "price": None
            if rate.usd_per_gpu_hour is None
            else {
                "usd_per_gpu_hour": rate.usd_per_gpu_hour,
                "provider": rate.provider,
                "date": rate.date,
                "source": rate.source,
            },
            "accelerator": None if r.accelerator is None else r.accelerator.name,
            "profile_source": r.profile.source,
            "context_bytes": detail.context,
            "memory_stages": worst.stage.indices if run.parallel.pp > 1 else (),
            "host_memory_bytes": host.total * min(run.hardware.gpus, run.hardware.gpus_per_node or 1),
            "fragmented_bytes": {"kept": fragmented(moments), "cleared": fragmented(moments, cleared=True)},
            "sticker_memory_bytes": None if r.accelerator is None else r.accelerator.memory_bytes,
            "time_ratios": (time_range.low_ratio, time_range.high_ratio),
            "dp": run.dp,
            "collectives": dict(timing.collectives),
            "crosscheck": {
                "six_nd_flops": 6.0 * w.parameter_count() * tokens,
                "sixteen_bytes_per_parameter": 16.0 * w.parameter_count(),
            },
        },
    )


def _reserved(allocated: float, stack: str) -> float:
    """What the caching allocator holds at the peak: whole 2 MiB segments and the share of them that no tensor fills [bytes]."""
    segment = 2 * 2**20
    return -(-allocated * (1 + by_stack("reserved_slack", stack)) // segment) * segment


def _verdict(reserved: float, interval: tuple[float, float], usable: float | None) -> tuple[bool | None, str]:
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


def _steps(run: Run, shape: Shape, samples_per_step: int, tokens_per_step: int) -> int | None:
    """Optimizer steps of the whole run, rounded up: by tokens where samples are packed to full sequences, else by samples."""
    data = run.data
    if data is None:
        return None
    if not shape.packed:
        samples = data.samples if data.samples is not None else (data.tokens or 0) / shape.mean
        return max(1, math.ceil(samples * data.epochs / samples_per_step))
    tokens = data.tokens if data.tokens is not None else (data.samples or 0) * shape.mean
    return max(1, math.ceil(tokens * data.epochs / tokens_per_step))


class _Curve(Sequence[MemoryPoint]):
    """The memory curve, made into points when somebody looks at it."""

    def __init__(self, moments: list[Moment]) -> None:
        self._moments = moments
        self._end = moments[-1].position

    def __len__(self) -> int:
        return len(self._moments)

    @overload
    def __getitem__(self, index: int) -> MemoryPoint: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[MemoryPoint, ...]: ...
    def __getitem__(self, index: int | slice) -> MemoryPoint | tuple[MemoryPoint, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        position = index % len(self) if -len(self) <= index < len(self) else index
        m = self._moments[position]
        parts = {name: value for name, value in zip(COMPONENTS, m.parts, strict=True) if value}
        progress = m.position / self._end
        phase = cast(Phase, "backward" if m.phase == "recompute" else m.phase)
        return MemoryPoint.model_construct(
            moment=m.place, phase=phase, progress=progress, allocated=m.total, parts=parts
        )


_WORDS = {
    "matmul": "matrix products",
    "attention": "attention",
    "norm": "norms and softmax",
    "elementwise": "memory-bound elementwise operations",
    "loss": "the loss",
    "launch": "waiting for the CPU to launch kernels",
    "dequantize": "dequantizing weights",
    "exposed": "communication that compute does not hide",
    "slowdown": "compute slowed by communication beside it",
    "embedding": "embeddings",
    "update": "the optimizer",
    "host_update": "the optimizer on the host",
    "host_link": "transfers to and from the host that compute does not hide",
    "product": "the optimizer's matrix products",
    "curvature": "the optimizer's curvature estimate",
    "clip": "gradient clipping",
    "loop": "the training loop",
    "tensor": "sums over the tensor-parallel group",
    "expert": "tokens travelling to their experts",
    "context": "keys and values of other ranks",
    "bubble": "waiting for other pipeline stages",
}


def _limits(timing: StepTime) -> str:
    """One line: the largest shares of the step."""
    kinds: dict[str, float] = {}
    for (_, kind), value in timing.seconds.items():
        kinds[kind] = kinds.get(kind, 0.0) + value
    largest = sorted(kinds.items(), key=lambda item: -item[1])[:3]
    shares = [
        f"{100 * value / timing.total:.0f} % {_WORDS[kind]}" for kind, value in largest if value > 0.02 * timing.total
    ]
    kind = largest[0][0]
    word = {
        "matmul": "Compute-bound",
        "attention": "Compute-bound",
        "launch": "CPU-bound",
        "exposed": "Communication-bound",
        "host_link": "Host-bound",
        "host_update": "Host-bound",
    }.get(kind, "Memory-bound")
    return f"{word}: {', '.join(shares)}."


def _assumptions(r: Resolved, shape: Shape, held: float) -> list[str]:
    lines = [
        f"Device curves: {r.profile.basis} ({r.profile.source})",
        f"Driver context: {source('cuda_context_bytes')}",
    ]
    if not shape.packed:
        lines.append(
            f"{(r.run.data.packing if r.run.data else '').capitalize()} samples: a batch takes the time of {shape.computed} tokens a sample, "
            f"{shape.waste:.0%} of them padding; the longest, of {shape.longest + shape.beside}, sets the peak memory. Tokens per second count real tokens."
        )
        lines.append(
            f"Batches of many lengths leave gaps: the allocator may come to hold {format_bytes(held)}, which nvidia-smi shows; it gives them back "
            "before it fails, so that the verdict does not count them."
        )
    data, seq = r.run.data, r.arch.sample_tokens(r.run.batch)
    if shape.packed and data is not None and data.samples is not None and shape.mean < seq:
        ratio = significant(seq / shape.mean, 2)
        lines.append(f"Samples are packed to {seq} tokens; padded one by one they take {ratio} times as many steps.")
    if r.run.hardware.gpus > 1:
        lines.append(f"Communication library: {source('nccl_bytes')}")
    return lines


def _host_warnings(r: Resolved, host: HostBytes) -> tuple[str, ...]:
    """Host memory of a machine against what its ranks put there."""
    given = r.run.hardware.host_memory_gib
    need = host.total * min(r.run.hardware.gpus, r.run.hardware.gpus_per_node or 1)
    if given is None or need <= given * 2**30:
        return ()
    return (f"Host memory: a machine needs {format_bytes(need)} for what is offloaded and has {given:g} GiB.",)


def _warnings(r: Resolved, w: Workload, price_problem: str, hours: float | None) -> tuple[str, ...]:
    lines = []
    if r.arch.imported:
        lines.append(
            f"Imported by structure: {r.arch.model_type} has no reader, so its modules were built and read. "
            "Parameters are exact; what its code does between them is assumed from their widths."
        )
    if hours is None:
        lines.append("No total time, cost or energy: say how much is trained on, for example data: {tokens: 10M}.")
    if price_problem:
        lines.append(f"No cost: {price_problem}.")
    if not w.parameter_count(trainable=True):
        lines.append("Nothing is trained: the method freezes every parameter.")
    if r.profile.basis == "datasheet":
        lines.append(
            f"No measured kernels of {r.profile.accelerator_name} are published: its curves are carried from the nearest architecture. Calibrate to know."
        )
    if r.formats.graph == "fp16" and r.formats.stored == "fp16" and r.run.method.name == "full":
        lines.append("Pure fp16 weights without fp32 masters rarely train stably: fp16-mixed is usual.")
    if r.run.activation_checkpointing == "selective" and r.stack.selective == "attention" and r.attention != "eager":
        lines.append(
            "Selective checkpointing recomputes attention only; with a fused attention kernel there is nothing left to save, so it is planned as none."
        )
    count = w.parameter_count()
    if count > 2e12:
        lines.append(f"{format_count(count)} parameters is larger than any published dense model.")
    return tuple(lines)
