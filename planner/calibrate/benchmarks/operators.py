"""Memory-bound operators as training runs them: fresh outputs, autograd's own backward, from cache-sized to memory-sized tensors.

Each is written to the planner's graph and run in torch side by side, so that what is measured is what the plan counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from planner.calibrate.benchmarks import Case, benchmark
from planner.calibrate.benchmarks.matmul import formats
from planner.calibrate.hardware import NAMES, Hardware
from planner.workload.graph import Graph, Kernel, Operation, Parameter, Tensor

WIDTH = 256
SHAPES = ((2048, WIDTH), (131072, WIDTH), (16, WIDTH), (16384, WIDTH), (256, WIDTH))
"""Rows and features: from what a cache holds to what memory must give."""
LOGITS = ((512, 2048), (1024, 16384), (8, 512), (1024, 8192), (2048, 32768))
"""Tokens and words of the losses, whose rows are long."""


@dataclass(frozen=True)
class Operator:
    """write: the operation in the graph, from x and a second tensor · run: the same in torch."""

    write: Callable[[Graph, Tensor, Tensor], Tensor]
    run: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    shapes: tuple[tuple[int, int], ...] = SHAPES


def _weight(g: Graph, like: Tensor) -> Tensor:
    return g.parameter(Parameter("weight", (WIDTH,), like.dtype, True))


def _nll_loss(g: Graph, x: Tensor) -> Tensor:
    loss = g.new((1,), "fp32", True)
    forward = (Kernel("elementwise", 8 * x.shape[0]),)
    g.add_operation("nll_loss", "loss", (x,), (loss,), (), forward, (Kernel("elementwise", x.bytes),))
    return loss


def _embedding(g: Graph, table: Tensor) -> Tensor:
    y = g.new(table.shape, table.dtype, True)
    forward, backward = (Kernel("elementwise", 2 * y.bytes),), (Kernel("elementwise", table.bytes + 4 * y.bytes),)
    g.add_operation("embedding", "embedding", (table,), (y,), (), forward, backward)
    return y


def _rows(g: Graph, like: Tensor) -> Tensor:
    return g.new((like.shape[0], 1), like.dtype, True)


def _mean(g: Graph, x: Tensor) -> Tensor:
    y = _rows(g, x)
    kernels = (Kernel("reduction", x.bytes),)
    g.add_operation("mean", "norm", (x,), (y,), (), kernels, (Kernel("elementwise", x.bytes),))
    return y


def _other(x: torch.Tensor) -> torch.dtype:
    return torch.bfloat16 if x.dtype == torch.float32 else torch.float32


OPERATORS: dict[str, Operator] = {
    "mul": Operator(lambda g, x, y: g.mul(x, y), torch.mul),
    "residual": Operator(lambda g, x, y: g.add(x, y, name="residual"), torch.add),
    "scale": Operator(lambda g, x, y: g.unary("scale", x, save="none"), lambda x, y: x * 0.7),
    "gelu": Operator(lambda g, x, y: g.unary("gelu", x), lambda x, y: F.gelu(x)),
    "silu": Operator(lambda g, x, y: g.unary("silu", x), lambda x, y: F.silu(x)),
    "relu": Operator(lambda g, x, y: g.unary("relu", x, save="output"), lambda x, y: F.relu(x)),
    "tanh": Operator(lambda g, x, y: g.unary("tanh", x, save="output"), lambda x, y: torch.tanh(x)),
    "pow": Operator(lambda g, x, y: g.unary("pow", x), lambda x, y: x.pow(2)),
    "cast": Operator(
        lambda g, x, y: g.cast(x, "bf16" if x.dtype == "fp32" else "fp32"), lambda x, y: x.to(_other(x))
    ),
    "dropout": Operator(lambda g, x, y: g.dropout(x, 0.1), lambda x, y: F.dropout(x, 0.1)),
    "softmax": Operator(lambda g, x, y: g.softmax(x), lambda x, y: x.softmax(-1)),
    "log_softmax": Operator(lambda g, x, y: g.softmax(x, name="log_softmax"), lambda x, y: x.log_softmax(-1), LOGITS),
    "nll_loss": Operator(
        lambda g, x, y: _nll_loss(g, x),
        lambda x, y: F.nll_loss(x, torch.arange(len(x), device=x.device) % x.shape[1]),
        LOGITS,
    ),
    "layer_norm": Operator(
        lambda g, x, y: g.layer_norm(x, _weight(g, x), _weight(g, x)),
        lambda x, y: F.layer_norm(x, (WIDTH,), y[0], y[1]),
    ),
    "mean": Operator(lambda g, x, y: _mean(g, x), lambda x, y: x.mean(-1, keepdim=True)),
    "normalize": Operator(lambda g, x, y: g.mul(x, _rows(g, y), name="normalize"), lambda x, y: x * y[:, :1]),
    "norm_weight": Operator(lambda g, x, y: g.mul(_weight(g, y), x, name="norm_weight"), lambda x, y: y[0] * x),
    "contiguous": Operator(lambda g, x, y: g.copy(x), lambda x, y: x.view(-1, WIDTH).t().contiguous()),
    "rotate_half": Operator(
        lambda g, x, y: g.unary("rotate_half", x, save="none", kernels=2),
        lambda x, y: torch.cat((-x[:, WIDTH // 2 :], x[:, : WIDTH // 2]), -1),
    ),
    "embedding": Operator(
        lambda g, x, y: _embedding(g, x), lambda x, y: F.embedding(torch.arange(len(x), device=x.device) * 7 % len(x), x)
    ),
    "cat": Operator(
        lambda g, x, y: g.cat((x, y), (2 * x.shape[0], WIDTH)), lambda x, y: torch.cat((x, y), -1)
    ),
}  # fmt: skip


def written(name: str, shape: tuple[int, int], dtype: str, processor: bool = False) -> Operation:
    """The operation as the graph counts it, on [rows, features]."""
    g = Graph(processor=processor)
    x, y = (g.new(shape, dtype, True) for _ in range(2))
    OPERATORS[name].write(g, x, y)
    return next(o for o in reversed(g.operations) if o.forward or o.backward)


@benchmark("operators", "Memory-bound operators", 0.35)
def operators(hardware: Hardware) -> Iterator[Case]:
    """Forward, and backward alone, of every operator at every size."""
    for position in range(len(SHAPES)):
        for name, operator in OPERATORS.items():
            shape = operator.shapes[position]
            for dtype in formats(hardware)[:2]:
                operation = written(name, shape, dtype, hardware.synchronous)
                for backward in (False, True):
                    moved = sum(kernel.moved for kernel in (operation.backward if backward else operation.forward))
                    if moved:
                        told: dict[str, float | str] = {"operator": name, "dtype": dtype, "moved": moved, "backward": float(backward)}
                        yield Case(told, _run(hardware, operator, shape, dtype, backward))


def _run(
    hardware: Hardware, operator: Operator, shape: tuple[int, int], dtype: str, backward: bool
) -> Callable[[], Callable[[], Any]]:
    size = 2.0 * (4 if dtype == "fp32" else 2) * shape[0] * shape[1]

    def operands() -> tuple[torch.Tensor, torch.Tensor]:
        x, y = (hardware.random(*shape, dtype=dtype, grad=True) for _ in range(2))
        return x, y

    def differentiated() -> tuple[Any, Any, Any]:
        x, y = operands()
        out = operator.run(x, y)
        given = hardware.random(*out.shape, dtype=NAMES[out.dtype]) if out.dim() else torch.ones_like(out)
        asked = tuple(t for t in (x, y) if torch.autograd.grad(out, t, given, retain_graph=True, allow_unused=True)[0] is not None)
        return out, asked, given

    def prepare() -> Callable[[], Any]:
        if not backward:
            pair = hardware.rotated(operands, size)
            return lambda: operator.run(*pair())
        return hardware.gradients(differentiated, size)

    return prepare
