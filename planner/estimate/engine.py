"""The one place that joins workload, profile and evidence into an `Estimate`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast, overload

from planner.device import DeviceProfile
from planner.errors import PlanError
from planner.estimate import ledger, uncertainty
from planner.estimate.constants import constant, source
from planner.estimate.memory import (
    COMPONENTS,
    OPTIMIZER,
    Moment,
    Persistent,
    Walk,
    rounded,
)
from planner.estimate.money import HOUR, hourly_rate, power
from planner.estimate.resolve import Resolved, resolve
from planner.estimate.result import Estimate, MemoryPoint, Phase, Term
from planner.estimate.time import Clock, Ranks, StepTime, step_time
from planner.run import Run
from planner.units import format_bytes, format_count, significant
from planner.workload import Setting, Workload, trace
from planner.workload.graph import BYTES, Parameter
from planner.workload.optimizers import Step
from planner.workload.precision import QUANTIZED, STORED_BYTES

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
    workload = _workload(resolved)
    trained = [(p, float(s.count)) for s in workload.stretches for p in s.parameters if p.trainable]
    _check_trained_types(trained)
    shares = _shares(resolved)
    step = _optimizer_step(resolved, trained, shares)
    moments, detail = _memory(resolved, workload, trained, step, shares)
    timing = _time(resolved, workload, trained, step, shares)
    return _assemble(resolved, workload, moments, detail, timing)


def _summary(r: Resolved, w: Workload) -> str:
    """One line on the model; of a mixture also how much of it each token passes."""
    idle = r.arch.idle_parameters
    if not idle:
        return r.arch.summary
    total = w.parameter_count()
    return f"{r.arch.summary}, {format_count(total - idle)} of {format_count(total)} parameters active"


def _check_trained_types(trained: list[tuple[Parameter, float]]) -> None:
    """Weights stored in 8 bits or fewer take no gradient."""
    for parameter, _ in trained:
        if parameter.dtype in QUANTIZED:
            raise PlanError(
                "precision.weights",
                parameter.dtype,
                f"cannot be trained, and the method trains {parameter.name}",
                "Use a 16- or 32-bit precision, or a method that leaves the base frozen, such as qlora.",
            )


def _workload(r: Resolved) -> Workload:
    checkpointing = r.run.activation_checkpointing
    seq = r.run.batch.seq_len or 0  # 0 where no stack takes text
    sharded = r.run.parallel.sharding in ("zero3", "hsdp") and r.run.dp > 1
    recompute = checkpointing == "selective" and r.stack.selective == "attention"
    batch = r.run.batch
    setting = Setting(
        r.arch, r.adaptation, r.formats, r.stack, batch.micro, seq, r.attention, recompute, sharded, batch
    )
    return trace(setting, r.head, checkpointing)


def _shares(r: Resolved) -> Shares:
    dp, sharding = r.run.dp, r.run.parallel.sharding
    group = dp
    if sharding == "hsdp" and r.topology is not None:
        group = min(dp, r.topology.gpus_per_node)
    part = 1.0 / group
    return Shares(
        weights=part if sharding in ("zero3", "hsdp") else 1.0,
        gradients=part if sharding in ("zero2", "zero3", "hsdp") else 1.0,
        optimizer=part if sharding in ("zero1", "zero2", "zero3", "hsdp") else 1.0,
    )


def _stored(r: Resolved, p: Parameter) -> float:
    """Persistent bytes of one element: quantized and adapter weights as they are, others in the stored type."""
    if p.adapter or p.pinned or p.dtype in QUANTIZED:
        return STORED_BYTES[p.dtype]
    return STORED_BYTES[r.formats.stored]


def _gradient_bytes(r: Resolved, p: Parameter) -> float:
    """Persistent bytes of one element's gradient."""
    return BYTES[p.dtype] if p.adapter or p.pinned else BYTES[r.formats.gradient]


