"""Optimizers whose packages are not at hand, written out from their authors' algorithms, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from planner.probe.tracker import StorageTracker

State = dict[str, torch.Tensor]


def sophia(p: torch.Tensor, grad: torch.Tensor, state: State) -> None:
    """SophiaG's update (Liu et al. 2023, arXiv:2305.14342, algorithm 3; the authors' _single_tensor_sophiag)."""
    p.mul_(1 - 1e-5)
    state["exp_avg"].mul_(0.965).add_(grad, alpha=0.035)
    ratio = (state["exp_avg"].abs() / (0.04 * state["hessian"] + 1e-15)).clamp(None, 1)
    p.addcmul_(state["exp_avg"].sign(), ratio, value=-1e-4)


def lamb(p: torch.Tensor, grad: torch.Tensor, state: State) -> None:
    """LAMB (You et al. 2020, arXiv:1904.00962, algorithm 2) as Apex's fused kernels store it: the update takes the gradient's place."""
    state["exp_avg"].lerp_(grad, 0.1)
    state["exp_avg_sq"].mul_(0.999).addcmul_(grad, grad, value=0.001)
    grad.copy_(state["exp_avg"])
    p.add_(grad, alpha=-1e-4)


def sgd(p: torch.Tensor, grad: torch.Tensor, state: State) -> None:
    """Plain gradient descent."""
    p.add_(grad, alpha=-1e-4)


WRITTEN: dict[str, tuple[Callable[[torch.Tensor, torch.Tensor, State], None], tuple[str, ...]]] = {
    "sophia": (sophia, ("exp_avg", "hessian")),
    "lamb": (lamb, ("exp_avg", "exp_avg_sq")),
    "sgd": (sgd, ()),
}
"""The update of one parameter and the states that it keeps in the parameter's type."""


def measure(name: str, shapes: list[tuple[int, ...]], dtype: torch.dtype) -> dict[str, int]:
    """Bytes of all states and the peak of scratch of one step over parameters of these shapes."""
    update, states = WRITTEN[name]
    parameters = [nn.Parameter(torch.randn(shape, dtype=dtype), requires_grad=False) for shape in shapes]
    held: list[State] = [{key: torch.zeros_like(p) for key in states} for p in parameters]
    gradients = [torch.randn_like(p) for p in parameters]
    tracker = StorageTracker()
    flat: list[Any] = [*parameters, *gradients, *(t for state in held for t in state.values())]
    for tensor in flat:
        tracker.add(tensor, "static", "")
    before = tracker.raw
    with tracker:
        for p, grad, state in zip(parameters, gradients, held, strict=True):
            update(p, grad, state)
    kept = sum(t.numel() * t.element_size() for state in held for t in state.values())
    return {"states": kept, "scratch": max((peak.raw for peak in tracker.peaks.values()), default=before) - before}
