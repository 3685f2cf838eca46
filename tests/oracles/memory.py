"""Exact bytes alive over a training step of the real model: the truth that the engine's memory must reproduce.

The model of the case runs under ``FakeTensorMode`` (shapes and dtypes, no data, so a 7B model needs no memory), on CPU
tensors that follow CUDA's rules (see `cuda_semantics`). A dispatch mode below autograd sees every storage made by
forward, backward, recomputation, gradient clipping and the optimizer, and when it is freed. The step is the one that
transformers' Trainer runs: forward under autocast, ``loss.backward()``, ``clip_grad_norm_(1.0)``, ``optimizer.step()``,
``zero_grad(set_to_none=True)``. Optimizer states exist from the second step, which is the one measured.

Not seen: the CUDA context, cuBLAS workspaces, temporaries inside kernels, allocator fragmentation.
"""

from __future__ import annotations

import contextlib
import gc
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves

from planner.probe.tracker import Origin, StorageTracker
from tests.oracles.cuda_semantics import cuda_semantics, float32_statistics
from tests.oracles.models import PRECISIONS, build, inputs

_LAYER_NUMBER = re.compile(r"\.\d+(?=\.|$)")
OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-4, foreach=True),
    "adamw-fused": lambda parameters: torch.optim.AdamW(parameters, lr=1e-4, fused=True),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=1e-4, foreach=True),
    "sgd-momentum": lambda parameters: torch.optim.SGD(parameters, lr=1e-4, momentum=0.9, foreach=True),
    "adafactor": lambda parameters: _adafactor(parameters),
}