def _optimizer_step(r: Resolved, trained: list[tuple[Parameter, float]], shares: Shares) -> Step:
    """The optimizer's step on this rank's share; it works on the stored type, or on fp32 masters."""
    working = "fp32" if r.formats.master or r.formats.stored == "fp32" else ""
    whole = r.optimizer.step(trained, working)
    s = shares.optimizer
    return Step({k: v * s for k, v in whole.states.items()}, whole.temporaries * s, whole.moved * s, whole.kernels)


@dataclass(frozen=True)
class Detail:
    """Persistent bytes by finer name, for the ledger; each component's parts sum to its books."""

    parts: dict[str, float]
    context: float


def _memory(
    r: Resolved, w: Workload, trained: list[tuple[Parameter, float]], step: Step, shares: Shares
) -> tuple[list[Moment], Detail]:
    """Moments of the whole optimizer step, and the persistent parts behind them."""
    fine: dict[str, float] = {}

    def put(name: str, size: float) -> None:
        if size:
            fine[name] = fine.get(name, 0.0) + size

    for stretch in w.stretches:
        for p in stretch.parameters:
            kind = ledger.group_of(stretch, p.adapter)
            put(f"weights/{kind}", rounded(p.numel * _stored(r, p) * shares.weights) * stretch.count)
    if r.formats.graph != r.formats.stored and shares.weights == 1.0:
        put(
            "weights/working_copy",
            sum(
                rounded(p.numel * BYTES[p.dtype]) * s.count for s in w.stretches for p in s.parameters if not p.adapter
            ),
        )
    for name, size in step.states.items():
        put(f"optimizer/{name}", size)
    if r.formats.master:
        put("optimizer/master_weights", sum(4.0 * p.numel * n for p, n in trained if not p.adapter) * shares.optimizer)
    sharding, accumulation = r.run.parallel.sharding, r.run.batch.accumulation
    present = accumulation > 1 or (r.stack.fp32_gradients and r.formats.gradient == "fp32")
    gradients = sum(rounded(p.numel * _gradient_bytes(r, p) * shares.gradients) * n for p, n in trained)
    if present:
        put("gradients/accumulated", gradients)
    if sharding == "ddp" and r.stack.bucket_copies:
        put("communication/buckets", sum(p.numel * BYTES[p.dtype] * n for p, n in trained))
    elif sharding in ("zero1", "zero2"):
        put(
            "communication/buckets",
            2 * min(r.stack.bucket_bytes, sum(p.numel * BYTES[p.dtype] * n for p, n in trained)),
        )
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
        gathered=BYTES[r.formats.compute] if sharding in ("zero3", "hsdp") and r.run.dp > 1 else None,
        gradient_share=shares.gradients,
        sharded_gradients=sharding in ("zero2", "zero3", "hsdp") and r.run.dp > 1,
    )
    walk = Walk(w, persistent)
    moments = walk.run()
    end = list(walk.live)
    end[OPTIMIZER] += step.temporaries
    moments.append(Moment("optimizer", "optimizer", tuple(end), 1.05 * (moments[-1].position + 1)))
    context = (constant("cuda_context_bytes") if on_gpu else 0.0) + (
        constant("nccl_bytes") if on_gpu and r.run.hardware.gpus > 1 else 0.0
    )
    return moments, Detail(fine, context)


def _time(r: Resolved, w: Workload, trained: list[tuple[Parameter, float]], step: Step, shares: Shares) -> StepTime:
    ranks = Ranks(
        r.run.dp, r.run.parallel.sharding or "none", r.topology, BYTES[r.formats.graph], BYTES[r.formats.gradient]
    )
    gradients = sum(p.numel * _gradient_bytes(r, p) * n for p, n in trained) * shares.optimizer
    return step_time(w, Clock(r.profile, r.stack), ranks, r.run.batch.accumulation, step, gradients)


# -- assembling ----------------------------------------------------------------------------------------------------------------------------------------


