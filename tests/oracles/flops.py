"""FLOPs of the real model's matrix products, counted by ``torch.utils.flop_counter`` on fake tensors.

Counted: matrix products and attention, 2·m·n·k each; the fused attention kernels count the full square of scores (causal
masking is not halved) and five products in backward, for they recompute the scores. Not counted: anything pointwise,
normalisation, softmax, embedding lookups, the loss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

from tests.oracles.memory import autocast, fake_cuda
from tests.oracles.models import build, inputs


def measure(
    config: Mapping[str, Any],
    *,
    batch: int,
    seq: int,
    head: str | None = None,
    method: Mapping[str, Any] | None = None,
    precision: str = "fp32",
    attention: str = "eager",
    checkpointing: bool = False,
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
        data = inputs(model, batch=batch, seq=seq, head=head)
        forward, backward = FlopCounterMode(display=False), FlopCounterMode(display=False)
        with forward, autocast(precision):
            loss = model(**data).loss
        with backward:
            loss.backward()
        by_op: dict[str, dict[str, int]] = {}
        for phase, counter in (("forward", forward), ("backward", backward)):
            counts = Counter({str(op): int(n) for op, n in counter.get_flop_counts()["Global"].items()})
            by_op[phase] = dict(sorted(counts.items()))
        return {
            "forward": int(forward.get_total_flops()),
            "backward": int(backward.get_total_flops()),
            "by_op": by_op,
        }
