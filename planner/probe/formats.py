"""Number formats of a run on a torch device: stored weights, autocast, loss scaling, tf32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from planner.errors import PlanError
from planner.run import Precision

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
QUANTIZED = ("nf4", "nf4-dq", "int8")


@dataclass(frozen=True)
class Format:
    """What a precision means to torch.

    weights: dtype of the stored weights (of what is not quantised, where a base is) · autocast: dtype, None when it is off ·
    quantized: ``nf4``, ``nf4-dq`` or ``int8``, None for plain weights · tf32: whether fp32 products may run as tf32 ·
    master: whether the optimizer works on fp32 copies.
    """

    weights: torch.dtype
    autocast: torch.dtype | None
    quantized: str | None
    tf32: bool
    master: bool

    def casts(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        """Autocast as the Trainer enters it, or nothing."""
        return contextlib.nullcontext() if self.autocast is None else torch.autocast(device.type, dtype=self.autocast)

    @contextlib.contextmanager
    def products(self) -> Iterator[None]:
        """fp32 products as tf32 or in full, within the block."""
        matmul, convolution = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32
        try:
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolution


def read_format(precision: Precision) -> Format:
    """The format of a run's precision. Raises `PlanError` for what plain transformers and torch do not compute in."""
    compute, weights = precision.compute, precision.weights
    if compute not in ("fp32", "tf32", "bf16", "fp16"):
        raise PlanError(
            "precision.compute", compute, "is not built by the probe, which runs plain torch products", "Use bf16, fp16, tf32 or fp32."
        )
    if weights not in (*DTYPES, *QUANTIZED):
        raise PlanError("precision.weights", weights, "is not built by the probe", f"Use {', '.join((*DTYPES, *QUANTIZED))}.")
    low = DTYPES.get(compute)
    quantized = weights if weights in QUANTIZED else None
    stored = DTYPES[weights] if quantized is None else (low or torch.float32)
    if not precision.autocast and quantized is None and stored != (low or torch.float32):
        raise PlanError(
            "precision.autocast", False, f"leaves {weights} weights and {compute} products without a cast", "Set autocast: true."
        )
    autocast = low if precision.autocast and compute in ("bf16", "fp16") else None
    return Format(stored, autocast, quantized, compute == "tf32", precision.master_weights and stored != torch.float32)
