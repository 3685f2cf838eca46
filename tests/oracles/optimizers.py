"""What real optimizers keep on the device: their state tensors after two steps, and the peak of scratch during the third.

The packages (schedulefree, apollo_torch, galore_torch, adam_mini, bitsandbytes, pytorch_optimizer) are needed only to record.
"""

from __future__ import annotations

import gc
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from planner.probe.tracker import StorageTracker
from tests.oracles.models import build

Named = list[tuple[str, nn.Parameter]]
PACKAGES = ("torch", "transformers", "torchao", "schedulefree", "apollo-torch", "galore-torch", "adam-mini", "bitsandbytes", "pytorch-optimizer")  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of everything that was asked, as far as installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _blocks(named: Named) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(matrices of the blocks, everything else)."""
    hidden = [p for n, p in named if p.ndim >= 2 and (".layers." in n or ".h." in n)]
    known = {id(p) for p in hidden}
    return hidden, [p for _, p in named if id(p) not in known]


def _muon(named: Named, model: nn.Module) -> list[torch.optim.Optimizer]:
    hidden, rest = _blocks(named)
    return [torch.optim.Muon(hidden), torch.optim.AdamW(rest, foreach=True)]


def _low_rank(kind: str, rank: int, **group: Any) -> Callable[[Named, nn.Module], list[torch.optim.Optimizer]]:
    def make(named: Named, model: nn.Module) -> list[torch.optim.Optimizer]:
        import apollo_torch
        import galore_torch

        hidden, rest = _blocks(named)
        engine = {"apollo": apollo_torch.APOLLOAdamW, "galore": galore_torch.GaLoreAdamW}[kind]
        low = {"params": hidden, "rank": rank, "update_proj_gap": 200, "scale": 1.0, "proj_type": "std", **group}
        quiet = {"no_deprecation_warning": True} if kind == "galore" else {}
        return [engine([{"params": rest}, low], lr=1e-4, **quiet)]

    return make


def _mini(named: Named, model: nn.Module) -> list[torch.optim.Optimizer]:
    from adam_mini import Adam_mini

    config: Any = model.config
    return [Adam_mini(named, lr=1e-4, dim=config.hidden_size, n_heads=config.num_attention_heads, verbose=False)]


def _bitsandbytes(name: str, wide: bool = True) -> Callable[[Named, nn.Module], list[torch.optim.Optimizer]]:
    def make(named: Named, model: nn.Module) -> list[torch.optim.Optimizer]:
        import bitsandbytes as bnb

        engine = getattr(bnb.optim, name)([p for _, p in named], lr=1e-4)
        manager = bnb.optim.GlobalOptimManager.get_instance()
        if wide:  # as transformers' Trainer.create_optimizer does for 8-bit optimizers
            for module in model.modules():
                if isinstance(module, nn.Embedding):
                    manager.register_module_override(module, "weight", {"optim_bits": 32})
        return [engine]

    return make


def _plain(make: Callable[[list[nn.Parameter]], Any]) -> Callable[[Named, nn.Module], list[torch.optim.Optimizer]]:
    return lambda named, model: [make([p for _, p in named])]


def _from(module: str, name: str, **options: Any) -> Callable[[Named, nn.Module], list[torch.optim.Optimizer]]:
    def make(parameters: list[nn.Parameter]) -> Any:
        return getattr(importlib.import_module(module), name)(parameters, **options)

    return _plain(make)


ENGINES: dict[str, Callable[[Named, nn.Module], list[torch.optim.Optimizer]]] = {
    "adamw": _plain(lambda p: torch.optim.AdamW(p, foreach=True)),
    "sgd-momentum": _plain(lambda p: torch.optim.SGD(p, momentum=0.9, foreach=True)),
    "adafactor": _from("transformers", "Adafactor", lr=1e-4, scale_parameter=False, relative_step=False),
    "adamw-schedule-free": _from("schedulefree", "AdamWScheduleFree", lr=1e-4),
    "lion": _from("pytorch_optimizer", "Lion", lr=1e-4),
    "soap": _from("pytorch_optimizer", "SOAP", lr=1e-4),
    "shampoo": _from("pytorch_optimizer", "ScalableShampoo", lr=1e-4),
    "muon": _muon,
    "apollo": _low_rank("apollo", 64, proj="random", scale_type="channel"),
    "apollo-mini": _low_rank("apollo", 1, proj="random", scale_type="tensor"),
    "galore": _low_rank("galore", 64),
    "adam-mini": _mini,
    "adamw8bit": _bitsandbytes("AdamW8bit"),
    "paged-adamw": _bitsandbytes("PagedAdamW", wide=False),
    "paged-adamw8bit": _bitsandbytes("PagedAdamW8bit"),
    "ademamix": _bitsandbytes("AdEMAMix", wide=False),
    "ademamix8bit": _bitsandbytes("AdEMAMix8bit"),
}
OPTIONS: dict[str, dict[str, int]] = {"apollo": {"rank": 64}, "galore": {"rank": 64}}
"""What the run says for a case beside the optimizer's name."""
WITHOUT_SCRATCH = ("adamw8bit", "paged-adamw", "paged-adamw8bit", "ademamix", "ademamix8bit", "lion")
"""Their kernels on the device are fused, those on the processor are not (or, lion, another implementation): scratch here says nothing."""


def measure(config: Mapping[str, Any], *, optimizer: str, precision: str, head: str | None = None) -> dict[str, Any]:
    """State bytes on the device, and the peak of scratch of one step [bytes], unrounded."""
    gc.collect()
    torch.manual_seed(0)
    model = build(config, head=head, precision=precision, device="cpu")
    for p in model.parameters():
        nn.init.normal_(p.data, std=0.02)
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    engines = ENGINES[optimizer](named, model)
    tracker = StorageTracker()
    for step in range(3):
        for _, p in named:
            p.grad = torch.randn_like(p)
        for engine in engines:
            if hasattr(engine, "train"):
                engine.train()
        if step < 2:
            for engine in engines:
                engine.step()
            continue
        states = list(_tensors([engine.state for engine in engines], set()))
        for tensor in (*(p for _, p in named), *(p.grad for _, p in named if p.grad is not None), *states):
            tracker.add(tensor, "static", "")
        before = tracker.raw
        tracker.peaks.clear()
        with tracker:
            for engine in engines:
                engine.step()
        scratch = max((peak.raw for peak in tracker.peaks.values()), default=before) - before
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in states}
    truth: dict[str, Any] = {"states": sum(storages.values())}
    if optimizer not in WITHOUT_SCRATCH:
        truth["scratch"] = scratch
    return truth


def _tensors(value: Any, seen: set[int]) -> Iterator[torch.Tensor]:
    """State tensors inside dictionaries, lists and helper objects; step counts stay on the host."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, nn.Parameter):
        return
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            if key != "step":
                yield from _tensors(item, seen)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item, seen)
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        yield from _tensors(vars(value), seen)


def cases() -> Iterator[dict[str, Any]]:
    """Every optimizer on two families, in fp32 and bf16."""
    for config in ("llama", "gpt2"):
        for optimizer in ENGINES:
            for precision in ("fp32", "bf16"):
                if config == "gpt2" and (precision == "bf16" or optimizer in ("adam-mini", "shampoo")):
                    continue  # transformers' Conv1D is stored transposed, and its names mean nothing to adam_mini
                if precision == "bf16" and optimizer == "soap":
                    continue  # torch.linalg.eigh takes no bf16
                yield {"config": config, "head": None, "optimizer": optimizer, "precision": precision}
