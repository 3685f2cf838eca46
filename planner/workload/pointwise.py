"""Tensor operators that sequence mixers need beside those of `Graph`: products that broadcast, padding, exponentials, sums.

Each states what PyTorch's autograd keeps (`tools/autograd/derivatives.yaml`): a product its other operand, `exp` its result, `softplus` its input.
"""

from __future__ import annotations

from collections.abc import Sequence

from planner.workload.graph import BYTES, Graph, Kernel, Tensor

Shape = tuple[float, ...]


def wider(x: Tensor, y: Tensor) -> str:
    """Type of a result of both: the one of more bytes."""
    return x.dtype if BYTES[x.dtype] >= BYTES[y.dtype] else y.dtype


def apply(
    g: Graph,
    name: str,
    inputs: Sequence[Tensor],
    shape: Shape,
    dtype: str,
    *,
    keeps: Sequence[Tensor] = (),
    keeps_output: bool = False,
    alias: bool = False,
    spread: float = 0.0,
) -> Tensor:
    """One pointwise operator. spread: temporaries of its backward [bytes]."""
    y = g.new(shape, dtype, any(t.requires_grad for t in inputs), name)
    saved = (*keeps, *((y,) if keeps_output else ())) if y.requires_grad else ()
    moved = sum(t.bytes for t in inputs) + y.bytes
    back = moved + sum(t.bytes for t in saved)
    backward = () if alias else (Kernel("elementwise", back),)
    g.add_operation(
        name, "elementwise", tuple(inputs), (y,), saved, (Kernel("elementwise", moved),), backward, alias, (0.0, spread)
    )
    return y


def outer(g: Graph, x: Tensor, y: Tensor, shape: Shape, name: str = "outer") -> Tensor:
    """Product of two tensors that both broadcast to `shape`: keeps x when y needs a gradient, and y when x does.

    The gradient of a broadcast operand is formed at full size and then summed.
    """
    dtype = wider(x, y)
    keeps = ([y] if x.requires_grad else []) + ([x] if y.requires_grad else [])
    full = BYTES[dtype]
    for size in shape:
        full *= size
    spread = full if any(t.requires_grad and t.bytes < full for t in (x, y)) else 0.0
    return apply(g, name, (x, y), shape, dtype, keeps=keeps, spread=spread)


def exponential(g: Graph, x: Tensor, name: str = "exp") -> Tensor:
    """`exp`: keeps its result; autocast runs it in fp32."""
    return g.unary(name, g.raise_(x), save="output")


def softplus(g: Graph, x: Tensor) -> Tensor:
    """`softplus`: keeps its input; autocast runs it in fp32."""
    return g.unary("softplus", g.raise_(x))


def plus(g: Graph, x: Tensor, y: Tensor, shape: Shape, name: str = "add") -> Tensor:
    """Sum of two tensors that broadcast to `shape`; keeps nothing."""
    return apply(g, name, (x, y), shape, wider(x, y))


def part(g: Graph, x: Tensor, shape: Shape) -> Tensor:
    """A slice: a view whose backward writes a gradient of the whole."""
    return g.split(x, [shape])[0]


def padded(g: Graph, x: Tensor, shape: Shape) -> Tensor:
    """`torch.nn.functional.pad`: a copy, also when there is nothing to add."""
    return apply(g, "pad", (x,), shape, x.dtype)


def repeated(g: Graph, x: Tensor, shape: Shape) -> Tensor:
    """`repeat_interleave` of groups to heads: a copy whose gradient is summed."""
    return apply(g, "repeat", (x,), shape, x.dtype, spread=x.bytes)


def normalized(g: Graph, x: Tensor, rows: float) -> Tensor:
    """`x · rsqrt(mean(x²) + ε)` over the last dimension in fp32, as eager RMS norms write it."""
    square = g.unary("pow", x, scratch=2.0)
    mean = g.new((rows, 1), "fp32", x.requires_grad, "mean")
    back = Kernel("elementwise", square.bytes)
    g.add_operation("mean", "norm", (square,), (mean,), (), (Kernel("reduction", square.bytes),), (back,))
    return g.mul(x, g.unary("rsqrt", mean, save="output", kernels=2), name="normalize")
