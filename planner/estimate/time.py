"""Seconds of one optimizer step: every kernel from the device profile, dispatch by the CPU, the optimizer, and the communication that is not hidden.

A stretch (one block) takes max(Σ kernels, operators × dispatch): the GPU waits when the CPU cannot issue operators
fast enough. On a processor, which runs operators where it issues them, the two add up. Collectives of data parallel run
beside the compute of the same stretch; what does not fit there is exposed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from planner.device import DeviceProfile
from planner.device.collectives import Topology, collective_seconds, waiting_seconds
from planner.device.gemm import Layout
from planner.estimate.arrays import least, most, some
from planner.estimate.constants import by_stack, constant
from planner.estimate.pipeline import Passes, Timeline, play
from planner.estimate.stages import Stage
from planner.estimate.update import clip_seconds, product_seconds, trained_parameters, update_seconds
from planner.workload.graph import Kernel, Operation
from planner.workload.optimizers import Step
from planner.workload.precision import wire_bytes
from planner.workload.stacks import Stack
from planner.workload.trace import Stretch, Workload

Ledger = dict[tuple[str, str], float]
"""(phase, kind) to seconds, or to FLOP."""


@dataclass
class StepTime:
    """seconds and flops by (phase, kind) of one optimizer step on one rank; kernels: launches; collectives: total time of each, hidden or not [s]."""

    seconds: Ledger = field(default_factory=lambda: defaultdict(float))
    flops: Ledger = field(default_factory=lambda: defaultdict(float))
    collectives: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    kernels: float = 0.0
    spans: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Elapsed time of each phase, with what it waits for [s]."""
    ends: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    """The parts of `spans` of what stands before and behind the layers: (front or head, phase) [s]."""
    late: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """The part of backward that makes gradients of weights: of front, layers, and head [s]."""
    timeline: Timeline | None = None
    """Of a run with pipeline stages."""

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


@dataclass(frozen=True)
class Ranks:
    """How ranks share the work.

    dp: ranks that hold the same weights and see other tokens (context-parallel ones too) · sharding as in the run ·
    gradient_bytes and weight_bytes of one element on the wire · stride: distance of neighbours of a data-parallel group ·
    groups: size and stride of the other groups, by name · experts: ranks over which experts are divided ·
    between: time of a tensor from one pipeline stage to the next [s] · rank_wait: what issuing a tensor-parallel collective takes
    for each rank of the group [s] · hand_over: what a stage is held up by every tensor that it sends or receives [s].
    Several data-parallel degrees at once: dp and between are arrays.
    """

    dp: int
    sharding: str
    topology: Topology | None
    weight_bytes: float
    gradient_bytes: float
    stride: int = 1
    groups: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    between: float = 0.0
    rank_wait: float = 0.0
    hand_over: float = 0.0

    @property
    def several(self) -> bool:
        """Whether other ranks hold the same weights. `dp` may be an array, of groups that all have several."""
        return not isinstance(self.dp, int) or self.dp > 1

    def wire(self, kernel: Kernel) -> float:
        """Time of a collective of the graph [s]."""
        kind, group, _ = kernel.extra
        size, stride = self.groups[group]
        assert self.topology is not None
        return collective_seconds(kind, kernel.moved, size, self.topology, stride=stride)


