"""Optimizers: what they remember per parameter, what they need during the step, and how many bytes and kernels the step moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.errors import PlanError
from planner.workload.graph import BYTES, Parameter

Sized = Sequence[tuple[Parameter, float]]
"""Trained parameters with how often each occurs."""

BLOCKWISE = 256
SMALL = 4096
TENSORS_PER_LAUNCH = 64


@dataclass(frozen=True)
class Step:
    """states: name to bytes · temporaries: peak scratch during the step [bytes] · moved: DRAM traffic [bytes] · kernels: launches."""

    states: dict[str, float]
    temporaries: float
    moved: float
    kernels: float


@dataclass(frozen=True)
class Optimizer:
    """A registered optimizer."""

    name: str
    label: str
    help: str
    reference: str
    step: Callable[[Sized, str], Step]


OPTIMIZERS: dict[str, Optimizer] = {}


def register(
    name: str, label: str, help_text: str, reference: str
) -> Callable[[Callable[[Sized, str], Step]], Callable[[Sized, str], Step]]:
    """Add an optimizer under `name`; its function gets the trained parameters and the type in which it works."""

    def add(function: Callable[[Sized, str], Step]) -> Callable[[Sized, str], Step]:
        if name in OPTIMIZERS:
            raise RuntimeError(f"optimizer {name} is registered twice")
        OPTIMIZERS[name] = Optimizer(name, label, help_text, reference, function)
        return function

    return add


def find_optimizer(name: str) -> Optimizer:
    """A registered optimizer. Raises `PlanError` for another name."""
    if name not in OPTIMIZERS:
        raise PlanError("optimizer", name, "is not a known optimizer", f"Use one of {', '.join(OPTIMIZERS)}.")
    return OPTIMIZERS[name]


def _count(parameters: Sized) -> tuple[float, float]:
    return sum(p.numel * n for p, n in parameters), sum(n for _, n in parameters)


def _bytes(parameters: Sized, master: str) -> float:
    """Bytes of the values that the optimizer works on: each parameter's own type, or the masters'."""
    return sum(p.numel * n * (BYTES[master] if master else BYTES[p.dtype]) for p, n in parameters)


def _launches(passes: int, tensors: float) -> float:
    return passes * max(1.0, tensors / TENSORS_PER_LAUNCH)


@register(
    "adamw",
    "AdamW",
    "Two moments per parameter; one kernel per arithmetic step over all tensors (foreach).",
    "Loshchilov & Hutter 2019, arXiv:1711.05101; torch _multi_tensor_adamw",
)
def _adamw(parameters: Sized, master: str) -> Step:
    size, tensors = _bytes(parameters, master), _count(parameters)[1]
    # decay r/w, lerp r2w, mul r/w, addcmul r2w, sqrt r/w, div r/w, add r/w, addcdiv r3w: 20 passes over parameter-sized data; sqrt makes one copy
    return Step({"exp_avg": size, "exp_avg_sq": size}, size, 20 * size, _launches(8, tensors))


@register("adamw-fused", "AdamW, fused", "The same in one kernel: no temporaries.", "torch _fused_adamw")
def _adamw_fused(parameters: Sized, master: str) -> Step:
    size, tensors = _bytes(parameters, master), _count(parameters)[1]
    return Step({"exp_avg": size, "exp_avg_sq": size}, 0.0, 7 * size, _launches(1, tensors))


@register(
    "adamw8bit",
    "AdamW, 8-bit",
    "Moments in 8 bits with one fp32 scale per 256 values; tensors under 4096 elements stay in fp32.",
    "Dettmers et al. 2022, arXiv:2110.02861",
)
def _adamw8bit(parameters: Sized, master: str) -> Step:
    state = sum(n * p.numel * (1 + 4 / BLOCKWISE if p.numel >= SMALL else 4.0) for p, n in parameters)
    size, tensors = _bytes(parameters, master), _count(parameters)[1]
    return Step({"exp_avg": state, "exp_avg_sq": state}, 0.0, 3 * size + 4 * state, tensors)


@register("sgd", "SGD", "No state.", "torch.optim.SGD")
def _sgd(parameters: Sized, master: str) -> Step:
    size, tensors = _bytes(parameters, master), _count(parameters)[1]
    return Step({}, 0.0, 3 * size, _launches(1, tensors))


@register("sgd-momentum", "SGD with momentum", "One momentum buffer per parameter.", "torch.optim.SGD")
def _momentum(parameters: Sized, master: str) -> Step:
    size, tensors = _bytes(parameters, master), _count(parameters)[1]
    return Step({"momentum": size}, 0.0, 8 * size, _launches(3, tensors))


@register(
    "adafactor",
    "Adafactor",
    "Second moments as one row and one column per matrix; no first moment.",
    "Shazeer & Stern 2018, arXiv:1804.04235, algorithm 4",
)
def _adafactor(parameters: Sized, master: str) -> Step:
    state = sum(
        4.0 * n * (p.numel / p.shape[-1] + p.numel / p.shape[-2] if len(p.shape) > 1 else p.numel)
        for p, n in parameters
    )
    # one parameter at a time: grad² and update in fp32, plus fp32 copies of gradient and weight when they are stored in fewer bits
    widest = max((p.numel * (8.0 if p.dtype == "fp32" or master else 16.0) for p, _ in parameters), default=0.0)
    count, tensors = _count(parameters)
    return Step({"factored": state}, widest, 4.0 * 12 * count, 12 * tensors)


@register(
    "lamb",
    "LAMB",
    "AdamW with a trust ratio per tensor, fused over tensors; for very large batches.",
    "You et al. 2020, arXiv:1904.00962, algorithm 2; Apex FusedLAMB",
)
def _lamb(parameters: Sized, master: str) -> Step:
    size, tensors = _bytes(parameters, master), _count(parameters)[1]
    # one stage reads g, p, m, v and writes m, v, update; norms of p and update; a second stage scales
    return Step({"exp_avg": size, "exp_avg_sq": size}, 0.0, 12 * size, _launches(4, tensors))


@register(
    "lion", "Lion", "One moment per parameter; the sign of it is the update.", "Chen et al. 2023, arXiv:2302.06675"
)
def _lion(parameters: Sized, master: str) -> Step:
    size, tensors = _bytes(parameters, master), _count(parameters)[1]
    # per tensor in Python: decay r/w, interpolation, sign, add, lerp
    return Step(
        {"exp_avg": size}, max((p.numel * BYTES[p.dtype] for p, _ in parameters), default=0.0), 12 * size, 6 * tensors
    )
