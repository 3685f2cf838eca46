"""Parameter counts of the real modules, on the meta device: instant at any size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.oracles.models import build


def count(
    config: Mapping[str, Any], head: str | None = None, method: Mapping[str, Any] | None = None
) -> dict[str, int]:
    """Parameters of the model, shared ones once: ``{"total", "trainable"}``, adapters included in both.

    A model of any size is instant: parameters live on the meta device and hold no data.
    """
    model = build(config, head=head, method=method)
    parameters = {id(p): p for p in model.parameters()}.values()
    return {
        "total": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
    }
