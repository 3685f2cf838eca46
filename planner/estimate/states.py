"""Memory of one rank over the optimizer step: persistent states by name, and the moments of the walk on top of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.estimate import ledger
from planner.estimate.arrays import least, some
from planner.estimate.constants import constant
from planner.estimate.late_weights import kept_for_weights
from planner.estimate.memory import (
    COMMUNICATION,
    COMPONENTS,
    GRADIENTS,
    OPTIMIZER,
    Moment,
    Persistent,
    Walk,
    added,
    rounded,
)
from planner.estimate.offload import Offload
from planner.estimate.resolve import Resolved
from planner.estimate.schedules import Waiting
from planner.workload import Workload
from planner.workload.graph import BYTES, Parameter
from planner.workload.optimizers import Step, Trained
from planner.workload.precision import QUANTIZED, STORED_BYTES
from planner.workload.quantized import pieces
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


def stored_bytes(r: Resolved, p: Parameter) -> float:
    """Persistent bytes of a parameter: quantized (values and scales, each a tensor) and adapter weights as they are, others in the stored type."""
    if p.dtype in QUANTIZED:
        return sum(rounded(size) for size in pieces(p.dtype, p.numel, p.shape[-1]))
    if p.adapter or p.pinned or p.dtype.endswith(SUFFIX):
        return p.numel * STORED_BYTES[p.dtype]
    return p.numel * STORED_BYTES[r.formats.stored]


def gradient_bytes_of(r: Resolved, p: Parameter) -> float:
    """Persistent bytes of one element's gradient."""
    return BYTES[p.dtype] if p.adapter or p.pinned else BYTES[r.formats.gradient]


@dataclass(frozen=True)
class Detail:
    """Persistent bytes by finer name, for the ledger; each component's parts sum to its books."""

    parts: dict[str, float]
    context: float


class Holdings:
    """Bytes of the persistent states of a rank's parameters, for any share of them. A share may be an array; equal questions are answered once."""

    def __init__(self, r: Resolved, w: Workload, trained: Sequence[Trained]) -> None:
        self._r, self._w, self._trained = r, w, trained
        self._known: dict[tuple[str, object], Any] = {}

    def _once(self, name: str, share: Any, compute: Callable[[], Any]) -> Any:
        key = name, share.tobytes() if isinstance(share, np.ndarray) else share
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    def _spread(self, p: Parameter, share: Any) -> Any:
        """Share of one parameter: experts are spread over fewer replicas than the rest, or over none."""
        if p.expert and self._r.stack.experts_apart:
            return 1.0
        return least(1.0, share * float(self._r.run.parallel.ep)) if p.expert else least(1.0, share)

    def weights(self, share: Any) -> dict[str, float]:
        """Stored weights by part of the model [bytes]; buffers are whole on every rank."""

        def compute() -> dict[str, float]:
            found: dict[str, float] = {}
            for stretch in self._w.stretches:
                for p in stretch.parameters:
                    kind = ledger.group_of(stretch, p.adapter)
                    part = 1.0 if p.buffer else self._spread(p, share)
                    size = rounded(stored_bytes(self._r, p) * part) * stretch.count
                    found[kind] = found.get(kind, 0.0) + size
            return found

        found: dict[str, float] = self._once("weights", share, compute)
        return found

    def frozen_beside_trained(self) -> float:
        """Stored frozen weights of a model in which something is trained [bytes]."""
        parts = [(q, s.count) for s in self._w.stretches for q in s.parameters if not q.buffer]
        if not any(q.trainable for q, _ in parts):
            return 0.0
        return float(sum(stored_bytes(self._r, q) * n for q, n in parts if not q.trainable))

    def working_copy(self) -> float:
        """Weights in the type that the graph computes in [bytes]."""
        return float(
            self._once(
                "copy",
                1.0,
                lambda: sum(
                    rounded(p.numel * BYTES[p.dtype]) * s.count
                    for s in self._w.stretches
                    for p in s.parameters
                    if not p.adapter
                ),
            )
        )

    def masters(self, share: Any) -> Any:
        """fp32 master copies of trained weights [bytes]."""
        return self._once(
            "masters",
            share,
            lambda: sum(4.0 * p.numel * n * self._spread(p, share) for p, n, _ in self._trained if not p.adapter),
        )

    def gradients(self, share: Any) -> Any:
        """Accumulated gradients [bytes]."""
        return self._once(
            "gradients",
            share,
            lambda: sum(
                rounded(p.numel * gradient_bytes_of(self._r, p) * self._spread(p, share)) * n
                for p, n, _ in self._trained
            ),
        )

    def fresh_gradients(self) -> float:
        """Gradients in the type in which backward makes them [bytes]."""
        return float(self._once("fresh", 1.0, lambda: sum(p.numel * BYTES[p.dtype] * n for p, n, _ in self._trained)))

    def quantized_copies(self) -> float:
        """Quantized copies of weights that a step keeps [bytes]."""
        return float(self._once("quantized", 1.0, lambda: cached_weights(self._w)[0]))


