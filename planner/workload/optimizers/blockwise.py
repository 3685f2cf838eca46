"""bitsandbytes: moments in 8 bits with one scale per block, or in 32 bits, on the device or in paged memory."""

from __future__ import annotations

from planner.workload.optimizers.base import PAGED, Step, Task, Trained, blockwise, register

_REFERENCE = "Dettmers et al. 2022, arXiv:2110.02861; bitsandbytes 0.50"
_QUANTILES = 2 * 256 * 4.0
"""The two tables of the dynamic 8-bit types, shared by all tensors [bytes]."""


def _moment(task: Task, t: Trained, bits: int) -> float:
    """Bytes of one moment of one parameter."""
    if bits == 32 or (task.wide_embeddings and t.place == "embedding"):
        return 4.0 * t.parameter.numel
    return blockwise(t.parameter)


def _bitsandbytes(task: Task, bits: int, paged: bool, moments: tuple[int, int]) -> Step:
    """moments: tensors of parameter size in the first and the second state."""
    first, second = moments
    own = outside = 0.0
    for t in task.trained:
        size = _moment(task, t, bits) * t.times
        if paged and t.parameter.numel >= PAGED:
            # only the values are paged: the scales stay on the device
            scales = size - t.parameter.numel * t.times if size < 4.0 * t.parameter.numel * t.times else 0.0
            outside, own = outside + size - scales, own + scales
        else:
            own += size
    # a state without a second moment has one table (bitsandbytes Optimizer1State)
    tables = (_QUANTILES if second else _QUANTILES / 2) if bits == 8 else 0.0
    pages = {name: n * outside for name, n in (("state1", first), ("state2", second)) if n and outside}
    moved = 3 * task.bytes + 2 * (first + second) * (own + outside)
    states = {"state1": first * own, **({"state2": second * own} if second else {}), **({"quantiles": tables} if tables else {})}
    return Step(states, 0.0, moved, task.tensors, paged=pages)


@register(
    "adamw8bit",
    "AdamW, 8-bit",
    "Moments in 8 bits with one fp32 scale per 256 values; tensors under 4096 elements stay in fp32, and embeddings under transformers' Trainer.",
    _REFERENCE,
)
def _adamw8bit(task: Task) -> Step:
    return _bitsandbytes(task, 8, False, (1, 1))


@register(
    "paged-adamw",
    "AdamW, paged",
    "fp32 moments in managed memory: the driver moves them to the host when the device is full.",
    f"{_REFERENCE}; Dettmers et al. 2023, arXiv:2305.14314, sec. 3",
)
def _paged(task: Task) -> Step:
    return _bitsandbytes(task, 32, True, (1, 1))


@register(
    "paged-adamw8bit",
    "AdamW, 8-bit and paged",
    "8-bit moments in managed memory: the driver moves them to the host when the device is full.",
    f"{_REFERENCE}; Dettmers et al. 2023, arXiv:2305.14314, sec. 3",
)
def _paged8bit(task: Task) -> Step:
    return _bitsandbytes(task, 8, True, (1, 1))


@register(
    "ademamix",
    "AdEMAMix",
    "A fast and a slow first moment beside the second, all in fp32.",
    "Pagliardini et al. 2024, arXiv:2409.03137; bitsandbytes 0.50 AdEMAMix",
)
def _ademamix(task: Task) -> Step:
    return _bitsandbytes(task, 32, False, (2, 1))


@register(
    "ademamix8bit",
    "AdEMAMix, 8-bit",
    "Its three moments in 8 bits with one fp32 scale per 256 values.",
    "Pagliardini et al. 2024, arXiv:2409.03137; bitsandbytes 0.50 AdEMAMix8bit",
)
def _ademamix8bit(task: Task) -> Step:
    return _bitsandbytes(task, 8, False, (2, 1))


_LION = f"Chen et al. 2023, arXiv:2302.06675; {_REFERENCE}"


@register("lion8bit", "Lion, 8-bit", "Lion's one moment in 8 bits with one fp32 scale per 256 values.", _LION)
def _lion8bit(task: Task) -> Step:
    return _bitsandbytes(task, 8, False, (1, 0))


@register("paged-lion", "Lion, paged", "Lion's moment in fp32 in managed memory.", _LION)
def _paged_lion(task: Task) -> Step:
    return _bitsandbytes(task, 32, True, (1, 0))


@register("paged-lion8bit", "Lion, 8-bit and paged", "Lion's moment in 8 bits in managed memory.", _LION)
def _paged_lion8bit(task: Task) -> Step:
    return _bitsandbytes(task, 8, True, (1, 0))
