"""What stands between a vision tower and a language model: feature selection, pooling, projection.

Source: transformers 5.24, `*MultiModalProjector` of `modeling_*.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.workload.blocks import block
from planner.workload.graph import Kernel, Tensor, matmul_kernel
from planner.workload.writer import Writer


def unused(w: Writer, start: int, lives: tuple[Tensor, ...] = ()) -> None:
    """Operations from `start` on do not reach the loss: no backward, and what they saved goes when the model's forward is over.

    Under checkpointing they saved nothing but the input of their block.
    """
    for operation in w.graph.operations[start:]:
        if not w.checkpointed:
            w.held = (*w.held, *(t for t in operation.saved if t.parameter is None))
        operation.saved, operation.backward, operation.grads = [], (), False
        for tensor in operation.inputs:
            if tensor.parameter is not None:
                tensor.parameter.idle = True


@dataclass(frozen=True)
class Rest:
    """Layers of a tower behind the one whose output is taken: they run, and nothing comes of it (LLaVA takes the second to last).

    layers: how many · norm: path of the norm behind them · first: it is applied to the first token alone.
    """

    layers: int
    norm: str = ""
    first: bool = True

    def write(self, w: Writer, x: Tensor) -> None:
        g, start = w.graph, len(w.graph.operations)
        for index in range(w.arch.layers, w.arch.layers + self.layers):
            y = block(w, index, x)
            g.release(x, y, *w.kept)
            x, w.kept = y, ()
        if self.norm:
            w.held = (*w.held, x)
            pooled = g.split(x, [(w.b, w.arch.hidden)])[0] if self.first else x
            w.held = (*w.held, w.norm(self.norm, pooled, w.arch.hidden))
        unused(w, start)


@dataclass(frozen=True)
class Projector:
    """An MLP of two layers, or one linear layer. paths: of the linear layers · width: of the language model · bias: they have one.

    skip: tokens in front that are left out · norm: path of a norm before them · final_norm: path of the tower's last norm ·
    rest: layers that run for nothing.
    """

    paths: tuple[str, ...]
    width: int
    activation: str = "gelu"
    bias: bool = True
    skip: int = 0
    final_norm: str = ""
    rest: Rest | None = None

    @property
    def linears(self) -> tuple[str, ...]:
        return self.paths

    def write(self, w: Writer, x: Tensor) -> Tensor:
        g = w.graph
        if self.final_norm:
            x = w.norm(self.final_norm, x, w.arch.hidden)
        w.held = (*w.held, x)
        if self.rest is not None:
            self.rest.write(w, x)
        if self.skip:
            x = without_first(w, x, self.skip)
        y = w.linear(self.paths[0], x, self.width, bias=self.bias, base=False)
        for path in self.paths[1:]:
            y = w.linear(path, g.unary(self.activation, y), self.width, bias=self.bias, base=False)
        return y


def without_first(w: Writer, x: Tensor, count: int) -> Tensor:
    """`x[:, count:]`, in one piece for a matrix product; backward writes a gradient of the whole."""
    g = w.graph
    shape = (x.shape[0], x.shape[1] - count, x.shape[-1])
    y = Tensor(shape, x.dtype, x.storage, x.requires_grad)
    back = (Kernel("elementwise", x.bytes), Kernel("elementwise", 2 * y.bytes))
    g.add_operation("slice", "elementwise", (x,), (y,), (), (), back)
    return g.copy(y) if x.shape[0] > 1 else y


@dataclass(frozen=True)
class PooledProjector:
    """Gemma 3's: patches averaged over squares, a norm, and a product without bias. side: patches a side of a square."""

    path: str
    width: int
    square: int
    norm: str
    final_norm: str

    @property
    def linears(self) -> tuple[str, ...]:
        return ()

    def write(self, w: Writer, x: Tensor) -> Tensor:
        g, h = w.graph, w.arch.hidden
        x = w.norm(self.final_norm, x, h)
        w.held = (*w.held, x)
        image = g.copy(x, name="contiguous")
        pooled = g.new((w.b, x.shape[1] / self.square**2, h), x.dtype, x.requires_grad, "pool")
        moved = (Kernel("elementwise", x.bytes + pooled.bytes),)
        saved = (image,) if x.requires_grad else ()
        g.add_operation("pool", "elementwise", (image,), (pooled,), saved, moved, moved)
        y = offset_rms_norm(w, self.norm, pooled, h)
        weight = w.weight(f"{self.path}.mm_input_projection_weight", (h, self.width))
        y, weight = g.lower(y), g.lower(weight)
        out = g.new((*y.shape[:-1], self.width), y.dtype, y.requires_grad or weight.requires_grad, "projection")
        rows = y.numel / h
        back = [matmul_kernel(rows, h, self.width, y.dtype, layout="dgrad")] if y.requires_grad else []
        back += [matmul_kernel(h, self.width, rows, y.dtype, layout="wgrad")] if weight.requires_grad else []
        kept = ([y] if weight.requires_grad else []) + ([weight] if y.requires_grad else [])
        forward = (matmul_kernel(rows, self.width, h, y.dtype),)
        g.add_operation("projection", "matmul", (y, weight), (out,), kept, forward, back)
        return g.cast(out, x.dtype)