class Clock:
    """Times kernels on one device; equal kernels are looked up once.

    scaled_rate: rate of fp8 products over those of the profile, which were measured with a scale per row ·
    attention: what the run asks for; `flash` takes that kernel where a calibration measured it by name.
    """

    def __init__(self, profile: DeviceProfile, stack: Stack, scaled_rate: float = 1.0, attention: str = "") -> None:
        self.profile, self.stack = profile, stack
        self.scaled_rate = scaled_rate
        self._known: dict[tuple[object, ...], float] = {}
        self.dispatch = profile.dispatch_seconds * by_stack("dispatch", stack.name)
        wanted = (*stack.attention_kernels, "flash") if attention == "flash" else stack.attention_kernels
        self.attention_kernel = next((k for k in wanted if k in profile.attention), None)
        self.tensor_overlap = by_stack("tensor_overlap", stack.name)
        self.issue = by_stack("collective_dispatch_seconds", stack.name)
        self.unit = by_stack("sharded_unit_seconds", stack.name)
        self.attention_rate = by_stack("attention_rate", stack.name)
        self.product_rate = by_stack("product_rate", stack.name)
        self.grouped_rate = by_stack("grouped_rate", stack.name)
        measured = profile.measured
        self.operators = measured if measured is not None and measured.operators else None
        self.synchronous = profile.synchronous
        backward = measured.backward_dispatch_seconds if measured is not None else None
        ratio = constant("backward_dispatch") if backward is None else backward / profile.dispatch_seconds
        self.backward_dispatch = self.dispatch * ratio

    def operation_seconds(self, operation: Operation, kernels: Sequence[Kernel], backward: bool) -> float | None:
        """Duration of a memory-bound operation as a calibration measured it, whole; None where only its kernels are known [s]."""
        if self.operators is None or any(k.kind in ("matmul", "attention", "collective") for k in kernels):
            return None
        tensors = operation.inputs or operation.outputs
        moved = sum(k.moved * k.times for k in kernels)
        if not tensors or not moved:
            return None
        fused = self.stack.fusion != "eager"
        return self.operators.operator(operation.name, tensors[0].dtype, backward, moved, kernels[0].kind, fused)

    def seconds(self, kernel: Kernel) -> float:
        """Duration of one kernel on the device [s]."""
        if kernel.kind == "matmul":
            key: tuple[object, ...] = (kernel.m, kernel.n, kernel.k, kernel.batch, kernel.dtype, kernel.layout, kernel.extra)
        elif kernel.kind == "attention":
            key = ("attention", kernel.layout, kernel.dtype, *kernel.extra.values())
        else:
            key = (kernel.kind, kernel.moved, kernel.dtype)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._evaluate(kernel)
        return known

    def _evaluate(self, kernel: Kernel) -> float:
        profile = self.profile
        if kernel.kind == "matmul":
            seconds = float(
                profile.matmul_seconds(
                    kernel.m, kernel.n, kernel.k, kernel.dtype, batch=kernel.batch, layout=cast(Layout, kernel.layout),
                    kind=kernel.extra or "",
                )
            )
            return seconds / (self.product_rate * (self.scaled_rate if kernel.dtype == "fp8" else 1.0))
        if kernel.kind == "attention":
            return (
                float(
                    profile.attention_seconds(
                        **kernel.extra,
                        dtype=kernel.dtype,
                        backward=kernel.layout == "backward",
                        kernel=self.attention_kernel,
                    )
                )
                / self.attention_rate
            )
        if kernel.kind == "solve":
            return constant("solve_seconds")
        if kernel.kind == "dequantize" and profile.measured is not None:
            library = "torchao" if self.stack.name == "torchtune" else ""
            if (table := profile.measured.unpacking(kernel.dtype.removesuffix("-dq"), library)) is not None:
                return table.at(kernel.moved)
        kind = "elementwise" if kernel.kind == "dequantize" else kernel.kind
        return float(profile.stream_seconds(kernel.moved, kind if kind in profile.stream.fractions else "elementwise"))