def gathers(r: Resolved) -> bool:
    """Whether whole weights are gathered from other ranks."""
    return r.run.parallel.sharding in ("zero3", "hsdp") and replicated(r)


def replicated(r: Resolved) -> bool:
    """Whether other ranks hold the same weights; of several numbers of ranks, whether all have others."""
    return bool(np.all(np.asarray(replicas(r)) > 1))


def kept_whole(r: Resolved) -> bool:
    """Whether a fully sharded pipeline stage gathers its weights once a step and reduces its gradients once (torch.distributed.pipelining:
    `PipelineStage.backward_maybe_with_nosync` asks FSDP neither to reshard nor to reduce before the last micro batch)."""
    return gathers(r) and r.run.parallel.pp > 1 and r.stack.pipelines_gathered


def deferred(r: Resolved) -> bool:
    """Whether gradients of several micro steps are added up whole and divided once (accelerate's `no_sync`, which FSDP takes to keep what it has)."""
    several = bool(np.all(np.asarray(r.run.batch.accumulation) > 1))
    return several and r.stack.defers_reduction and r.run.parallel.sharding in ("zero2", "zero3", "hsdp") and replicated(r)


def settled(r: Resolved, held: Holdings, shares: Shares) -> tuple[Any, Any]:
    """Gradients and gathered weights that are gone when the optimizer runs, since they are divided after the last micro step [bytes]."""
    if kept_whole(r):
        return held.gradients(1.0) - held.gradients(shares.gradients), held.working_copy()
    return (held.fresh_gradients() - held.gradients(shares.gradients) if deferred(r) else 0.0), 0.0


def present(r: Resolved, offload: Offload) -> bool:
    """Whether gradients are there before a micro step: accumulated ones, or a stack's own buffer of them."""
    several = bool(np.all(np.asarray(r.run.batch.accumulation) > 1))
    return (several or (r.stack.fp32_gradients and r.formats.gradient == "fp32")) and not offload.frees_gradients


def books_of(r: Resolved, held: Holdings, step: Step, shares: Shares, offload: Offload) -> dict[str, float]:
    """What is alive during the whole step, by component and finer name [bytes]."""
    fine: dict[str, float] = {}

    def put(name: str, size: Any) -> None:
        if some(size):
            fine[name] = fine.get(name, 0.0) + size

    for kind, size in held.weights(0.0 if offload.params else shares.weights).items():
        put(f"weights/{kind}", size)
    if r.formats.graph != r.formats.stored and not some(shares.weights - 1.0) and not offload.params:
        put("weights/working_copy", held.working_copy())
    put("weights/quantized_copies", held.quantized_copies())
    if not offload.optimizer:
        for name, size in step.states.items():
            put(f"optimizer/{name}", size)
    if r.formats.master and not offload.optimizer:
        put("optimizer/master_weights", held.masters(shares.optimizer))
    if present(r, offload):
        whole = held.fresh_gradients() if deferred(r) else held.gradients(1.0 if kept_whole(r) else shares.gradients)
        put("gradients/accumulated", whole)
    if r.stack.low_gradients and r.formats.gradient == "fp32":
        put("gradients/in_the_weights_type", held.fresh_gradients())
    sharding = r.run.parallel.sharding
    whole = sharding == "ddp" or (sharding == "zero1" and r.stack.low_gradients)
    if whole and r.stack.bucket_copies:
        put("communication/buckets", held.fresh_gradients())
    elif sharding in ("zero1", "zero2"):
        put("communication/buckets", 2 * min(r.stack.bucket_bytes, held.fresh_gradients()))
    if kept_whole(r):
        put("communication/gathered_weights", held.working_copy())
    if r.stack.keeps_gathered and gathers(r):
        put("communication/frozen_weights", held.frozen_beside_trained())
    capability = (r.accelerator.compute_capability if r.accelerator is not None else None) or 0.0
    if _on_gpu(r):
        known = r.profile.measured.workspace_bytes if r.profile.measured is not None else None
        usual = constant("cublas_workspace_bytes_hopper" if capability >= 9.0 else "cublas_workspace_bytes")
        put("workspace/cublas", 2 * (usual if known is None else known))
    return fine


