"""Host memory as a place for states: what leaves the accelerator, what the host must hold, and the time of links and processor.

optimizer: states and fp32 masters on the host, updated there (Ren et al. 2021, arXiv:2101.06840, ZeRO-Offload; torchao CPUOffloadOptimizer). Gradients
go down during backward, updated weights come back after the step. DeepSpeed frees gradients as they leave, others keep them until the step.
params: weights too; each block is fetched for forward and again for backward (Rajbhandari et al. 2021, arXiv:2104.07857, ZeRO-Infinity; FSDP
CPUOffload). Whatever trains offloaded weights updates them on the host.
activations: tensors saved by blocks go down during forward and come back during backward on streams of their own, one by one (torchtune
OffloadActivations; `sent.py`).

Host processor: Adam reads weights, moments and gradients and writes weights and moments, 28 bytes a parameter in fp32, at the rate of host memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from planner.catalog import Accelerator, default_network
from planner.errors import PlanError
from planner.estimate.arrays import least, most, some
from planner.estimate.constants import constant
from planner.estimate.resolve import Resolved
from planner.estimate.time import StepTime
from planner.units import GB
from planner.workload import Workload
from planner.workload.graph import BYTES
from planner.workload.optimizers import Step, Trained

ON_HOST = ("adamw", "adamw-fused", "sgd", "sgd-momentum", "lion", "adafactor")
"""Optimizers whose step runs on a processor: those of torch, and DeepSpeed's CPUAdam and CPULion."""


@dataclass(frozen=True)
class Offload:
    """What lives on the host.

    optimizer, params, activations: whether they do · frees_gradients: gradients leave as soon as they are made ·
    link: bandwidth between accelerator and host [B/s] per direction · memory: bandwidth of host memory for one rank [B/s].
    """

    optimizer: bool = False
    params: bool = False
    activations: bool = False
    frees_gradients: bool = False
    link: float = 1.0
    memory: float = 1.0
    source: str = ""

    @property
    def any(self) -> bool:
        return self.optimizer or self.params or self.activations


@dataclass
class HostBytes:
    """Host memory of one rank by what it holds [bytes]."""

    parts: dict[str, float] = field(default_factory=dict)

    def put(self, name: str, size: float) -> None:
        if some(size):
            self.parts[name] = self.parts.get(name, 0.0) + size

    @property
    def total(self) -> float:
        return sum(self.parts.values())


def offload_of(r: Resolved) -> Offload:
    """The run's offloading on its device. Raises `PlanError` where the link to the host is unknown or the optimizer has no host step."""
    kind = r.run.offload
    if kind == "none":
        return Offload()
    if r.accelerator is None or r.profile.accelerator_name.lower().startswith("cpu"):
        raise PlanError("offload", kind, "needs an accelerator with a link to its host", "Use none.")
    link = default_network(r.accelerator).host_bandwidth
    if link is None:
        raise PlanError("offload", kind, f"needs a known link from {r.accelerator.name} to its host", "Use none.")
    if kind in ("params", "optimizer+params") and r.stack.name == "megatron":
        raise PlanError("offload", kind, "is not offered by Megatron-Core", "Use optimizer or activations.")
    params = "params" in kind
    optimizer = "optimizer" in kind or (params and not r.stack.zero_engine)
    if optimizer and r.optimizer.name not in ON_HOST:
        raise PlanError(
            "optimizer",
            r.optimizer.name,
            "does not run on the host",
            f"Use one of {', '.join(ON_HOST)}, or offload: none.",
        )
    measured = r.profile.measured.host_link if r.profile.measured is not None else None
    memory, source = _host_memory(r.run.hardware.host_memory_gb_per_s, r.accelerator)
    ranks = (
        1 if r.run.hardware.host_memory_gb_per_s is None and "Grace" in source else r.run.hardware.gpus_per_node or 1
    )
    return Offload(
        optimizer,
        params,
        kind == "activations",
        frees_gradients=optimizer and (r.stack.zero_engine or params),
        link=link * constant("host_link_efficiency") if measured is None else measured,
        memory=memory * constant("host_memory_efficiency") / ranks,
        source=source,
    )


