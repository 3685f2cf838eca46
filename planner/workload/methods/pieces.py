"""Pieces that several methods write: sums in place, products of small matrices, buffers that all layers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Kernel, Parameter, Tensor, matmul_kernel

if TYPE_CHECKING:
    from planner.workload.writer import Writer

Shape = tuple[float, ...]


def needs_linear(method: Method, arch: Architecture) -> None:
    """peft refuses GPT-2's transposed layers (Conv1D) for some methods."""
    if arch.model_type == "gpt2":
        raise PlanError(
            "method.name",
            method.name,
            "is not implemented by peft for GPT-2's Conv1D layers",
            "Use lora, dora, vera, randlora or fourierft.",
        )


def add_in_place(w: Writer, y: Tensor, update: Tensor) -> Tensor:
    """`y += update`: the sum takes no memory of its own and keeps y's type."""
    z = Tensor(y.shape, y.dtype, y.storage, y.requires_grad or update.requires_grad)
    moved = (Kernel("elementwise", 2 * y.bytes + update.bytes),)
    back = () if update.bytes == y.bytes else (Kernel("elementwise", y.bytes + update.bytes),)
    w.graph.add_operation("adapter_add", "elementwise", (y, update), (z,), (), moved, back, alias=True)
    return z


def without_bias(w: Writer, y: Tensor, name: str = "minus_bias") -> Tensor:
    """A linear layer's result less (or again with) its bias, in the wider of both types."""
    return made(w, name, (y,), y.shape, "fp32" if w.s.formats.graph == "fp32" else y.dtype)


def uncached(w: Writer, x: Tensor) -> Tensor:
    """Autocast's cast of something that is no leaf (a view or a result), so that no copy is kept for reuse."""
    g = w.graph
    if g.autocast is None or x.dtype == g.autocast:
        return x
    return g.cast(x, g.autocast, name="autocast")


def product(
    w: Writer, name: str, a: Tensor, b: Tensor, m: float, n: float, k: float, shape: Shape, batch: float = 1.0
) -> Tensor:
    """`batch` products [m, k] × [k, n] of (views of) two tensors, in autocast's type; keeps each operand that the other's gradient needs."""
    g = w.graph
    a, b = uncached(w, a), uncached(w, b)
    y = g.new(shape, a.dtype, a.requires_grad or b.requires_grad, name)
    saved = ([b] if a.requires_grad else []) + ([a] if b.requires_grad else [])
    backward = []
    if a.requires_grad:
        backward.append(matmul_kernel(m, k, n, a.dtype, batch=batch, layout="dgrad"))
    if b.requires_grad:
        backward.append(matmul_kernel(k, n, m, a.dtype, batch=batch, layout="wgrad"))
    g.add_operation(name, "matmul", (a, b), (y,), saved, (matmul_kernel(m, n, k, a.dtype, batch=batch),), backward)
    return y


def made(w: Writer, name: str, inputs: Sequence[Tensor], shape: Shape, dtype: str, saved: Sequence[Tensor] = (), *, passes: float = 1.0,
         scratch: tuple[float, float] = (0.0, 0.0)) -> Tensor:  # fmt: skip
    """A new tensor from others by `passes` memory-bound kernels forward and as many backward. scratch: temporaries [bytes]."""
    g = w.graph
    y = g.new(shape, dtype, any(t.requires_grad for t in inputs), name)
    moved = Kernel("elementwise", y.bytes + sum(t.bytes for t in inputs))
    kernels = (moved,) * round(passes)
    g.add_operation(
        name, "elementwise", inputs, (y,), saved if y.requires_grad else (), kernels, kernels, temporary=scratch
    )
    return y


def shared_buffer(w: Writer, name: str, shape: Shape, used: Shape) -> Tensor:
    """A frozen tensor that every adapted layer slices. shape: what this layer needs; the largest of all layers' is kept · used: the slice."""
    known = w.shared.get(name)
    whole = shape if known is None else tuple(max(a, b) for a, b in zip(known.shape, shape, strict=True))
    if known is None or known.shape != whole:
        w.shared[name] = Parameter(name, whole, w.adapter_type, False, adapter=True, buffer=True)
    return w.graph.parameter(Parameter(name, used, w.adapter_type, False, adapter=True, shared=True))


def buffer(w: Writer, name: str, shape: Shape, dtype: str) -> Tensor:
    """A tensor of a layer that is no parameter."""
    return w.graph.parameter(Parameter(name, shape, dtype, False, adapter=True, buffer=True))


def settle_buffers(w: Writer, loss: Tensor, added: list[tuple[Parameter, int]]) -> Tensor:
    """Count the shared buffers, now that their largest layer is known."""
    for parameter in [p for p in w.shared.values() if p.buffer]:
        w.graph.parameter(parameter)
    return loss