def _adafactor(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    from transformers import Adafactor  # what Trainer(optim="adafactor") builds

    return Adafactor(parameters, lr=1e-4, scale_parameter=False, relative_step=False)


def galore(model: nn.Module, method: Mapping[str, Any]) -> torch.optim.Optimizer:
    """What Trainer(optim="galore_adamw") builds, renewing the projectors at every step. The package's own imports need bitsandbytes."""
    import importlib.util
    import sys
    import types

    if "galore_torch" not in sys.modules:
        package = types.ModuleType("galore_torch")
        spec = importlib.util.find_spec("galore_torch")
        assert spec is not None and spec.submodule_search_locations is not None
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["galore_torch"] = package
    from galore_torch.adamw import AdamW

    targets = method.get("targets", "")
    linear = {
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and (not targets or any(target in name for target in targets))
    }
    projected = [p for name, p in model.named_parameters() if name in linear]  # a tied head goes by its embedding's name
    rest = [p for name, p in model.named_parameters() if name not in linear]
    group = {"rank": method["rank"], "update_proj_gap": 1, "scale": 0.25, "proj_type": "std"}
    return AdamW([{"params": rest}, {"params": projected, **group}], lr=1e-4, no_deprecation_warning=True)


def measure(
    config: Mapping[str, Any],
    *,
    batch: int,
    seq: int | None = None,
    head: str | None = None,
    method: Mapping[str, Any] | None = None,
    precision: str = "fp32",
    optimizer: str = "adamw",
    attention: str = "eager",
    checkpointing: bool = False,
    padding: bool = False,
    clip: bool = True,
    steps: int = 2,
    gradient_accumulation: int = 1,
    detail: bool = False,
    **sizes: Any,
) -> dict[str, Any]:
    """Live bytes over the last of `steps` optimizer steps.

    Returns
    -------
    dict with, all in bytes and all "rounded to 512 B as the CUDA caching allocator does" unless ``raw``:
    ``static_before_step`` (weights, buffers, optimizer states, batch), ``after_forward`` and ``after_backward`` (of the
    last micro-batch), ``peak``, ``peak_raw``, ``peak_phase`` (forward, backward, clip, optimizer), ``peak_op``,
    ``peaks`` (by phase), ``by_category`` (raw bytes at the end of the forward pass: parameters, buffers, optimizer,
    gradients, inputs, activations). With `detail` also ``timeline`` (label, live raw bytes) and ``peak_live`` (what was
    alive at the peak, grouped).
    """
    with fake_cuda(padding) as tracker:
        model = build(
            config,
            head=head,
            method=method,
            precision=precision,
            attention=attention,
            checkpointing=checkpointing,
            device="cpu",
        )
        data = inputs(model, batch=batch, seq=seq, head=head, padding=padding, **sizes)
        _register_static(tracker, model, data)
        if detail:
            tracker.follow_modules(model)
        trained = [p for p in model.parameters() if p.requires_grad]
        engine = galore(model, method) if method and method["name"] == "galore" else OPTIMIZERS[optimizer](trained)
        marks: dict[str, int] = {}
        categories: dict[str, int] = {}
        with tracker:
            for step in range(steps):
                tracker.phase = "between"
                if step == steps - 1:
                    gc.collect()
                    tracker.peaks.clear()
                    tracker.timeline.clear()
                    tracker.snapshot = detail
                    marks["static_before_step"] = tracker.rounded
                for _ in range(gradient_accumulation):
                    tracker.phase = "forward"
                    with autocast(precision):
                        loss = model(**data).loss / gradient_accumulation
                    marks["after_forward"] = tracker.rounded
                    categories = tracker.by_category()
                    tracker.phase = "backward"
                    loss.backward()
                    del loss
                    tracker.recategorize((p.grad for p in trained if p.grad is not None), "gradients")
                marks["after_backward"] = tracker.rounded
                if clip:
                    tracker.phase = "clip"
                    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
                tracker.phase = "optimizer"
                engine.step()
                if hasattr(model, "update_and_allocate"):
                    model.update_and_allocate(step)  # what peft asks of an AdaLoRA training loop
                engine.zero_grad(set_to_none=True)
                tracker.recategorize(_states(engine), "optimizer")
                if optimizer != "adamw-fused":  # only fused kernels keep the step count on the device
                    tracker.forget(
                        state["step"] for state in engine.state.values() if torch.is_tensor(state.get("step"))
                    )
        peak = max(tracker.peaks.values(), key=lambda p: p.rounded)
        result: dict[str, Any] = {
            **marks,
            "peak": peak.rounded,
            "peak_raw": peak.raw,
            "peak_phase": peak.phase,
            "peak_op": peak.op,
            "peaks": {name: p.rounded for name, p in sorted(tracker.peaks.items()) if name != "between"},
            "by_category": {"activations" if k == "forward" else k: v for k, v in sorted(categories.items())},
        }
        if detail:
            result["timeline"] = list(tracker.timeline)
            result["peak_live"] = group(peak.live)
            result["peak_module"] = peak.module
        return result


def saved(
    config: Mapping[str, Any],
    *,
    batch: int,
    seq: int | None = None,
    head: str | None = None,
    method: Mapping[str, Any] | None = None,
    precision: str = "fp32",
    attention: str = "eager",
    checkpointing: bool = False,
    padding: bool = False,
    layer_only: bool = True,
    **sizes: Any,
) -> list[dict[str, Any]]:
    """What stays alive after the forward pass, storage by storage, grouped: for one layer, or for the whole model.

    Everything that is neither parameter, buffer nor input is kept by autograd alone (and by the autocast weight cache
    until autocast ends; the list is taken after that). ``by`` names the autograd nodes that hold the storage.
    With `layer_only` the list is the difference between the config with three layers and with two.
    """
    arguments: dict[str, Any] = {
        "batch": batch,
        "seq": seq,
        "head": head,
        "method": method,
        "precision": precision,
        "attention": attention,
        "checkpointing": checkpointing,
        "padding": padding,
        **sizes,
    }
    if not layer_only:
        return _rows(_kept(config, **arguments))
    three, two = (_kept({**config, "num_hidden_layers": n}, **arguments) for n in (3, 2))
    return _rows(three - two)


_BUILD = ("head", "method", "precision", "attention", "checkpointing")


def _kept(config: Mapping[str, Any], **case: Any) -> Counter[tuple[Any, ...]]:
    with fake_cuda(case["padding"]) as tracker:
        model = build(config, **{k: case[k] for k in _BUILD}, device="cpu")
        sizes = {k: v for k, v in case.items() if k not in _BUILD}
        data = inputs(model, head=case["head"], **sizes)
        _register_static(tracker, model, data)
        tracker.follow_modules(model)
        with tracker:
            tracker.phase = "forward"
            with autocast(case["precision"]):
                loss = model(**data).loss
            gc.collect()
            alive = {key: origin for key, (_, origin) in tracker.live.items()}
            # Reading a saved variable of a checkpoint would recompute its layer, so these go without holders.
            holders = {} if case["checkpointing"] else _holders(loss)
            kept: Counter[tuple[Any, ...]] = Counter()
            for key, origin in alive.items():
                if origin.category == "forward":
                    by = ", ".join(sorted(set(holders.get(key, [""]))))
                    module = _LAYER_NUMBER.sub(".N", origin.module)
                    kept[(module, origin.op, origin.shape, origin.dtype, origin.size, by)] += 1
        return kept


def _rows(kept: Counter[tuple[Any, ...]]) -> list[dict[str, Any]]:
    names = ("module", "op", "shape", "dtype", "bytes", "by")
    return [dict(zip(names, key, strict=True)) | {"count": count} for key, count in kept.items() if count > 0]


def _holders(loss: torch.Tensor) -> dict[int, list[str]]:
    """The autograd nodes that saved each storage, by storage."""
    found: dict[int, list[str]] = {}
    seen, todo = set(), [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for name in dir(node):
            if name.startswith("_saved_"):
                with contextlib.suppress(RuntimeError):  # not every saved variable can be unpacked by name
                    value = getattr(node, name)
                    for tensor in value if isinstance(value, (list, tuple)) else [value]:
                        if isinstance(tensor, torch.Tensor):
                            holder = f"{node.name()}.{name.removeprefix('_saved_')}"
                            found.setdefault(tensor.untyped_storage()._cdata, []).append(holder)
        todo.extend(parent for parent, _ in node.next_functions)
    return found


def group(origins: list[Origin]) -> list[dict[str, Any]]:
    """Origins with equal op, shape and dtype as one row each, largest first."""
    counts = Counter((o.category, o.op, o.shape, o.dtype, o.size) for o in origins)
    rows = [
        {"category": c, "op": op, "shape": shape, "dtype": dtype, "bytes": size * n, "count": n}
        for (c, op, shape, dtype, size), n in counts.items()
    ]
    return sorted(rows, key=lambda row: -int(row["bytes"]))


@contextlib.contextmanager
def fake_cuda(padded: bool = False) -> Iterator[StorageTracker]:
    """Fake tensors that follow CUDA's rules; gives the tracker to enter."""
    gc.collect()
    with FakeTensorMode(allow_non_fake_inputs=True), cuda_semantics(padded), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield StorageTracker(float32_statistics)
    gc.collect()


def _register_static(tracker: StorageTracker, model: nn.Module, data: Mapping[str, torch.Tensor]) -> None:
    for category, tensors in (
        ("parameters", model.parameters()),
        ("buffers", model.buffers()),
        ("inputs", (t for t in tree_leaves(dict(data)) if isinstance(t, torch.Tensor))),
    ):
        for tensor in tensors:
            tracker.add(tensor, category, "", "")


def autocast(precision: str) -> contextlib.AbstractContextManager[Any]:
    """Autocast as the Trainer enters it for `precision`, or nothing."""
    dtype = PRECISIONS[precision].autocast
    return contextlib.nullcontext() if dtype is None else torch.autocast("cpu", dtype=dtype)


def _states(engine: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    for state in engine.state.values():
        yield from (value for value in state.values() if isinstance(value, torch.Tensor))