def _host_memory(given: float | None, accelerator: Accelerator) -> tuple[float, str]:
    """Bandwidth of a machine's memory, or of one accelerator's part of a Grace processor [B/s], and its source."""
    if given is not None:
        return given * GB, "given by the run"
    if "C2C" in accelerator.interconnect:
        shared = 1 if accelerator.name.startswith("GH200") else 2
        return 500 * GB / shared, f"Grace: LPDDR5X at up to 500 GB/s, shared by {shared} (NVIDIA Grace datasheet)"
    generation = accelerator.pcie_generation or 4
    per_machine = 614 * GB if generation >= 5 else 410 * GB if generation == 4 else 256 * GB
    kind = "DDR5-4800 × 16" if generation >= 5 else "DDR4-3200 × 16" if generation == 4 else "DDR4-2666 × 12"
    return per_machine, f"assumed two-socket server, {kind} channels; say hardware.host_memory_gb_per_s"


def host_bytes(
    r: Resolved, w: Workload, offload: Offload, trained: Sequence[Trained], step: Step, share: float, activations: float
) -> HostBytes:
    """Memory that one rank needs on the host.

    share: part of weights and states that is this rank's · activations: saved tensors that left the accelerator [bytes].
    """
    host = HostBytes()
    if offload.optimizer:
        for name, size in step.states.items():
            host.put(f"optimizer/{name}", size)
        if r.formats.master:
            host.put("optimizer/master_weights", share * sum(4.0 * p.numel * n for p, n, _ in trained))
        element = 4.0 if r.formats.master else None
        host.put(
            "gradients",
            share * sum(p.numel * (element or BYTES[p.dtype]) * n for p, n, _ in trained),
        )
        if not offload.params and not r.formats.master:
            host.put("weights/copy", share * sum(p.numel * BYTES[p.dtype] * n for p, n, _ in trained))
    if offload.params:
        host.put("weights", share * weight_bytes(r, w))
    for name, size in step.paged.items():
        host.put(f"paged/{name}", size)
    host.put("activations", activations)
    return host


def weight_bytes(r: Resolved, w: Workload) -> float:
    """All weights in the type in which they travel [bytes]."""
    wide = BYTES[r.formats.compute]
    return sum(p.numel * min(BYTES.get(p.dtype, wide), wide) * s.count for s in w.stretches for p in s.parameters)


def add_time(
    timing: StepTime,
    r: Resolved,
    w: Workload,
    offload: Offload,
    trained: Sequence[Trained],
    step: Step,
    share: float,
    activations: float,
    over: float,
) -> None:
    """Add what transfers and the host's update cost beyond what compute hides [s].

    over: bytes by which device memory falls short, which paged states move out and back.
    """
    accumulation = r.run.batch.accumulation
    forward = sum(v for (phase, _), v in timing.seconds.items() if phase == "forward")
    backward = sum(v for (phase, _), v in timing.seconds.items() if phase in ("backward", "recompute"))
    exposed = 0.0
    hides = 1.0 if r.profile.measured is None or r.profile.measured.beside is None else r.profile.measured.beside

    def shown(copied: Any, compute: Any) -> Any:
        """What of copies is seen beside compute: what outlasts it, and what the two slow each other down."""
        return copied - hides * least(copied, compute)

    if offload.params:
        fetch = share * weight_bytes(r, w) / offload.link * accumulation
        exposed += shown(fetch, forward) + shown(fetch, backward)
    if offload.activations:
        moved = activations / offload.link * accumulation
        exposed += shown(moved, forward) + shown(moved, backward)
    if offload.optimizer:
        gradients = share * sum(p.numel * BYTES[p.dtype] * n for p, n, _ in trained) / offload.link
        exposed += shown(gradients, backward / accumulation)
        if not offload.params:
            exposed += gradients  # updated weights come back: nothing to hide behind
        count = share * sum(p.numel * n for p, n, _ in trained)
        host = 4.0 * count * (4 + 3) if r.formats.master or r.formats.stored == "fp32" else step.moved
        timing.seconds["optimizer", "host_update"] += host / offload.memory
        timing.seconds["optimizer", "update"] = 0.0
    paged = least(sum(step.paged.values()), most(0.0, over))
    if some(paged) and r.accelerator is not None:
        link = default_network(r.accelerator).host_bandwidth
        if link is not None:
            exposed += 2 * paged / (link * constant("host_link_efficiency"))
    if some(exposed):
        timing.seconds["communication", "host_link"] += exposed
