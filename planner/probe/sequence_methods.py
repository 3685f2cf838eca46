"""Methods that change blocks or the sequence: prompts and prefixes through peft, adapters as small modules of their own.

- ``{"name": "prompt", "virtual_tokens": 20}``: peft's PromptTuning.
- ``{"name": "p_tuning", "virtual_tokens": 20, "encoder": "mlp" | "lstm", "encoder_hidden": 128}``.
- ``{"name": "prefix", "virtual_tokens": 20, "projection": True, "encoder_hidden": 128}``.
- ``{"name": "adaption_prompt", "virtual_tokens": 10, "adapter_layers": 2}``.
- ``{"name": "adapter", "bottleneck": 64, "placement": "houlsby" | "pfeiffer" | "parallel"}``: `Bottleneck` behind the
  output projections of attention and MLP, or beside the MLP; the base is frozen, a classification head is trained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from planner.probe import newer_methods

NAMES = ("prompt", "p_tuning", "prefix", "adaption_prompt", "adapter", *newer_methods.VIRTUAL)
TASKS = {"causal-lm": "CAUSAL_LM", "sequence-classification": "SEQ_CLS"}
ATTENTION_OUT = re.compile(r"(self_attn\.(o_proj|out_proj|dense)|attn\.c_proj|attention\.(dense|output\.dense))$")
MLP_OUT = re.compile(r"(mlp\.(down_proj|c_proj|fc2|dense_4h_to_h)|layers\.\d+\.fc2|(?<!attention)\.output\.dense)$")
MLP = re.compile(r"(layers|h)\.\d+\.mlp$")
UP_OF_DOWN = (("output.dense", "intermediate"), ("fc2", "fc1"))
CLASSIFIER = re.compile(r"^(score|classifier)\.")


class Bottleneck(nn.Module):
    """`x + up(relu(down(x)))`, or without the sum when it stands beside a branch; works in its own type and casts back."""

    def __init__(self, width: int, bottleneck: int, skip: bool = True) -> None:
        super().__init__()
        self.down, self.up, self.skip = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width), skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.up(torch.relu(self.down(x.to(self.down.weight.dtype))))
        return (x + y).to(x.dtype) if self.skip else y


class Behind(nn.Module):
    """A projection with an adapter behind it."""

    def __init__(self, base: nn.Module, adapter: Bottleneck) -> None:
        super().__init__()
        self.base, self.adapter = base, adapter

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.adapter(self.base(x))  # type: ignore[no-any-return]


class Beside(nn.Module):
    """An MLP with a scaled adapter beside it (He et al. 2021, arXiv:2110.04366, table 1; scale 4)."""

    def __init__(self, base: nn.Module, adapter: Bottleneck) -> None:
        super().__init__()
        self.base, self.adapter = base, adapter

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.base(x)
        return (y + 4.0 * self.adapter(x)).to(y.dtype)  # type: ignore[no-any-return]


class BesideSplit(nn.Module):
    """The same where a block has no MLP module: the down projection adds what the adapter makes of the up projection's input."""

    def __init__(self, up: nn.Module, down: nn.Module, adapter: Bottleneck) -> None:
        super().__init__()
        self.base, self.adapter = down, adapter
        self.inputs: list[torch.Tensor] = []
        up.register_forward_pre_hook(lambda module, args: self.inputs.append(args[0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.base(x)
        return (y + 4.0 * self.adapter(self.inputs.pop())).to(y.dtype)  # type: ignore[no-any-return]


def apply(model: nn.Module, method: Mapping[str, Any], head: str | None) -> nn.Module:
    """The model with the method's parameters added and nothing else trained (but a classification head)."""
    if method["name"] == "adapter":
        return _adapters(model, method)
    import peft

    two_stacks = bool(getattr(model.config, "is_encoder_decoder", False))
    task = "SEQ_2_SEQ_LM" if two_stacks else TASKS[head or "causal-lm"]
    tokens = method["virtual_tokens"]
    config: Any
    if method["name"] == "prompt":
        config = peft.PromptTuningConfig(task_type=task, num_virtual_tokens=tokens)
    elif method["name"] == "p_tuning":
        config = peft.PromptEncoderConfig(
            task_type=task,
            num_virtual_tokens=tokens,
            encoder_reparameterization_type=method.get("encoder", "mlp").upper(),
            encoder_hidden_size=method["encoder_hidden"],
        )
    elif method["name"] == "prefix":
        prefix: Any = peft.PrefixTuningConfig
        config = prefix(
            task_type=task,
            num_virtual_tokens=tokens,
            prefix_projection=method.get("projection", False),
            encoder_hidden_size=method.get("encoder_hidden"),
        )
    elif method["name"] in newer_methods.VIRTUAL:
        config = newer_methods.virtual_tokens(method, task)
    else:
        config = peft.AdaptionPromptConfig(task_type=task, adapter_len=tokens, adapter_layers=method["adapter_layers"])
    adapted: nn.Module = peft.get_peft_model(model, config)
    return newer_methods.with_tasks(adapted) if method["name"] == "multitask_prompt" else adapted


def place_prompt_tokens(model: nn.Module, device: str) -> None:
    """peft keeps the virtual tokens' numbers outside parameters and buffers, so `build` cannot make them anew."""
    tokens: dict[str, torch.Tensor] = getattr(model, "prompt_tokens", None) or {}
    for name in tokens:
        tokens[name] = torch.arange(tokens[name].numel(), device=device)


def _adapters(model: nn.Module, method: Mapping[str, Any]) -> nn.Module:
    config: Any = model.config
    width: int = config.hidden_size
    bottleneck, placement = method["bottleneck"], method["placement"]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(bool(CLASSIFIER.match(name)))
    whole = any(MLP.search(name) for name, _ in model.named_modules())
    for name, module in list(model.named_modules()):
        if placement == "parallel":
            beside = Bottleneck(width, bottleneck, skip=False)
            if whole and MLP.search(name):
                _replace(model, name, Beside(module, beside))
            elif not whole and MLP_OUT.search(name):
                down, up = next(pair for pair in UP_OF_DOWN if name.endswith(pair[0]))
                _replace(model, name, BesideSplit(model.get_submodule(name.removesuffix(down) + up), module, beside))
        elif MLP_OUT.search(name) or (placement == "houlsby" and ATTENTION_OUT.search(name)):
            _replace(model, name, Behind(module, Bottleneck(width, bottleneck)))
    return model


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