@dataclass
class _Part:
    """GPU seconds of one stretch in one phase, by kind, and what the CPU needs to issue it."""

    kinds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    flops: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    kernels: float = 0.0
    exchanged: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    beside: float = 0.0
    issued: int = 0
    waits: int = 0
    weights: float = 0.0
    """GPU seconds of gradients of weights."""
    awaited: tuple[float, float, int, int] | None = None
    """Where the processor waits for the device to count the tokens of each expert: GPU seconds, kernels, collectives and ranks waited for until then."""

    def add(
        self, clock: Clock, operation: Operation, kernels: Sequence[Kernel], ranks: Ranks, backward: bool = False
    ) -> None:
        self._count(clock, operation, kernels, ranks, backward)
        if operation.name == "sort" and not backward and clock.stack.counts_on_host:  # the processor issues nothing until all this is done
            self.awaited = (self.gpu, self.kernels, self.issued, self.waits)

    def _count(self, clock: Clock, operation: Operation, kernels: Sequence[Kernel], ranks: Ranks, backward: bool) -> None:
        whole = clock.operation_seconds(operation, kernels, backward)
        if whole is not None:
            self.kinds[operation.kind] += whole
            self.kernels += sum(kernel.times for kernel in kernels)
            return
        for kernel in kernels:
            if kernel.kind == "collective":
                seconds = ranks.wire(kernel)
                self.issued += 1
                if kernel.extra.group == "tp":
                    self.waits += ranks.groups["tp"][0]
                if kernel.extra.hidden:
                    self.beside += seconds
                else:
                    beside = clock.tensor_overlap * seconds if kernel.extra.group == "tp" else 0.0
                    self.beside += beside
                    self.exchanged[kernel.extra.group] += seconds - beside
                continue
            kind = "dequantize" if kernel.kind == "dequantize" else operation.kind
            seconds = clock.seconds(kernel) * kernel.times
            if operation.name == "grouped_linear":
                seconds /= clock.grouped_rate
            self.kinds[kind] += seconds
            if kernel.layout == "wgrad":
                self.weights += seconds
            if kernel.flops:
                self.flops[kind] += kernel.flops * kernel.times
            self.kernels += kernel.times

    @property
    def gpu(self) -> float:
        return sum(self.kinds.values()) + sum(self.exchanged.values())

    def waiting(self, clock: Clock, dispatch: float, rank_wait: float, units: float) -> float:
        """How long the device waits for the processor. units: what sharding adds to issuing [s].

        Where the processor has to wait for the device in between, it starts anew without a lead.
        """

        def issue(kernels: float, issued: int, waits: int) -> float:
            return kernels * dispatch + issued * clock.issue + waits * rank_wait

        whole, busy = issue(self.kernels, self.issued, self.waits) + units, self.gpu
        if clock.synchronous:
            return whole
        if self.awaited is None:
            return max(0.0, whole - busy)
        before, first = self.awaited[0], issue(*self.awaited[1:]) + units
        return max(0.0, first - before) + max(0.0, whole - first - (busy - before))


def step_time(
    workload: Workload, clock: Clock, ranks: Ranks, accumulation: int, optimizer: Step, trained_bytes: float
) -> StepTime:
    """Time of one optimizer step of `accumulation` micro steps.

    trained_bytes: bytes of the gradients that the optimizer reads on this rank [bytes].
    """
    result = micro_step(workload, clock, ranks, accumulation)
    close_step(result, workload, clock, ranks, accumulation, optimizer, trained_bytes)
    return result


def micro_step(workload: Workload, clock: Clock, ranks: Ranks, accumulation: int = 1) -> StepTime:
    """Forward and backward of so many micro steps, before gradients are exchanged and weights updated."""
    result = StepTime()
    for stretch in workload.stretches:
        _stretch(result, stretch, clock, ranks, accumulation)
    return result


def close_step(
    result: StepTime, workload: Workload, clock: Clock, ranks: Ranks, accumulation: int, optimizer: Step, trained_bytes: float
) -> None:
    """Add what follows the micro steps: the exchange of gradients, the update, the training loop."""
    _gradient_exchange(result, workload, ranks, accumulation)
    _optimizer(result, clock, workload, optimizer, trained_bytes, accumulation)
    result.seconds["overhead", "loop"] += constant("fixed_step_seconds")


