"""An estimate's sentences: what limits the step, what was assumed, what to beware of."""

from __future__ import annotations

from planner.estimate.constants import source
from planner.estimate.offload import HostBytes
from planner.estimate.resolve import Resolved
from planner.estimate.schedules import SPLIT
from planner.estimate.shape import Shape
from planner.estimate.time import StepTime
from planner.units import format_bytes, format_count, significant
from planner.workload import Workload
from planner.workload.imported import guessed_share

NOT_MODELLED = (
    "Data loading, evaluation, checkpoint writing, start-up, compilation and restarts are not in the step time.",
    "All sequences have the full length and no padding mask; with padding, sdpa falls back to a slower kernel and keeps a mask per layer.",
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
    "context": "keys, values or heads of other ranks",
    "bubble": "waiting for other pipeline stages",
}


def limits_of(timing: StepTime) -> str:
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


def assumptions_of(r: Resolved, shape: Shape, held: float) -> list[str]:
    """What was taken as given, one sentence each. held: what the allocator comes to hold where lengths differ [bytes]."""
    lines = [
        f"Device curves: {r.profile.basis} ({r.profile.source})",
        f"Driver context: {source('cuda_context_bytes')}",
    ]
    packing = r.run.data.packing if r.run.data is not None else "packed"
    if not shape.packed:
        lines.append(
            f"{packing.capitalize()} samples: a batch takes the time of {shape.computed} tokens a sample, "
            f"{shape.waste:.0%} of them padding; the longest, of {shape.longest + shape.beside}, sets the peak memory. Tokens per second count real tokens."
        )
    if not shape.packed and packing != "fixed":
        lines.append(
            f"Batches of many lengths leave gaps: the allocator may come to hold {format_bytes(held)}, which nvidia-smi shows; it gives them back "
            "before it fails, so that the verdict does not count them."
        )
    data, seq = r.run.data, r.arch.sample_tokens(r.run.batch)
    if packing == "best-fit" and shape.waste:
        lines.append(
            f"Whole samples in sequences of {shape.computed} tokens: {shape.waste:.1%} of them padding. Attention is counted over whole sequences; "
            "kernels that stay within samples take less."
        )
    if shape.cut >= 0.0005:
        lines.append(f"{shape.cut:.1%} of the data's tokens lie beyond {seq} and are cut off: nothing is trained on them.")
    if packing == "packed" and data is not None and data.samples is not None and shape.mean < seq:
        ratio = significant(seq / shape.mean, 2)
        lines.append(f"Samples are packed to {seq} tokens; padded one by one they take {ratio} times as many steps.")
    p = r.run.parallel
    if p.tp > 1 and r.arch.towers:
        lines.append(f"The {r.arch.towers[0].tower} tower stands whole on every tensor-parallel rank, as in the models' own plans of transformers.")
    if p.schedule in SPLIT and r.run.activation_checkpointing == "full":
        lines.append("Checkpointed blocks are recomputed once, for the gradients of activations; what those of weights need is kept from there.")
    if r.run.hardware.gpus > 1:
        lines.append(f"Communication library: {source('nccl_bytes')}")
    return lines


def host_warnings(r: Resolved, host: HostBytes) -> tuple[str, ...]:
    """Host memory of a machine against what its ranks put there."""
    given = r.run.hardware.host_memory_gib
    need = host.total * min(r.run.hardware.gpus, r.run.hardware.gpus_per_node or 1)
    if given is None or need <= given * 2**30:
        return ()
    return (f"Host memory: a machine needs {format_bytes(need)} for what is offloaded and has {given:g} GiB.",)


def warnings_of(r: Resolved, w: Workload, price_problem: str, hours: float | None) -> tuple[str, ...]:
    """What to beware of."""
    lines = []
    if r.arch.imported:
        lines.append(
            f"Imported by structure: {r.arch.model_type} has no reader, so its modules were built and read. "
            "Parameters are exact; what its code does between them is assumed from their widths."
        )
        if share := guessed_share(r.arch):
            lines.append(
                f"{share:.0%} of its parameters are matrices outside of linear layers, embeddings and norms: they are taken for stacked experts, "
                "so that FLOP and memory of a model that uses them otherwise are wrong."
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


def summary_of(r: Resolved, w: Workload) -> str:
    """One line on the model; of a mixture also how much of it each token passes."""
    idle = r.arch.idle_parameters
    if not idle:
        return r.arch.summary
    total = w.parameter_count()
    return f"{r.arch.summary}, {format_count(total - idle)} of {format_count(total)} parameters active"
