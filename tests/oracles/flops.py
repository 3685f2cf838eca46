"""FLOPs of the real model's matrix products, counted by ``torch.utils.flop_counter`` on fake tensors.

Counted: matrix products and attention, 2·m·n·k each; the fused attention kernels count the full square of scores (causal
masking is not halved) and five products in backward, for they recompute the scores. Not counted: anything pointwise,
normalisation, softmax, embedding lookups, the loss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
import transformers.integrations.moe  # noqa: F401  registers its fallback of the grouped product
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from tests.oracles.memory import autocast, fake_cuda
from tests.oracles.models import build, inputs


def _grouped(a: torch.Size, b: torch.Size, *_: Any, **__: Any) -> int:
    """[rows, k] × [experts, k, n]; or, for the gradient of the weights, [m, rows] × [rows, n]: rows are spread over the experts."""
    return 2 * a[0] * a[1] * b[-1]


def _grouped_backward(a: torch.Size, b: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * _grouped(a, b)


def _convolution_backward(gradient: torch.Size, x: torch.Size, weight: torch.Size, *arguments: Any, **_: Any) -> int:
    """As many products as the forward pass for each of the two gradients that is formed.

    torch's own formula ignores groups in the weight's gradient and so counts it `groups` times; without groups this is the same.
    arguments: bias sizes, stride, padding, dilation, transposed, output padding, groups, which gradients are formed.
    """
    transposed, wanted = arguments[4], arguments[7]
    return int(conv_flop_count(list(x), list(weight), list(gradient), transposed=transposed) * sum(wanted[:2]))


def _product(a: torch.Size, b: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * a[0] * a[1] * b[1]


_MOE = torch.ops.transformers
GROUPED: dict[Any, Any] = {
    torch.ops.aten.convolution_backward: _convolution_backward,
    torch.ops.aten._grouped_mm: _grouped,
    torch.ops.aten._int_mm: _product,
    _MOE.grouped_mm_fallback: _grouped,
    _MOE.grouped_mm_fallback_backward: _grouped_backward,
}
"""Formulas of the products that ``torch.utils.flop_counter`` does not know, or counts wrongly."""


def measure(
    config: Mapping[str, Any],
    *,
    batch: int,
    seq: int | None = None,
    head: str | None = None,
    method: Mapping[str, Any] | None = None,
    precision: str = "fp32",
    attention: str = "eager",
    checkpointing: bool = False,
    **sizes: Any,
) -> dict[str, Any]:
    """FLOPs of one micro-batch: ``forward``, ``backward`` (recomputation included) and ``by_op`` (both, by operation)."""
    with fake_cuda():
        model = build(
            config,
            head=head,
            method=method,
            precision=precision,
            attention=attention,
            checkpointing=checkpointing,
            device="cpu",
        )
        data = inputs(model, batch=batch, seq=seq, head=head, **sizes)
        forward, backward = (FlopCounterMode(display=False, custom_mapping=GROUPED) for _ in range(2))
        with forward, autocast(precision):
            loss = model(**data).loss
        with backward:
            loss.backward()
        by_op: dict[str, dict[str, int]] = {}
        for phase, counter in (("forward", forward), ("backward", backward)):
            counts = Counter({str(op): int(n) for op, n in counter.get_flop_counts().get("Global", {}).items()})
            by_op[phase] = dict(sorted(counts.items()))
        return {
            "forward": int(forward.get_total_flops()),
            "backward": int(backward.get_total_flops()),
            "by_op": by_op,
        }
