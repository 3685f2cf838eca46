"""Memory of one rank over the optimizer step: persistent states by name, and the moments of the walk on top of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from planner.estimate import ledger
from planner.estimate.constants import constant
from planner.estimate.memory import COMPONENTS, OPTIMIZER, Moment, Persistent, Walk, added, rounded
from planner.estimate.offload import Offload
from planner.estimate.resolve import Resolved
from planner.workload import Workload
from planner.workload.graph import BYTES, Parameter
from planner.workload.optimizers import Step, Trained
from planner.workload.precision import QUANTIZED, STORED_BYTES
from planner.workload.scaled import cached_weights
from planner.workload.sparse24 import SUFFIX


@dataclass(frozen=True)
class Shares:
    """Fractions of each persistent state that one rank keeps, and what data parallel adds."""

    weights: float
    gradients: float
    optimizer: float


def replicas(r: Resolved) -> int:
    """Ranks that hold the same weights: data-parallel ones, and the context-parallel ones of each."""
    return r.run.dp * r.run.parallel.cp


def _stored(r: Resolved, p: Parameter) -> float:
    """Persistent bytes of one element: quantized and adapter weights as they are, others in the stored type."""
    if p.adapter or p.pinned or p.dtype in QUANTIZED or p.dtype.endswith(SUFFIX):
        return STORED_BYTES[p.dtype]
    return STORED_BYTES[r.formats.stored]


def gradient_bytes_of(r: Resolved, p: Parameter) -> float:
    """Persistent bytes of one element's gradient."""
    return BYTES[p.dtype] if p.adapter or p.pinned else BYTES[r.formats.gradient]


@dataclass(frozen=True)
class Detail:
    """Persistent bytes by finer name, for the ledger; each component's parts sum to its books."""

    parts: dict[str, float]
    context: float


def memory_of(
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
        rounded(p.numel * gradient_bytes_of(r, p) * min(1.0, shares.gradients * spread(p))) * n for p, n, _ in trained
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
    moments.append(Moment("optimizer", "optimizer", tuple(end), 1.05 * (moments[-1].position + 1)))
    context = (constant("cuda_context_bytes") if on_gpu else 0.0) + (
        constant("nccl_bytes") if on_gpu and r.run.hardware.gpus > 1 else 0.0
    )
    return moments, Detail(fine, context), walk.offloaded

