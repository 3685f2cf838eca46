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

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from tests.oracles import denoisers, layer_methods, newer_methods, pictures, reft, sequence_methods, vision_inputs
from tests.oracles.inputs import make


@dataclass(frozen=True)
class Precision:
    """Dtype of the stored weights, and of autocast (None: autocast off)."""

    weights: torch.dtype
    autocast: torch.dtype | None


PRECISIONS: dict[str, Precision] = {
    "fp32": Precision(torch.float32, None),
    "bf16": Precision(torch.bfloat16, None),
    "bf16-mixed": Precision(torch.float32, torch.bfloat16),
    "fp16-mixed": Precision(torch.float32, torch.float16),
    # What Trainer(bf16=True) does to a model that was loaded in bf16: the usual LoRA recipe.
    "bf16-autocast": Precision(torch.bfloat16, torch.bfloat16),
}
HEADS = {
    "causal-lm": "AutoModelForCausalLM",
    "sequence-classification": "AutoModelForSequenceClassification",
    "masked-lm": "AutoModelForMaskedLM",
    "none": "AutoModel",
    "ctc": "AutoModelForCTC",
    "audio-classification": "AutoModelForAudioClassification",
    "image-classification": "AutoModelForImageClassification",
    "object-detection": "AutoModelForObjectDetection",
    "contrastive": "AutoModel",
}
DECODERS = {"input_ids": "AutoModelForSeq2SeqLM", "input_features": "AutoModelForSpeechSeq2Seq"}
"""The language model over a decoder with cross-attention, by what the encoder takes; its head is `causal-lm` too."""
TASKS = {"causal-lm": "CAUSAL_LM", "sequence-classification": "SEQ_CLS"}
"""peft's task of a head: SEQ_CLS also trains a full copy of the classifier, next to the frozen original."""
LAYER = re.compile(r"(?:(encoder|decoder)\.)?\b(?:block|layers|layer|h)\.(\d+)\.")
EMBEDDING = re.compile(r"embed(?!ding_norm)|\bwte\b|\bwpe\b|\bshared\b|\bfeature_\w+|\bconv\d?\b")


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
    import transformers

    values, kind = dict(config), PRECISIONS[precision]
    with unset_fake_temporarily(), torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if "_class_name" in values:
            model = denoisers.make(values, kind.weights, kind.autocast or kind.weights)
        else:
            auto_config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
            auto_class = getattr(transformers, HEADS[head or "causal-lm"])
            if (head or "causal-lm") == "causal-lm" and auto_config.is_encoder_decoder:
                speech = hasattr(auto_config, "max_source_positions")
                auto_class = getattr(transformers, DECODERS["input_features" if speech else "input_ids"])
            if pictures.is_multimodal(config):
                auto_class = transformers.AutoModelForImageTextToText
            if hasattr(auto_config, "use_cache"):
                auto_config.use_cache = False
            own = vision_inputs.constructor(auto_config, head)
            auto_config, make_model = own or (auto_config, auto_class.from_config)
            model = make_model(auto_config, dtype=kind.weights, attn_implementation=attention)
        model = apply_method(model, method, head)
        if pictures.is_multimodal(config):
            pictures.prepare(model)
    if device is not None:
        _remake(model, device)
        sequence_methods.place_prompt_tokens(model, device)
        newer_methods.place(model)
    model.train()
    if checkpointing and "_class_name" in config:
        model.enable_gradient_checkpointing()
    elif checkpointing:
        model.activation_checkpointing_enable()  # as the Trainer calls it: no kwargs, hence use_reentrant=False
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
    """Make exactly the parameters of `method` trainable; LoRA goes through peft, the rest through requires_grad."""
    name = "full" if method is None else method["name"]
    if name == "full":
        return model
    assert method is not None
    if name in sequence_methods.NAMES:
        return sequence_methods.apply(model, method, head)
    if name == "lora" and ("task_type" in method or "dora" in method):
        return _lora(model, method, head)
    if name in layer_methods.NAMES:
        return layer_methods.apply(model, method, head)
    if name == "reft":
        return reft.apply(model, method)
    if name == "galore":  # the optimizer does everything
        return model
    if name == "lisa":
        layers = 1 + max(int(m.group(2)) for n, _ in model.named_parameters() if (m := LAYER.search(n)))
        for parameter_name, parameter in model.named_parameters():
            found = LAYER.search(parameter_name)
            parameter.requires_grad_(found is None or int(found.group(2)) >= layers - method["active_layers"])
        return model
    if name not in ("freeze", "bitfit"):
        raise ValueError(f"the oracle knows no method {name!r}")
    order = _layer_order(name for name, _ in model.named_parameters())
    for parameter_name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and _is_trained(parameter_name, method, order))
    return model


def _layer_order(names: Iterable[str]) -> list[tuple[str, int]]:
    """Layers as (stack, number), an encoder's before the decoder's."""
    found = {(m.group(1) or "", int(m.group(2))) for name in names if (m := LAYER.search(name))}
    return sorted(found, key=lambda layer: (layer[0] == "decoder", layer))


def _is_trained(name: str, method: Mapping[str, Any], order: list[tuple[str, int]]) -> bool:
    if method["name"] == "bitfit":
        return name.endswith("bias")
    if "trainable" in method:
        return any(re.search(pattern, name) for pattern in method["trainable"])
    found = LAYER.search(name)
    layer = order.index((found.group(1) or "", int(found.group(2)))) if found else None
    if "first" in method:
        return not EMBEDDING.search(name) if layer is None else layer >= method["first"]
    return layer is not None and layer >= len(order) - method["last"]


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
