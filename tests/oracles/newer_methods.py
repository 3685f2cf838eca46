"""peft's newer tuners on modules without values: what stands in for the values that meta and fake tensors do not hold."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import nn


@contextlib.contextmanager
def without_data() -> Iterator[None]:
    """While peft builds on the meta device: SHiRA's random masks and Uni-LoRA's index counts need values."""
    with (
        mock.patch("peft.tuners.shira.config.random_mask", _no_mask),
        mock.patch("peft.tuners.unilora.model.UniLoraModel._assign_unilora_indices_and_scales", _scales),
    ):
        yield


def _no_mask(*_: Any, **__: Any) -> None:
    return None


def _scales(model: Any, adapter: str) -> None:
    for layer in model._iter_unilora_layers():
        shapes = (layer.unilora_indices_A[adapter].shape, layer.unilora_indices_B[adapter].shape)
        layer.update_scaling(adapter, *(torch.empty(shape) for shape in shapes))


def settle(model: nn.Module) -> None:
    """Stand-ins in the adapted model for what reads values while it runs."""
    torch.distributions.Distribution.set_default_validate_args(False)
    if any(type(module).__name__ == "CPTEmbedding" for module in model.modules()):
        import peft

        embedding: Any = peft.tuners.cpt.model.CPTEmbedding
        peft.PeftModelForCausalLM._cpt_forward = _cpt_forward  # type: ignore[method-assign]
        embedding.get_projection = lambda self: self.delta_embedding.weight.detach().clone()  # it asks for values, of which the copy is left
    for module in model.modules():
        if hasattr(module, "shira_weight"):
            for name, weight in module.shira_weight.items():
                module.shira_indices[name] = torch.empty((2, weight.numel()), dtype=torch.int)
            module.get_delta_weight = partial(_dense, module)  # type: ignore[assignment]
        for router in getattr(module, "poly_router", {}).values():
            router.forward = partial(_route, router)
        if hasattr(module, "waveft_spectrum"):
            module.get_delta_weight = partial(_all_inside, module)  # type: ignore[assignment]


def _route(router: Any, task_ids: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
    """PolyRouter.forward without the look at the largest task number."""
    with mock.patch.object(torch.Tensor, "item", return_value=0):
        weights: torch.Tensor = type(router).forward(router, task_ids, input_ids)
    return weights


def place(model: nn.Module) -> None:
    """OSF's hooks stand on parameters, which `build` makes anew."""
    for module in model.modules():
        if hasattr(module, "osf_svd_params"):
            for name in module.osf_svd_params:  # type: ignore[union-attr]
                module._attach_hooks(name)  # type: ignore[operator]


def _cpt_forward(self: Any, input_ids: Any, inputs_embeds: Any, config: Any, task_ids: Any, batch_size: int, **data: Any) -> Any:
    """peft's own without the type mask, which picks tokens by value: the ordinary loss over all of them."""
    labels = data.pop("labels")
    embeds = self.word_embeddings(input_ids)
    prompts = self.get_prompt(batch_size=batch_size, task_ids=task_ids).to(embeds.dtype)
    first = torch.full((batch_size, prompts.shape[1]), -100, dtype=labels.dtype)
    return self.base_model(inputs_embeds=torch.cat((prompts, embeds), dim=1), labels=torch.cat((first, labels), dim=1), **data)


def _dense(layer: Any, adapter: str) -> torch.Tensor:
    """SHiRA's update as a dense matrix, since fake tensors have no sparse gradients: the same products, other memory."""
    values, shape = layer.shira_weight[adapter], (layer.out_features, layer.in_features)
    return torch.zeros(shape, dtype=values.dtype, device=values.device) + values.sum()


class _Inside:
    """The comparison that every index passes, which makes the selection that follows whole."""

    def __and__(self, other: object) -> slice:
        return slice(None)


def _all_inside(layer: Any, adapter: str) -> Any:
    """WaveFT drops coefficients outside the padded matrix; there are none."""
    with mock.patch.object(torch.Tensor, "__lt__", return_value=_Inside()):
        return type(layer).get_delta_weight(layer, adapter)