def persistent_of(r: Resolved, fine: dict[str, float], shares: Shares, offload: Offload) -> Persistent:
    """The books at the start of the step, and how gradients and gathered weights are kept."""
    books = [sum(v for k, v in fine.items() if k.split("/")[0] == component) for component in COMPONENTS]
    passing = not kept_whole(r)
    return Persistent(
        tuple(books),
        gradient_bytes=BYTES[r.formats.gradient],
        present=present(r, offload),
        gathered=BYTES[r.formats.compute] if (gathers(r) and passing) or offload.params else None,
        gradient_share=0.0 if offload.frees_gradients else shares.gradients,
        sharded_gradients=(r.run.parallel.sharding in ("zero2", "zero3", "hsdp") and replicated(r) and passing and not deferred(r))
        or offload.frees_gradients,
        offloaded=offload.activations,
    )


def context_of(r: Resolved) -> float:
    """What driver and communication library take outside of the allocator [bytes]."""
    if not _on_gpu(r):
        return 0.0
    measured = r.profile.measured
    if measured is not None and measured.context_bytes is not None:
        own = measured.context_bytes
    else:
        own = constant("cuda_context_bytes")
    several = bool(np.all(np.asarray(r.run.hardware.gpus) > 1))
    return own + (constant("nccl_bytes") if several else 0.0)


def _on_gpu(r: Resolved) -> bool:
    return r.accelerator is not None and r.accelerator.vendor == "NVIDIA"


def waiting_bytes(walk: Walk, w: Workload, flying: Sequence[Waiting]) -> tuple[float, ...]:
    """What further micro batches keep at most, by component [bytes]."""
    late = kept_for_weights(w) if any(some(f.block_weights) or some(f.head_weights) for f in flying) else None
    best: tuple[float, ...] = (0.0,) * len(COMPONENTS)
    for f in flying:
        more = added(added((0.0,) * len(COMPONENTS), walk.kept, f.blocks), walk.kept_head, f.head)
        if late is not None:
            more = added(added(more, late[0], f.block_weights), late[1], f.head_weights)
        best = max(best, more, key=sum)
    return best


def memory_of(
    r: Resolved,
    w: Workload,
    trained: Sequence[Trained],
    step: Step,
    shares: Shares,
    offload: Offload,
    flying: Sequence[Waiting] = (),
) -> tuple[list[Moment], Detail, float]:
    """Moments of the whole optimizer step, the persistent parts behind them, and the saved tensors that went to the host [bytes].

    flying: further micro batches whose activations wait for their backward; of several entries that which takes most.
    """
    held = Holdings(r, w, trained)
    fine = books_of(r, held, step, shares, offload)
    walk = Walk(w, persistent_of(r, fine, shares, offload))
    moments = walk.run()
    more = waiting_bytes(walk, w, flying)
    if any(more):
        moments = [m._replace(parts=added(m.parts, more, 1.0)) for m in moments]
    end = list(walk.live)
    end[OPTIMIZER] += 0.0 if offload.optimizer else step.temporaries
    gradients, gathered = (0.0, 0.0) if offload.frees_gradients else settled(r, held, shares)
    end[GRADIENTS] -= gradients
    end[COMMUNICATION] -= gathered
    walked = moments[-1].position if moments else 0.0  # a stage without layers only passes on
    moments.append(Moment("optimizer", "optimizer", tuple(end), 1.05 * (walked + 1)))
    return moments, Detail(fine, context_of(r)), walk.offloaded