def offset_rms_norm(w: Writer, path: str, x: Tensor, width: float) -> Tensor:
    """RMS norm with weight 1 + w, as the language model behind this tower has it (Gemma3RMSNorm)."""
    g = w.graph
    weight = w.weight(path + ".weight", (width,))
    if not w.s.eager:
        return g.layer_norm(x, weight, None, fused_dtype=x.dtype, name="rms_norm")
    x32 = g.cast(x, "fp32", name="norm_upcast")
    square = g.unary("pow", x32, scratch=2.0)
    mean = g.new((x.numel / width, 1), "fp32", x.requires_grad, "mean")
    moved = (Kernel("reduction", square.bytes),)
    g.add_operation("mean", "norm", (square,), (mean,), (), moved, (Kernel("elementwise", square.bytes),))
    normed = g.mul(x32, g.unary("rsqrt", mean, save="output", kernels=2), name="normalize")
    offset = g.unary("one_plus", g.cast(weight, "fp32"), save="none")
    return g.cast(g.mul(normed, offset, name="norm_weight"), x.dtype, name="norm_downcast")


@dataclass(frozen=True)
class ShuffledProjector:
    """InternVL's: squares of patches become one wide token (pixel shuffle), then a norm and an MLP of two layers.

    square: patches a side of a square · final_norm: path of the tower's last norm, empty when it has none · bias, norm as in `Projector`.
    """

    path: str
    width: int
    square: int
    skip: int = 1
    final_norm: str = ""
    activation: str = "gelu"

    @property
    def linears(self) -> tuple[str, ...]:
        return (f"{self.path}.linear_1", f"{self.path}.linear_2")

    def write(self, w: Writer, x: Tensor) -> Tensor:
        g, h = w.graph, w.arch.hidden
        if self.final_norm:
            bias = w.weight(self.final_norm + ".bias", (h,))
            x = g.layer_norm(x, w.weight(self.final_norm + ".weight", (h,)), bias)
        w.held = (*w.held, x)
        part = Tensor((x.shape[0], x.shape[1] - self.skip, h), x.dtype, x.storage, x.requires_grad)
        back = (Kernel("elementwise", x.bytes), Kernel("elementwise", 2 * part.bytes)) if self.skip else ()
        g.add_operation("slice", "elementwise", (x,), (part,), (), (), back)
        wide = self.square**2 * h
        y = g.view(g.copy(g.copy(part)), (x.shape[0], part.shape[1] / self.square**2, wide))
        norm = f"{self.path}.layer_norm"
        y = g.layer_norm(y, w.weight(norm + ".weight", (wide,)), w.weight(norm + ".bias", (wide,)))
        y = w.linear(self.linears[0], y, self.width, bias=True, base=False)
        return w.linear(self.linears[1], g.unary(self.activation, y), self.width, bias=True, base=False)
