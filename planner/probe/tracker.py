"""Follow every storage of a step from the operation that made it until it is freed."""

from __future__ import annotations

import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

BLOCK = 512  # bytes to which the CUDA caching allocator rounds every request


def rounded(size: int) -> int:
    """`size` [bytes] as the CUDA caching allocator rounds it."""
    return -(-size // BLOCK) * BLOCK


@dataclass(frozen=True)
class Origin:
    """What made a storage: its category, the operation and the module that ran it."""

    category: str
    op: str
    module: str
    shape: tuple[int, ...]
    dtype: str
    size: int


@dataclass
class Peak:
    """The largest number of live bytes seen, and what was alive."""

    raw: int = 0
    rounded: int = 0
    phase: str = ""
    op: str = ""
    module: str = ""
    live: list[Origin] = field(default_factory=list)


class StorageTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts live bytes of storages: each storage once, from creation until its last reference goes.

    Works below autograd, so backward, recomputation and optimizer steps are seen as well. Operations count as atoms:
    workspace that a kernel allocates and frees inside itself (cuBLAS, sort, reductions) is not seen. `seen` may replace what
    an operation returned, given the operation and its result, before it is counted.
    """

    def __init__(self, seen: Callable[[Any, Any], Any] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = seen
        self.live: dict[int, tuple[weakref.ref[Any], Origin]] = {}
        self.raw = 0
        self.rounded = 0
        self.phase = "setup"
        self.modules: list[str] = []
        self.peaks: dict[str, Peak] = defaultdict(Peak)
        self.timeline: list[tuple[str, int]] = []
        self._summed = False
        self._hooks: list[Any] = []
        self.snapshot = False  # keep what is alive at each new peak (slow: only for one step)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._summed:  # what CUDA adds in place has freed one of its operands by now
            self._summed = False
            self._note_peak("accumulate")
        result = func(*args, **(kwargs or {}))
        if self.seen is not None:
            result = self.seen(func, result)
        made = False
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                made |= self.add(tensor, self.phase, str(func))
        if made:
            self._summed = self.phase == "backward" and _sums_gradients(func, args, kwargs)
            if not self._summed:
                self._note_peak(str(func))
        return result

    def add(self, tensor: torch.Tensor, category: str, op: str, module: str | None = None) -> bool:
        """Count `tensor`'s storage if it is new; True when it was."""
        if tensor.device.type == "meta":  # the fused attention's random state: a few bytes, on no device
            return False
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.live and self.live[key][0]() is storage:
            return False
        size = storage.nbytes()
        where = module if module is not None else (self.modules[-1] if self.modules else "")
        origin = Origin(category, op, where, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), size)

        def freed(reference: Any, key: int = key, size: int = size) -> None:
            if key in self.live and self.live[key][0] is reference:
                del self.live[key]
                self.raw -= size
                self.rounded -= rounded(size)

        self.live[key] = (weakref.ref(storage, freed), origin)
        self.raw += size
        self.rounded += rounded(size)
        return True

    def recategorize(self, tensors: Iterable[torch.Tensor], category: str) -> None:
        """Move the storages of `tensors` to `category`."""
        for tensor in tensors:
            key = tensor.untyped_storage()._cdata
            if key in self.live:
                reference, old = self.live[key]
                self.live[key] = (reference, Origin(category, *(getattr(old, n) for n in _REST)))

    def forget(self, tensors: Iterable[torch.Tensor]) -> None:
        """Stop counting the storages of `tensors` (they would live on the host in a CUDA run)."""
        for tensor in tensors:
            _, origin = self.live.pop(tensor.untyped_storage()._cdata, (None, None))
            if origin is not None:
                self.raw -= origin.size
                self.rounded -= rounded(origin.size)

    def by_category(self) -> dict[str, int]:
        """Live bytes now, by category."""
        totals: Counter[str] = Counter()
        for _, origin in self.live.values():
            totals[origin.category] += origin.size
        return dict(totals)

    def origins(self) -> list[Origin]:
        """Everything alive now."""
        return [origin for _, origin in self.live.values()]

    def _note_peak(self, op: str) -> None:
        peak = self.peaks[self.phase]
        if self.rounded > peak.rounded:
            peak.raw, peak.rounded, peak.op, peak.phase = self.raw, self.rounded, op, self.phase
            peak.module = self.modules[-1] if self.modules else ""
            if self.snapshot:
                peak.live = self.origins()

    def follow_modules(self, model: nn.Module) -> None:
        """Name the running module in origins, and note live bytes when each module starts and ends."""
        for name, module in model.named_modules():
            module.register_forward_pre_hook(self._enter(name))
            module.register_forward_hook(self._leave(name), always_call=True)
            module.register_full_backward_pre_hook(self._mark(f"backward > {name}"))

    def follow_running(self, model: nn.Module) -> None:
        """Name the running module in origins, and nothing else; `unfollow` takes the hooks away again."""
        for name, module in model.named_modules():
            self._hooks.append(module.register_forward_pre_hook(self._enter(name)))
            self._hooks.append(module.register_forward_hook(self._leave(name), always_call=True))

    def unfollow(self) -> None:
        """Take the hooks of `follow_running` away."""
        while self._hooks:
            self._hooks.pop().remove()

    def _enter(self, name: str) -> Any:
        def hook(*_: Any) -> None:
            self.modules.append(name)
            self.timeline.append((f"{self.phase} > {name}", self.raw))

        return hook

    def _leave(self, name: str) -> Any:
        def hook(*_: Any) -> None:
            if self.modules and self.modules[-1] == name:
                self.modules.pop()
            self.timeline.append((f"{self.phase} < {name}", self.raw))

        return hook

    def _mark(self, label: str) -> Any:
        def hook(*_: Any) -> None:
            self.timeline.append((label, self.raw))

        return hook


def _sums_gradients(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> bool:
    """Whether autograd adds two gradients of one tensor. It does so in place, unless a dispatch mode such as this one is active
    (torch/csrc/autograd/input_buffer.cpp, `accumulate`)."""
    if func is not torch.ops.aten.add.Tensor or kwargs or len(args) != 2 or torch.is_grad_enabled():
        return False
    x, y = args
    return isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor) and x.shape == y.shape and x.dtype == y.dtype


_REST = ("op", "module", "shape", "dtype", "size")
