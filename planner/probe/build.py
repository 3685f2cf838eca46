"""A plan's real model, batch and optimizer on a device."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
import transformers
from torch import nn

from planner.errors import PlanError, shorten
from planner.probe.formats import Format, read_format
from planner.probe.inputs import make
from planner.probe.models import apply_method, base_model, checkpoint
from planner.probe.optimizers import Engine
from planner.probe.plan import Plan
from planner.probe.training import Loop

SEED = 20240229


def build(plan: Plan, device: torch.device, config: Mapping[str, Any] | None = None) -> Loop:
    """Model, batch and optimizer of a plan, ready to step.

    Arguments
    ---------
    plan: what to build.
    device: where.
    config: of the model, in place of the plan's own (another depth).

    Errors: PlanError for a method that neither peft nor transformers builds, naming the field; torch.cuda.OutOfMemoryError where it does
    not fit.
    """
    run = plan.resolved.run
    assert run.precision is not None
    kind = read_format(run.precision)
    if device.type == "cuda" and kind.autocast == torch.float16 and kind.weights != torch.float32:
        raise PlanError("precision", "fp16", "under autocast needs fp32 weights: its loss is scaled", "Use fp16-mixed or bf16.")
    logging: Any = transformers.logging
    logging.set_verbosity_error()  # token numbers beyond a small vocabulary mean nothing here
    torch.manual_seed(SEED)
    with torch.device(device), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = base_model(plan.config if config is None else config, plan.resolved.head, kind.weights, plan.attention)
        if kind.quantized is not None:
            model = quantize(model, kind, device)
        model = _with_method(plan, model)
    model.to(device)
    model.train()
    if run.activation_checkpointing == "full":
        checkpoint(model, run.checkpoints.every)
    data = make(model, batch=run.batch.micro, head=plan.resolved.head, device=str(device), **plan.sizes)
    scaler = torch.amp.GradScaler("cuda") if device.type == "cuda" and kind.autocast == torch.float16 else None
    engine = Engine(plan.resolved.optimizer.name, list(model.parameters()), kind.master, scaler)
    return Loop(model, engine, data, kind, device, run.batch.accumulation)


def _with_method(plan: Plan, model: nn.Module) -> nn.Module:
    method = plan.method
    try:
        return apply_method(model, method, plan.resolved.head)
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, ImportError) as error:
        raise PlanError(
            "method.name",
            plan.resolved.run.method.name,
            f"cannot be built here ({shorten(error, 160)})",
            "Use a method and targets that the installed peft has for this model.",
        ) from error


def quantize(model: nn.Module, kind: Format, device: torch.device) -> nn.Module:
    """The model's linear layers in 4 or 8 bits by bitsandbytes, prepared for training as peft does it."""
    if find_spec("bitsandbytes") is None:
        raise PlanError("precision.weights", kind.quantized, "needs bitsandbytes", "Install bitsandbytes, or use bf16 weights.")
    import peft

    bnb: Any = import_module("bitsandbytes")

    for name, module in list(model.named_modules()):
        if not isinstance(module, nn.Linear) or name.split(".")[-1] in ("lm_head", "classifier", "score"):
            continue
        shape, bias = (module.in_features, module.out_features), module.bias is not None
        if kind.quantized == "int8":
            small = bnb.nn.Linear8bitLt(*shape, bias=bias, has_fp16_weights=False, threshold=6.0, device="meta")
            small.weight = bnb.nn.Int8Params(module.weight.data, requires_grad=False, has_fp16_weights=False)
        else:
            double = kind.quantized == "nf4-dq"
            small = bnb.nn.Linear4bit(
                *shape, bias=bias, compute_dtype=kind.weights, compress_statistics=double, quant_type="nf4", device="meta"
            )
            small.weight = bnb.nn.Params4bit(
                module.weight.data, requires_grad=False, compress_statistics=double, quant_type="nf4", module=small
            )
        small.bias = module.bias
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, small.to(device))
    loaded: Any = model
    loaded.is_loaded_in_4bit, loaded.is_loaded_in_8bit = kind.quantized != "int8", kind.quantized == "int8"
    prepare: Any = peft.prepare_model_for_kbit_training
    prepared: nn.Module = prepare(loaded, use_gradient_checkpointing=False)
    return prepared
