"""Methods that train a part of the model's own parameters: requires_grad by name, nothing added."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

LAYER = re.compile(
    r"^(?!.*\b(?:backbone\.(?!layers\.\d)|bbox_predictor\.)).*?(?:(encoder|decoder)\.)?"
    r"\b(?:albert_layer_groups|blocks|block|layers|layer|h)\.(\d+)\."
)
"""A layer of a transformer; those of a convolutional backbone before it, and of the head that gives boxes, are none."""
EMBEDDING = re.compile(
    r"embed(?!ding_norm)|\bwte\b|\bwpe\b|\bshared\b|\bfeature_\w+|\bconv\d?\b|\bpatch_conv\b|\bln_pre\b|\bbackbone\b(?!\.norm_f)|"
    r"\binput_projection\b"
)
CLASSIFIER = re.compile(r"^(score|classifier)\.")
"""A classification head starts from random values and is always trained."""
TOWER = re.compile(r"^model\.vis")
"""Parameters of the tower of a vision-language model, whose layers come before those of the language model."""
NAMES = ("freeze", "bitfit", "lisa")


def freeze(model: nn.Module, method: Mapping[str, Any]) -> nn.Module:
    """The same model with the trained parameters of ``freeze``, ``bitfit`` or ``lisa``. Raises ValueError for another name."""
    name = method["name"]
    if name not in NAMES:
        raise ValueError(f"no parameters are known for the method {name!r}")
    names = [parameter_name for parameter_name, _ in model.named_parameters()]
    order = _layer_order(names)
    active = method.get("active_layers") or 2
    for parameter_name, parameter in model.named_parameters():
        if name == "lisa":
            found = LAYER.search(parameter_name)
            layers = 1 + max(number for _, number in order)
            parameter.requires_grad_(found is None or int(found.group(2)) >= layers - active)
        else:
            parameter.requires_grad_(parameter.requires_grad and _is_trained(parameter_name, method, order))
    return model


def _stack(name: str, found: re.Match[str]) -> str:
    """The stack of a layer: a tower, an encoder or a decoder where there are several."""
    return "tower" if TOWER.match(name) else found.group(1) or ""


def _layer_order(names: Iterable[str]) -> list[tuple[str, int]]:
    """Layers as (stack, number), a tower's and an encoder's before the others."""
    found = {(_stack(name, m), int(m.group(2))) for name in names if (m := LAYER.search(name))}
    return sorted(found, key=lambda layer: (layer[0] != "tower", layer[0] == "decoder", layer))


def _is_trained(name: str, method: Mapping[str, Any], order: list[tuple[str, int]]) -> bool:
    if method["name"] == "bitfit":
        return name.endswith("bias")
    if "trainable" in method:
        given = method["trainable"]
        return any(re.search(pattern, name) for pattern in ([given] if isinstance(given, str) else given))
    found = LAYER.search(name)
    layer = order.index((_stack(name, found), int(found.group(2)))) if found else None
    if "first" in method:
        return not EMBEDDING.search(name) if layer is None else layer >= method["first"]
    return layer >= len(order) - method["last"] if layer is not None else bool(CLASSIFIER.match(name))
