"""Build the real transformers (and peft) model of a case from a config mapping, without data.

A case is described by plain values so that it can be written to JSON:

- ``config``: what a Hugging Face ``config.json`` holds, ``model_type`` included;
- ``head``: ``"causal-lm"`` (default), ``"sequence-classification"``, ``"masked-lm"`` or ``"none"``;
- ``method``: None or ``{"name": "full"}``; ``{"name": "lora", "rank": 8, "targets": ["q_proj"] | "all-linear",
  "dropout": 0.0}`` (with peft's task type for the head unless ``task_type`` says otherwise); ``{"name": "freeze",
  "trainable": [regular expressions]}``; ``{"name": "freeze", "first": k}`` (embeddings and the first k layers frozen);
  ``{"name": "freeze", "last": k}`` (only the last k layers trained); ``{"name": "bitfit"}`` (only biases); and the
  methods of `sequence_methods` and `layer_methods`;
- ``precision``: a name of `PRECISIONS`;
- what the batch holds follows from the model's main input (`inputs.py`); its sizes have the names of a run's batch fields.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

import planner.probe.models
from planner.probe import reft, sequence_methods
from planner.probe.freezing import CLASSIFIER
from planner.probe.inputs import make
from planner.probe.models import base_model, checkpoint, multimodal
from tests.oracles import denoisers, newer_methods, pictures, quantized


@dataclass(frozen=True)
class Precision:
    """Dtype of the stored weights, and of autocast (None: autocast off). base: format of quantized linear weights ·
    wide: everything else was cast to fp32 (peft's prepare_model_for_kbit_training)."""

    weights: torch.dtype
    autocast: torch.dtype | None
    base: str | None = None
    wide: bool = False


PRECISIONS: dict[str, Precision] = {
    "fp32": Precision(torch.float32, None),
    "bf16": Precision(torch.bfloat16, None),
    "bf16-mixed": Precision(torch.float32, torch.bfloat16),
    "fp16-mixed": Precision(torch.float32, torch.float16),
    # What Trainer(bf16=True) does to a model that was loaded in bf16: the usual LoRA recipe.
    "bf16-autocast": Precision(torch.bfloat16, torch.bfloat16),
    **{base: Precision(torch.bfloat16, None, base) for base in quantized.LAYERS},
    **{f"{base}-autocast": Precision(torch.bfloat16, torch.bfloat16, base) for base in quantized.LAYERS},
    **{f"{base}-wide": Precision(torch.bfloat16, torch.bfloat16, base, True) for base in ("nf4", "nf4-dq", "int8")},
}
TASKS = {"causal-lm": "CAUSAL_LM", "sequence-classification": "SEQ_CLS"}
"""peft's task of a head: SEQ_CLS also trains a full copy of the classifier, next to the frozen original."""


def build(
    config: Mapping[str, Any],
    *,
    head: str | None = None,
    method: Mapping[str, Any] | None = None,
    precision: str = "fp32",
    attention: str = "eager",
    checkpointing: bool = False,
    device: str | None = None,
) -> nn.Module:
    """The model in training mode, with exactly the parameters of `method` trainable.

    It is built on the meta device, which is instant at any size; with `device` its tensors are then made anew there
    (call within a ``FakeTensorMode``).
    """
    values, kind = dict(config), PRECISIONS[precision]
    with unset_fake_temporarily(), torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if "_class_name" in values:
            model = denoisers.make(values, kind.weights, kind.autocast or kind.weights)
        else:
            model = base_model(values, head or "causal-lm", kind.weights, attention)
        if kind.base is not None:
            quantized.quantize(model, kind.base, kind.weights, kind.wide)
        with quantized.adapters() if kind.base is not None else contextlib.nullcontext():
            model = apply_method(model, method, head)
        if multimodal(config):
            pictures.prepare(model)
    if device is not None:
        _remake(model, device)
        sequence_methods.place_prompt_tokens(model, device)
        newer_methods.place(model)
    model.train()
    if checkpointing and "_class_name" in config:
        model.enable_gradient_checkpointing()
    elif checkpointing:
        checkpoint(model)
    return model


def _remake(model: nn.Module, device: str) -> None:
    """Replace every parameter and buffer by an empty one on `device`; what was shared stays shared."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                if id(parameter) not in made:
                    empty = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
                    made[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
                module._parameters[name] = made[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=device)


def apply_method(model: nn.Module, method: Mapping[str, Any] | None, head: str | None = None) -> nn.Module:
    """The product's `apply_method` for modules without values, and methods that the product does not build."""
    name = "full" if method is None else method["name"]
    if method is not None and name == "lora" and ("task_type" in method or "dora" in method):
        return _lora(model, method, head)
    if method is not None and name == "reft":
        return reft.apply(model, method)
    with mock.patch("peft.tuners.boft.layer.BOFTLayer.perm2mat", _permutation), newer_methods.without_data():
        adapted = planner.probe.models.apply_method(model, method, head)
    newer_methods.settle(adapted)
    for module in adapted.modules():
        if name in ("loha", "lokr") and hasattr(module, "module_dropout"):
            module.module_dropout["default"] = _Less()  # type: ignore[operator]
        if name == "vblora" and hasattr(module, "vblora_logits_A"):
            module._get_lora_matrices = partial(_matrices_of_finite_logits, module)  # type: ignore[assignment]
    if method is not None and name == "freeze" and "last" in method:  # the truths were recorded with a frozen classification head
        for parameter_name, parameter in adapted.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and not CLASSIFIER.match(parameter_name))
    return adapted


class _Less:
    """Smaller than any tensor: a module dropout of zero that a fake random number can be compared with."""

    def __lt__(self, other: object) -> bool:
        return True


class _Finite:
    def any(self) -> bool:
        return False


def _permutation(layer: Any, indices: torch.Tensor) -> torch.Tensor:
    """BOFT's permutation matrix without reading the indices, which meta tensors do not hold."""
    return torch.zeros(len(indices), len(indices))


def _matrices_of_finite_logits(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """VB-LoRA first looks for infinite logits, which fake tensors cannot answer."""
    with mock.patch.object(torch.Tensor, "isinf", return_value=_Finite()):
        return type(layer)._get_lora_matrices(layer, *args, **kwargs)


def _lora(model: nn.Module, method: Mapping[str, Any], head: str | None) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=method["rank"],
        lora_alpha=method.get("alpha", 16),
        lora_dropout=method.get("dropout", 0.0),
        target_modules=method["targets"],
        modules_to_save=method.get("modules_to_save"),
        task_type=method.get("task_type", TASKS.get(head or "causal-lm")),
        use_dora=method.get("dora", False),
    )
    return get_peft_model(model, config)  # type: ignore[arg-type,return-value]


def inputs(
    model: nn.Module,
    *,
    batch: int,
    seq: int | None = None,
    head: str | None = None,
    padding: bool = False,
    **sizes: Any,
) -> Mapping[str, torch.Tensor]:
    """One batch of what the model takes, and the labels that the head expects (see `inputs.py`)."""
    given = {"seq": seq, **sizes} if seq is not None else sizes
    return make(model, batch=batch, head=head, **given, **({"padding": True} if padding else {}))
