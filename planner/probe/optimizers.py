"""The run's optimizer over real parameters, on fp32 master copies where the run keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from planner.errors import PlanError

RATE = 1e-4
Make = Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]


def _from(module: str, name: str, **options: Any) -> Make:
    def make(parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        if find_spec(module.partition(".")[0]) is None:
            raise PlanError("optimizer", name, f"needs the package {module}", f"Install {module}, or use adamw.")
        built: torch.optim.Optimizer = getattr(import_module(module), name)(parameters, lr=RATE, **options)
        return built

    return make


MAKE: Mapping[str, Make] = {
    "adamw": _from("torch.optim", "AdamW"),
    "adamw-fused": _from("torch.optim", "AdamW", fused=True),
    "adam": _from("torch.optim", "Adam"),
    "sgd": _from("torch.optim", "SGD"),
    "sgd-momentum": _from("torch.optim", "SGD", momentum=0.9),
    "adafactor": _from("transformers", "Adafactor", scale_parameter=False, relative_step=False),
    "adamw8bit": _from("bitsandbytes.optim", "AdamW8bit"),
    "paged-adamw": _from("bitsandbytes.optim", "PagedAdamW"),
    "paged-adamw8bit": _from("bitsandbytes.optim", "PagedAdamW8bit"),
    "ademamix": _from("bitsandbytes.optim", "AdEMAMix"),
    "ademamix8bit": _from("bitsandbytes.optim", "AdEMAMix8bit"),
    "adamw-schedule-free": _from("schedulefree", "AdamWScheduleFree"),
    "lion": _from("pytorch_optimizer", "Lion"),
    "soap": _from("pytorch_optimizer", "SOAP"),
    "shampoo": _from("pytorch_optimizer", "ScalableShampoo"),
}
"""Optimizers as the stack builds them: torch chooses foreach on a GPU and one tensor after the other on a processor."""


class Engine:
    """An optimizer and what surrounds its step: fp32 master copies, clipping by norm, loss scaling.

    Arguments
    ---------
    name: the run's optimizer.
    parameters: what is trained.
    master: whether the optimizer works on fp32 copies of lower-precision parameters.
    scaler: torch's gradient scaler, for fp16 autocast.
    """

    def __init__(self, name: str, parameters: Sequence[nn.Parameter], master: bool, scaler: Any | None = None) -> None:
        if name not in MAKE:
            raise PlanError("optimizer", name, "is not built by the probe", f"Use {', '.join(MAKE)}.")
        self.parameters = [p for p in parameters if p.requires_grad]
        if not self.parameters:
            raise PlanError("method.name", "", "trains no parameter of this model", "Use another method or other targets.")
        self.copies = [nn.Parameter(p.detach().float()) for p in self.parameters] if master else None
        self.scaler = scaler
        self.optimizer = MAKE[name](self.copies or self.parameters)
        self._train()

    def _train(self) -> None:
        if callable(switch := getattr(self.optimizer, "train", None)):  # schedule-free optimizers have a mode
            switch()

    def backward(self, loss: torch.Tensor) -> None:
        """Backward of a loss, scaled for fp16."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def clip(self) -> None:
        """Gradients to the master copies, their norm to 1 at most: the Trainer's default."""
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        if self.copies is not None:
            for copy, parameter in zip(self.copies, self.parameters, strict=True):
                copy.grad = None if parameter.grad is None else parameter.grad.float()
                parameter.grad = None
        torch.nn.utils.clip_grad_norm_(self.copies or self.parameters, 1.0)

    def step(self) -> None:
        """The update, and the gradients let go of."""
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.copies is not None:
            with torch.no_grad():
                for copy, parameter in zip(self.copies, self.parameters, strict=True):
                    parameter.copy_(copy)

    def states(self) -> Iterator[torch.Tensor]:
        """Tensors that live between steps: the optimizer's own and the master copies."""
        yield from self.copies or ()
        for state in self.optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, torch.Tensor))
