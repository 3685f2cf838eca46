"""Liger's fused linear cross-entropy in plain torch (liger_kernel/ops/fused_linear_cross_entropy.py, August 2026): the Triton kernel that turns a chunk's
logits into their gradient in place is one in-place operator here."""

from __future__ import annotations

import math
from typing import Any

import torch

from tests.oracles.memory import fake_cuda


class Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        rows, width = x.shape
        vocab = weight.shape[0]
        chunk = 2 ** math.ceil(math.log2(-(-rows // -(-vocab // width))))
        grad_x = torch.zeros_like(x)
        grad_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        losses = torch.zeros(rows, dtype=torch.float32)
        for start in range(0, rows, chunk):
            part = x[start : start + chunk]
            logits = part @ weight.t()
            logits.mul_(1.0)
            grad_x[start : start + chunk] = logits @ weight
            if grad_weight is not None:
                grad_weight += torch.mm(logits.t(), part).float()
        ctx.save_for_backward(grad_x, grad_weight)
        return losses.sum()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        grad_x, grad_weight = ctx.saved_tensors
        return grad_x, grad_weight


def measure(rows: int, width: int, vocab: int, dtype: torch.dtype, trained: bool) -> dict[str, int]:
    """Bytes beside input and weight: the peak of forward, what is kept, and the peak of backward with the gradients that it leaves."""
    with fake_cuda() as tracker:
        x = torch.empty(rows, width, dtype=dtype).requires_grad_()
        weight = torch.empty(vocab, width, dtype=dtype).requires_grad_(trained)
        for tensor in (x, weight):
            tracker.add(tensor, "static", "")
        static = tracker.raw
        found: dict[str, int] = {}
        with tracker:
            tracker.phase = "forward"
            loss = Loss.apply(x, weight)
            found["kept"] = tracker.raw - static - 4
            tracker.phase = "backward"
            loss.backward()
        found |= {phase: peak.raw - static for phase, peak in tracker.peaks.items() if phase in ("forward", "backward")}
    return found