def _stretch(result: StepTime, stretch: Stretch, clock: Clock, ranks: Ranks, accumulation: int) -> None:
    """Add one stretch, `count` times, for every micro step."""
    times = stretch.count * accumulation
    forward, backward, recompute = _Part(), _Part(), _Part()
    for operation in stretch.operations:
        forward.add(clock, operation, operation.forward, ranks)
        if operation.grads and stretch.needs_backward:
            backward.add(clock, operation, operation.backward, ranks, backward=True)
    phases = [("forward", forward, clock.dispatch), ("backward", backward, clock.backward_dispatch)]
    if stretch.checkpointed and stretch.needs_backward:
        retained = {id(operation) for operation in stretch.retained}
        for operation in stretch.operations[: len(stretch.operations) - stretch.skipped]:
            if id(operation) not in retained:
                recompute.add(clock, operation, operation.forward, ranks)
        phases.insert(1, ("recompute", recompute, clock.dispatch))
    gathers = ranks.sharding in ("zero3", "hsdp") and ranks.several
    slowdown = constant("overlap_slowdown")
    for phase, part, dispatch in phases:
        if not part.kernels and not part.exchanged:
            continue
        busy = part.gpu
        wire = _stretch_collectives(result, stretch, ranks, phase, times) if gathers and phase != "recompute" else 0.0
        for kind, seconds in part.kinds.items():
            result.seconds[phase, kind] += seconds * times
        for kind, flops in part.flops.items():
            result.flops[phase, kind] += flops * times
        for group, seconds in part.exchanged.items():
            result.seconds["communication", _GROUP_NAMES[group]] += seconds * times
            result.collectives[_GROUP_NAMES[group]] += seconds * times
        if part.beside:
            wire += part.beside
            result.collectives["overlapped"] += part.beside * times
        waiting = part.waiting(clock, dispatch, ranks.rank_wait, clock.unit * _units(stretch, clock.stack) if gathers else 0.0)
        result.seconds[phase, "launch"] += waiting * times
        span = busy + waiting
        if some(wire):
            result.seconds["communication", "slowdown"] += slowdown * least(wire, span) * times
            result.seconds["communication", "exposed"] += most(0.0, wire - span) * times
            span = most(span, wire) + slowdown * least(wire, span)
        result.spans[phase] += span * times
        end = _END.get(stretch.name if not stretch.tower else "embedding", "layers")
        if end != "layers":
            result.ends[end, phase] += span * times
        if part.weights:
            result.late[end] += span * times * part.weights / busy
        result.kernels += part.kernels * times


_END = {"embedding": "front", "head": "head"}
"""What stands before the layers, and what behind them."""
_GROUP_NAMES = {"tp": "tensor", "cp": "context", "ep": "expert"}
"""Names of groups in the ledger."""


def model_flops(workload: Workload, accumulation: int) -> Ledger:
    """FLOP of one optimizer step of the whole model on one batch, recomputation included, by (phase, kind)."""
    result: Ledger = defaultdict(float)
    for stretch in workload.stretches:
        times = stretch.count * accumulation
        retained = {id(operation) for operation in stretch.retained}
        again = stretch.checkpointed and stretch.needs_backward
        for position, operation in enumerate(stretch.operations):
            for kernel in operation.forward:
                result["forward", operation.kind] += kernel.flops * kernel.times * times
                if again and position < len(stretch.operations) - stretch.skipped and id(operation) not in retained:
                    result["recompute", operation.kind] += kernel.flops * kernel.times * times
            if operation.grads and stretch.needs_backward:
                for kernel in operation.backward:
                    result["backward", operation.kind] += kernel.flops * kernel.times * times
    return {key: value for key, value in result.items() if value}


