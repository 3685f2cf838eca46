"""LoReFT beside a frozen model: an intervention on the hidden states that a block returns, at its first and last positions.

``{"name": "reft", "rank": 4, "positions": "f3+l2"}``. `Intervention` has the parameters and the arithmetic of pyreft 0.1's LoreftIntervention
(an orthogonal rotation in fp32, parametrized by torch, and a linear source in the model's type); positions are read and written in place, as
pyvene does it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from planner.probe.freezing import CLASSIFIER

BLOCK = re.compile(r"(?:^|\.)(?:layers|layer|h)\.(\d+)$")


class Rotation(nn.Module):
    """`x @ weight` with an orthogonal weight."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, rank, dtype=torch.float32))
        if not self.weight.is_meta:
            nn.init.orthogonal_(self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.matmul(x.to(self.weight.dtype), self.weight)


class Intervention(nn.Module):
    """h + Rᵀ(W h + b − R h) (Wu et al. 2024, arXiv:2404.03592, eq. 2)."""

    def __init__(self, width: int, rank: int, dtype: torch.dtype) -> None:
        super().__init__()
        rotate: Any = torch.nn.utils.parametrizations.orthogonal(Rotation(width, rank))
        self.rotate, parametrization = rotate, rotate.parametrizations.weight[0]
        if parametrization.base is None:  # meta tensors have no QR decomposition to complete the weight with
            parametrization.base = torch.empty(width, width)
        self.source = nn.Linear(width, rank).to(dtype)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        rotate: Any = self.rotate
        rotated: torch.Tensor = rotate(h)
        output: torch.Tensor = h + torch.matmul(self.source(h) - rotated, rotate.weight.T)
        return output.to(h.dtype)


def parse(positions: str) -> tuple[int, int]:
    """`f3+l2` as (3, 2)."""
    found = {part[0]: int(part[1:]) for part in positions.split("+")}
    return found.get("f", 0), found.get("l", 0)


def apply(model: nn.Module, method: Mapping[str, Any]) -> nn.Module:
    """Freeze the model (but a classification head) and let every block be followed by an intervention."""
    first, last = parse(method["positions"])
    dtype = next(model.parameters()).dtype
    config: Any = model.config
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(bool(CLASSIFIER.match(name)))
    chosen = method.get("layers")
    layers = {chosen} if isinstance(chosen, int) else chosen
    made = nn.ModuleDict()
    for name, block in model.named_modules():
        found = BLOCK.search(name)
        if found is None or (layers is not None and int(found.group(1)) not in layers):
            continue
        made[found.group(1)] = Intervention(config.hidden_size, method["rank"], dtype)
        block.register_forward_hook(_after(made[found.group(1)], first, last))
    model.interventions = made
    return model


def _after(intervention: nn.Module, first: int, last: int) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        hidden = output if isinstance(output, torch.Tensor) else output[0]
        length = hidden.shape[1]
        index = torch.tensor([*range(first), *range(length - last, length)], device=hidden.device)
        hidden[:, index] = intervention(hidden[:, index])

    return hook
