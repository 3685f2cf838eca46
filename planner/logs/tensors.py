"""Which tensors of a plan have the size of an allocation that failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from planner.estimate.ranks import setting_of
from planner.estimate.resolve import resolve
from planner.estimate.shape import shape_of
from planner.run import Run
from planner.units import GIB, MIB
from planner.workload.graph import BYTES
from planner.workload.trace import trace

BLOCK: Final = 2 * MIB
"""Segments are whole multiples of it (c10/cuda/CUDACachingAllocator.cpp: kRoundLarge); those of 1 to 10 MiB are 20 MiB (kLargeBuffer)."""
LARGE: Final = 20 * MIB


@dataclass(frozen=True, slots=True)
class Sized:
    """A tensor: where it stands, its size [bytes], and that size as a product."""

    name: str
    bytes: float
    formula: str
    logits: bool = False


def tensors(run: Run) -> list[Sized]:
    """Tensors that a micro step of a run allocates in one piece, each size once. Raises `PlanError` for a run that cannot be planned."""
    found: dict[tuple[str, float], Sized] = {}
    for one in _all(run):
        found.setdefault((one.name, one.bytes), one)
    return list(found.values())


def matching(sizes: list[Sized], tried: float) -> list[Sized]:
    """Tensors whose allocation a message of `tried` bytes can be of; none for small pieces, which any tensor could ask for."""
    if tried <= LARGE:
        return []
    slack = 0.0051 * GIB if tried >= GIB else 0.0051 * MIB  # two decimals are printed
    return [one for one in sizes if abs(-(-one.bytes // BLOCK) * BLOCK - tried) <= slack]


def _all(run: Run) -> Iterator[Sized]:
    resolved = resolve(run)
    batch = resolved.run.batch
    text = batch.seq_len or 0
    shape = shape_of(resolved.run, text, resolved.arch.sample_tokens(batch) - text)
    workload = trace(setting_of(resolved, shape.longest), resolved.head, resolved.run.activation_checkpointing)
    for stretch in workload.stretches:
        for operation in stretch.operations:
            for tensor in (*operation.outputs, *operation.saved):
                if tensor.parameter is None and tensor.storage.bytes:
                    name = f"{operation.name.replace('_', ' ')} ({stretch.name})"
                    yield Sized(name, tensor.storage.bytes, _product(tensor.shape, tensor.dtype), tensor.storage.category == "logits")
            for scratch in operation.temporary:
                if scratch:
                    yield Sized(f"scratch of {operation.name.replace('_', ' ')} ({stretch.name})", scratch, "bytes of one kernel's scratch")
        for parameter in stretch.parameters:
            if parameter.trainable:
                size = parameter.numel * BYTES.get(parameter.dtype, 2)
                yield Sized(f"gradient of {parameter.name} in {parameter.dtype}", size, _product(parameter.shape, parameter.dtype))
                yield Sized(f"optimizer state of {parameter.name}", parameter.numel * 4, _product(parameter.shape, "fp32"))
            elif not parameter.buffer:
                yield Sized(f"{parameter.name}, loading", parameter.numel * BYTES.get(parameter.dtype, 2), _product(parameter.shape, parameter.dtype))


def _product(shape: tuple[float, ...], dtype: str) -> str:
    """A size as people write it: "4 × 2048 × 128256 × 4 bytes (fp32)"."""
    size = BYTES.get(dtype, 2)
    return " × ".join(f"{part:g}" for part in (*shape, size)) + f" bytes ({dtype})"