def pipeline_time(
    stages: Sequence[Stage],
    devices: Sequence[tuple[Clock, Ranks]],
    accumulation: int,
    schedule: str,
    optimizer: Step,
    trained_bytes: float,
) -> tuple[StepTime, Timeline]:
    """Time of one optimizer step over pipeline stages.

    stages: each kind of stage · devices: clock and ranks of each · schedule: its name · optimizer, trained_bytes: of the
    stage with most of them. The busiest stage's kernels stand in the ledger; what it waits for is the bubble.
    """
    kinds, passes = [], dict[int, tuple[Chunks, Chunks, Chunks]]()
    for stage, (clock, ranks) in zip(stages, devices, strict=True):
        one = micro_step(stage.workload, clock, ranks)
        kinds.append((one, stage.workload, clock, ranks))
        passes.update(dict.fromkeys(stage.indices, chunk_seconds(one, stage.shares, stage.front, stage.head)))
    forward, backward, late = (tuple(passes[i][k] for i in range(len(passes))) for k in range(3))
    link = max((ranks for _, ranks in devices), key=lambda ranks: ranks.between)
    if link.hand_over:  # a transfer holds up both of its stages at the same time
        forward, backward = _held_up(forward, link.hand_over), _held_up(backward, link.hand_over)
    timeline = play(schedule, Passes(forward, backward, late), accumulation, max(0.0, link.between - link.hand_over))
    busiest, workload, clock, ranks = max(kinds, key=lambda kind: sum(kind[0].spans.values()))
    result = StepTime()
    for key, value in busiest.seconds.items():
        result.seconds[key] = value * accumulation
    for name, value in busiest.collectives.items():
        result.collectives[name] = value * accumulation
    result.kernels = busiest.kernels * accumulation
    result.seconds["overhead", "bubble"] = timeline.total - accumulation * sum(busiest.spans.values())
    close_step(result, workload, clock, ranks, accumulation, optimizer, trained_bytes)
    return result, timeline


Chunks = tuple[float, ...]
"""Seconds of each chunk of a stage [s]."""


def chunk_seconds(one: StepTime, shares: Sequence[float], front: int | None, head: int | None) -> tuple[Chunks, Chunks, Chunks]:
    """Forward, backward with what is recomputed, and the part of it that makes gradients of weights, of each chunk of a stage.

    shares: part of the stage's layers in each chunk · front, head: the chunks with embedding and with the loss.
    """

    def cut(whole: float, before: float, behind: float) -> Chunks:
        if len(shares) == 1:
            return (whole,)
        layers = whole - before - behind
        return tuple(layers * share + (before if c == front else 0.0) + (behind if c == head else 0.0) for c, share in enumerate(shares))

    spans, ends, late = one.spans, one.ends, one.late
    back = ("recompute", "backward")
    return (
        cut(spans["forward"], ends["front", "forward"], ends["head", "forward"]),
        cut(sum(spans[b] for b in back), sum(ends["front", b] for b in back), sum(ends["head", b] for b in back)),
        cut(sum(late.values()), late["front"], late["head"]),
    )


def _held_up(passes: tuple[Chunks, ...], hand_over: float) -> tuple[Chunks, ...]:
    """Passes of every stage with what each of its neighbours makes it wait."""
    last = len(passes) - 1
    return tuple(tuple(p + hand_over * ((i > 0) + (i < last)) for p in stage) for i, stage in enumerate(passes))


def _units(stretch: Stretch, stack: Stack) -> float:
    """Fully sharded units of a block: the block, and under peft's wrapping policy each adapter apart. DeepSpeed wraps nothing: what it fetches by module
    is in its time for a unit."""
    if stretch.name != "block":
        return 0.0
    if stack.zero_engine:
        return 1.0
    return 1.0 + sum(1 for p in stretch.parameters if p.adapter) / 2