def _assemble(r: Resolved, w: Workload, moments: list[Moment], detail: Detail, timing: StepTime) -> Estimate:
    run, batch = r.run, r.run.batch
    sample = r.arch.sample_tokens(batch)
    peak = max(moments, key=lambda m: m.total)
    allocated = peak.total
    reserved = _reserved(allocated)
    usable = None if r.usable_memory is None else r.usable_memory - detail.context
    facts = {
        "basis": r.profile.basis,
        "stack": r.stack.name,
        "gpus": run.hardware.gpus,
        "nodes": math.ceil(run.hardware.gpus / (run.hardware.gpus_per_node or 1)),
        "tokens": batch.micro * sample,
        "encoder": not r.arch.causal,
        "mixture": r.arch.experts is not None,
    }
    time_range, memory_range = uncertainty.interval("time", facts), uncertainty.interval("memory", facts)
    seconds = timing.total
    tokens = batch.micro * sample * batch.accumulation * run.dp
    steps = _steps(run, sample, tokens)
    total = None if steps is None else steps * seconds
    low, high = seconds * time_range.low_ratio, seconds * time_range.high_ratio
    memory_interval = (reserved * memory_range.low_ratio, reserved * memory_range.high_ratio)
    fits, reason = _verdict(reserved, memory_interval, usable)
    flops = {key: value * run.dp for key, value in timing.flops.items()}
    model_flops = sum(v for (phase, _), v in flops.items() if phase != "recompute")
    peak_rate = r.profile.peak_flops.get(r.formats.compute)
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
    terms += ledger.memory_terms(r, w, peak, detail.parts)
    terms += ledger.reserved_terms(allocated, reserved, detail.context)
    terms += ledger.flop_terms(r, w, flops)
    terms += ledger.time_terms(r, timing)
    terms += ledger.money_terms(r, rate, watts, hours, cost, energy)
    terms += ledger.figure_terms(r, timing, tokens, steps, model_flops, peak_rate, usable, detail.context)
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
        mfu=None if peak_rate is None else model_flops / seconds / run.hardware.gpus / peak_rate,
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
        warnings=_warnings(r, w, rate.source if cost is None and hours is not None else "", hours),
        run=run,
        memory_curve=_Curve(moments),
        peak_moment=_PHASES[peak.phase]
        if peak.phase == "optimizer"
        else f"{_PHASES[peak.phase]}, at {peak.place.replace('_', ' ')}",
        limited_by=_limits(timing),
        assumptions=(*r.notes, *_assumptions(r), *NOT_MODELLED),
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


def _reserved(allocated: float) -> float:
    """What the caching allocator holds at the peak: whole 2 MiB segments and the share of them that no tensor fills [bytes]."""
    segment = 2 * 2**20
    return -(-allocated * (1 + constant("reserved_slack")) // segment) * segment


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


def _steps(run: Run, seq: int, tokens_per_step: int) -> int | None:
    """Optimizer steps of the whole run, rounded up; samples are packed to full sequences of `seq` tokens."""
    data = run.data
    if data is None:
        return None
    tokens = data.tokens if data.tokens is not None else (data.samples or 0) * (data.mean_tokens or seq)
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
    "clip": "gradient clipping",
    "loop": "the training loop",
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
    }.get(kind, "Memory-bound")
    return f"{word}: {', '.join(shares)}."


def _assumptions(r: Resolved) -> list[str]:
    lines = [
        f"Device curves: {r.profile.basis} ({r.profile.source})",
        f"Driver context: {source('cuda_context_bytes')}",
    ]
    data, seq = r.run.data, r.arch.sample_tokens(r.run.batch)
    if data is not None and data.samples is not None and data.mean_tokens is not None and data.mean_tokens < seq:
        ratio = significant(seq / data.mean_tokens, 2)
        lines.append(f"Samples are packed to {seq} tokens; padded one by one they take {ratio} times as many steps.")
    if r.run.hardware.gpus > 1:
        lines.append(f"Communication library: {source('nccl_bytes')}")
    return lines


def _warnings(r: Resolved, w: Workload, price_problem: str, hours: float | None) -> tuple[str, ...]:
    lines = []
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
