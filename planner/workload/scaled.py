"""Linear layers whose products run in 8 or 4 bits with scales: what is cast, what is kept for backward, and in which type the products run.

Two libraries execute them. Transformer Engine quantises the input once for forward and weight gradient and keeps that low-precision copy; its
weights are quantised once a step where the stack caches them. torchao's Float8Linear keeps the original input and casts again in backward
(torchao 0.18 `float8_linear.py`, `matmul_with_hp_or_float8_args`). Output head, embeddings and attention stay in bf16 in both.

Sources: Micikevicius et al. 2022, arXiv:2209.05433 (fp8); Transformer Engine 2.x user guide, "Performance considerations" (rowwise and columnwise
copies) and recipes; DeepSeek-AI 2024, arXiv:2412.19437, sec. 3.3 (1 × 128 and 128 × 128 blocks); OCP Microscaling Formats 1.0 (mxfp8: 32 values,
an 8-bit exponent); NVIDIA 2025, arXiv:2509.25149 (nvfp4: 16 values, an fp8 scale).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.workload.graph import BYTES, Kernel, Tensor, matmul_kernel

if TYPE_CHECKING:
    from planner.workload.trace import Workload
    from planner.workload.writer import Writer


@dataclass(frozen=True)
class Recipe:
    """How operands become low-precision.

    stored: type of a quantised tensor, scales included · product: type of the matrix products in the device profile ·
    amax_first: the scale is that of the very tensor, so that it is read once more before the cast ·
    both: rows and columns are quantised apart on every device, since blocks of scales run along the product's inner dimension ·
    multiple: what both sizes of a weight must be multiples of.
    """

    name: str
    label: str
    stored: str
    product: str
    amax_first: bool
    both: bool
    multiple: int = 16


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("delayed", "one scale per tensor from earlier steps", "fp8", "fp8", False, False),
        Recipe("current", "one scale per tensor, of the tensor itself", "fp8", "fp8", True, False),
        Recipe("row", "one scale per row", "fp8", "fp8", True, True),
        Recipe(
            "block", "one scale per 1 × 128 of activations and 128 × 128 of weights", "fp8-block", "fp8", False, True
        ),
        Recipe("mxfp8", "one 8-bit exponent per 32 values", "mxfp8", "fp8", False, True, 32),
        Recipe("nvfp4", "4-bit values, one fp8 scale per 16", "nvfp4", "fp4", True, True, 32),
    )
}


@dataclass(frozen=True)
class Scaled:
    """A recipe as a stack executes it on a device.

    library: `transformer-engine` or `torchao` · cached: quantised weights live from step to step (Megatron's first micro batch fills them) ·
    transposes: products take operands in one layout only (before Blackwell), so that a transposed copy is made.
    """

    recipe: Recipe
    library: str
    cached: bool
    transposes: bool

    @property
    def copies(self) -> int:
        """Quantised copies of a tensor that two products use: by rows and by columns, or one for both."""
        return 2 if self.transposes or self.recipe.both else 1

    def takes(self, weight: Tensor) -> bool:
        """Whether the layer's sizes fit the products; others stay in bf16."""
        return all(size % self.recipe.multiple == 0 for size in weight.shape[-2:])

    def weight_bytes(self, numel: float) -> float:
        """Persistent quantised copies of a weight [bytes]."""
        return self.copies * numel * BYTES[self.recipe.stored] if self.cached else 0.0

    def cast(self, source: float, numel: float, copies: int) -> list[Kernel]:
        """Kernels that quantise a tensor of `source` bytes."""
        first = [Kernel("reduction", source)] if self.recipe.amax_first else []
        return [*first, Kernel("elementwise", source + copies * numel * BYTES[self.recipe.stored])]


def cached_weights(w: Workload) -> tuple[float, float]:
    """(bytes of quantised weights that live from step to step, bytes moved to renew them once a step) [bytes]."""
    scaled = w.setting.formats.scaled
    if scaled is None or not scaled.cached:
        return 0.0, 0.0
    kept = moved = 0.0
    for stretch in w.stretches:
        for operation in stretch.operations:
            grouped = operation.name == "grouped_linear" and any(k.dtype == scaled.recipe.product for k in operation.forward)
            if operation.name == "scaled_linear" or grouped:
                weight = next(t for t in operation.inputs if t.parameter is not None)
                kept += scaled.weight_bytes(weight.numel) * stretch.count
                moved += sum(k.moved for k in scaled.cast(weight.bytes, weight.numel, scaled.copies)) * stretch.count
    return kept, moved


def scaled_linear(w: Writer, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`x @ weight.T + bias` in the run's recipe."""
    scaled = w.s.formats.scaled
    assert scaled is not None
    return _torchao(w, scaled, x, weight, bias) if scaled.library == "torchao" else _engine(w, scaled, x, weight, bias)


def _products(scaled: Scaled, x: Tensor, weight: Tensor) -> tuple[Kernel, list[Kernel]]:
    """(forward, backward) products."""
    out, inner = weight.shape[-2:]
    rows, product = x.numel / inner, scaled.recipe.product
    backward = []
    if x.requires_grad:
        backward.append(matmul_kernel(rows, inner, out, product, layout="dgrad"))
    if weight.requires_grad:
        backward.append(matmul_kernel(out, inner, rows, product, layout="wgrad"))
    return matmul_kernel(rows, out, inner, product), backward


def _engine(w: Writer, scaled: Scaled, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Transformer Engine's Linear: quantised copies of the input are shared by the layers that read it."""
    g = w.graph
    x = g.lower(x)
    out = weight.shape[-2]
    stored = scaled.recipe.stored
    rows, columns = _quantised(w, scaled, x, weight.requires_grad)
    saved = [columns] if weight.requires_grad else []
    forward, backward = _products(scaled, x, weight)
    casts: list[Kernel] = []
    inputs = [x, rows, columns, weight]
    if not scaled.cached:
        # quantised for this pass: the columns are kept for the data gradient
        casts = scaled.cast(weight.bytes, weight.numel, scaled.copies)
        kept = g.new(weight.shape, stored, False, "quantized_weight")
        g.add_operation("quantize_weight", "elementwise", (), (kept,), (), casts, ())
        inputs.append(kept)
        saved += [kept] if x.requires_grad else []
    elif x.requires_grad:
        saved.append(weight)
    needs = x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    y = g.new((*x.shape[:-1], out), x.dtype, needs, "scaled_linear")
    copies = scaled.copies if weight.requires_grad and x.requires_grad else 1
    incoming = scaled.cast(y.bytes, y.numel, copies) if backward else []
    if bias is not None:
        inputs.append(bias)
    scratch = copies * y.numel * BYTES[stored]
    g.add_operation(
        "scaled_linear", "matmul", inputs, (y,), saved, (forward,), [*incoming, *backward], temporary=(0.0, scratch)
    )
    return y


def _quantised(w: Writer, scaled: Scaled, x: Tensor, trained: bool) -> tuple[Tensor, Tensor]:
    """The input by rows for forward and by columns for the weight gradient; once for all layers that read it."""
    known = w.quantised.get(id(x.storage))
    if known is not None and known[0].numel == x.numel:
        return known
    g, stored = w.graph, scaled.recipe.stored
    copies = scaled.copies if trained else 1
    rows = g.new(x.shape, stored, False, "quantized_rows")
    columns = rows if copies == 1 else g.new(x.shape, stored, False, "quantized_columns")
    outputs = (rows,) if columns is rows else (rows, columns)
    g.add_operation("quantize", "elementwise", (x,), outputs, (), scaled.cast(x.bytes, x.numel, copies), ())
    w.quantised[id(x.storage)] = (rows, columns)
    return rows, columns


def _torchao(w: Writer, scaled: Scaled, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """torchao's Float8Linear: keeps the input and the weight as they are, and casts both again in backward."""
    g = w.graph
    x = g.lower(x)
    stored, out = scaled.recipe.stored, weight.shape[-2]
    element = BYTES[stored]
    forward, backward = _products(scaled, x, weight)
    y = g.new((*x.shape[:-1], out), x.dtype, x.requires_grad or weight.requires_grad, "scaled_linear")
    saved = ([x] if weight.requires_grad else []) + ([weight] if x.requires_grad else [])

    def casts(source: Tensor, copies: int = 1) -> list[Kernel]:
        return (
            scaled.cast(source.bytes, source.numel, copies) if not w.s.eager else _eager_casts(source, element, copies)
        )

    layouts = scaled.copies
    before = [*casts(x), *casts(weight)]
    after: list[Kernel] = []
    if backward:
        after += casts(y, layouts if x.requires_grad and weight.requires_grad else 1)
    if x.requires_grad:
        after += casts(weight)
    if weight.requires_grad:
        after += casts(x)
        if BYTES[weight.dtype] > BYTES[x.dtype]:  # the gradient of an fp32 weight is formed in bf16 and cast
            after.append(Kernel("elementwise", weight.numel * BYTES[x.dtype] + weight.bytes))
    wide = 4.0 if w.s.eager else element
    ahead = element * x.numel + max(element, wide) * weight.numel
    behind = element * y.numel + max(wide * weight.numel, wide * x.numel) if backward else 0.0
    g.add_operation(
        "scaled_linear",
        "matmul",
        (x, weight),
        (y,),
        saved,
        [*before, forward],
        [*after, *backward],
        temporary=(ahead, behind),
    )
    return y if bias is None else g.add(y, g.lower(bias), name="bias")


def _eager_casts(source: Tensor, element: float, copies: int) -> list[Kernel]:
    """Outside a compiler: |x|, its maximum, the scale (8 small kernels), x in fp32 times the scale, clamp, cast (torchao `float8_utils.py`)."""
    n = source.numel
    return [
        Kernel("elementwise", 2 * source.bytes),
        Kernel("reduction", source.bytes),
        *[Kernel("elementwise", 16.0)] * 8,
        Kernel("elementwise", source.bytes + 4 * n),
        Kernel("elementwise", 8 * n),
        Kernel("elementwise", 8 * n),
        Kernel("elementwise", (4 + element) * n),
        *[Kernel("elementwise", 2 * element * n)] * (copies - 1),
    ]