def _stretch_collectives(result: StepTime, stretch: Stretch, ranks: Ranks, phase: str, times: float) -> float:
    """Fully sharded: gather the weights before use in forward and again in backward; reduce-scatter the gradients after backward [s]."""
    assert ranks.topology is not None
    group = (
        ranks.dp if ranks.sharding == "zero3" else least(ranks.dp, max(1, ranks.topology.gpus_per_node // ranks.stride))
    )
    weights = sum(p.numel * wire_bytes(p.dtype, ranks.weight_bytes) for p in stretch.parameters)
    gradients = sum(p.numel * ranks.gradient_bytes for p in stretch.parameters if p.trainable)
    wire = collective_seconds("all_gather", weights, group, ranks.topology, stride=ranks.stride)
    result.collectives["all_gather"] += wire * times
    if phase == "backward" and gradients:
        scatter = collective_seconds("reduce_scatter", gradients, group, ranks.topology, stride=ranks.stride)
        result.collectives["reduce_scatter"] += scatter * times
        wire += scatter
        across = ranks.dp // group
        if ranks.sharding == "hsdp" and some(across - 1):
            between = collective_seconds(
                "all_reduce", gradients / group, across, ranks.topology, stride=group * ranks.stride
            )
            result.collectives["all_reduce"] += between * times
            wire += between
    return wire


def _gradient_exchange(result: StepTime, workload: Workload, ranks: Ranks, accumulation: int) -> None:
    """ddp, zero1, zero2: gradients are exchanged once per optimizer step, beside the last backward; updated weights are gathered after the step."""
    if not ranks.several or ranks.sharding not in ("ddp", "zero1", "zero2"):
        return
    assert ranks.topology is not None
    trained = sum(p.numel * s.count for s in workload.stretches for p in s.parameters if p.trainable)
    size, stack = trained * ranks.gradient_bytes, workload.setting.stack
    bucket = most(stack.bucket_bytes, stack.bucket_elements_per_replica * ranks.dp * ranks.gradient_bytes)
    if not size:
        return
    kind = "all_reduce" if ranks.sharding == "ddp" else "reduce_scatter"
    count = most(1.0, size / bucket)
    one = collective_seconds(kind, size / count, ranks.dp, ranks.topology, stride=ranks.stride)
    # sharded gradients cannot be accumulated locally: they are exchanged in every micro step
    rounds = accumulation if ranks.sharding == "zero2" else 1
    wire = rounds * (one * count - (count - 1) * waiting_seconds(ranks.dp, ranks.topology, stride=ranks.stride))
    result.collectives[kind] += wire
    span = sum(v for (phase, _), v in result.seconds.items() if phase in ("backward", "recompute"))
    if ranks.sharding != "zero2":
        span /= accumulation
    # the last bucket has nothing left to hide behind
    hidden = least(wire - one, span) if stack.overlaps_gradients else 0.0
    result.seconds["communication", "slowdown"] += constant("overlap_slowdown") * hidden
    result.seconds["communication", "exposed"] += wire - hidden
    if ranks.sharding in ("zero1", "zero2"):
        gather = collective_seconds(
            "all_gather", trained * ranks.weight_bytes, ranks.dp, ranks.topology, stride=ranks.stride
        )
        result.collectives["all_gather"] += gather
        beside = 0.0
        if stack.gathers_ahead:
            forward = sum(v for (phase, _), v in result.seconds.items() if phase == "forward") / accumulation
            beside = least(gather, forward)
        result.seconds["communication", "slowdown"] += constant("overlap_slowdown") * beside
        result.seconds["communication", "exposed"] += gather - beside


def _optimizer(
    result: StepTime, clock: Clock, workload: Workload, step: Step, trained_bytes: float, accumulation: int
) -> None:
    """The update of this rank's share, after clipping by global norm where the stack clips."""
    if not some(trained_bytes):
        return
    profile = clock.profile
    result.seconds["optimizer", "update"] += update_seconds(profile, step, trained_parameters(workload), clock.dispatch)
    if step.products or step.decompositions:
        seconds, flops = product_seconds(profile, step)
        result.seconds["optimizer", "product"] += seconds
        result.flops["optimizer", "product"] += flops
    if step.gradients:
        passes_of_model = ("forward", "recompute", "backward")
        share = step.gradients / accumulation
        again = sum(v for (phase, _), v in result.seconds.items() if phase in passes_of_model)
        result.seconds["optimizer", "curvature"] += share * again
        work = sum(v for (phase, _), v in result.flops.items() if phase in passes_of_model)
        result.flops["optimizer", "curvature"] += share * work
    if clock.stack.clips:
        result.seconds["optimizer", "clip"] += clip_seconds(profile, trained_parameters(workload), trained_bytes)
