"""Linear layers over a frozen quantized weight, as the libraries that train adapters on them run them.

`nf4`, `nf4-dq`: bitsandbytes' Linear4bit (Dettmers et al. 2023, arXiv:2305.14314): the weight is dequantized for forward and again for
backward, and neither it nor the input is kept; the input is cast to the compute type and the output back to the input's.
`int8`: bitsandbytes' Linear8bitLt (Dettmers et al. 2022, arXiv:2208.07339): rows of the input are quantized and multiplied in int8; the
input stays an attribute of the autograd node, which neither checkpoints nor the end of the node's backward release.
`int4`: GPTQ (Frantar et al. 2022, arXiv:2210.17323) under GPT-QModel, whose trainable kernel dequantizes and multiplies in plain torch, so that
autograd keeps the dequantized weight; under AutoGPTQ's Triton kernel nothing is kept.
`awq`: AWQ (Lin et al. 2023, arXiv:2306.00978) under GPT-QModel: keeps the input, and repeats the dequantized weight per sequence in backward.
`tests/oracles/quantized.py` has each of them in plain torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.workload.graph import BYTES, Kernel, Tensor, matmul_kernel

if TYPE_CHECKING:
    from planner.workload.writer import Writer

QUANTIZED = ("nf4", "nf4-dq", "int8", "int4", "awq")
GROUP = 128
"""Weights with one scale and zero in GPTQ and AWQ (their usual group size)."""
BLOCK, NESTED = 64, 256
"""Weights with one scale in NF4, and scales with one scale of their own."""
SPACE: dict[str, float] = {"nf4": 0.53, "nf4-dq": 0.53, "int8": 1.0, "int4": 0.53, "awq": 0.53}
"""Bytes that a dequantization reads per weight."""
UNPACKING = (4.5, 5.0, 2.0, 2.0, 3.0)
"""Bytes moved for each 4-bit weight by the operators that unpack it: shift to int32, cast to int8, mask, subtract zeros, scale
(AutoGPTQ 0.4, qlinear_cuda_old.py, QuantLinear.forward)."""


def notes(base: str | None, *, keeps_dequantized: bool, checkpointed: bool, early_stop: bool) -> list[str]:
    """What surprises in the memory of a quantized base."""
    if base == "int4" and keeps_dequantized and not checkpointed:
        return ["GPT-QModel's trainable kernel keeps every dequantized weight for backward; with activation_checkpointing: full only one block's."]
    if base == "int8" and checkpointed and early_stop:
        return ["bitsandbytes' int8 layers keep their inputs until backward is over, checkpoints or not."]
    return []


def pieces(dtype: str, numel: float, inner: float) -> tuple[float, ...]:
    """Sizes of the tensors in which one quantized weight is stored [bytes]. inner: input features.

    NF4 has its table of 16 values, and double quantization the table of 256 and the offset of its scales (bitsandbytes QuantState); int8 one
    scale per row; GPTQ the group of every input beside packed weights, zeros and scales.
    """
    blocks = -(-numel // BLOCK)
    out = numel / inner
    groups = -(-inner // GROUP)
    if dtype == "nf4":
        return -(-numel // 2), 4 * blocks, 64.0
    if dtype == "nf4-dq":
        return -(-numel // 2), blocks, 4.0 * -(-blocks // NESTED), 1024.0, 64.0, 4.0
    if dtype == "int8":
        return numel, 4 * out
    packed = (numel / 2, groups * out / 2, 2 * groups * out)
    return packed if dtype == "awq" else (*packed, 4 * inner)


def quantized_linear(w: Writer, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`x @ weight.T + bias` over a weight of one of the formats above."""
    assert weight.parameter is not None
    dtype = weight.parameter.dtype
    if dtype == "int8":
        return _int8(w, x, weight, bias)
    if dtype == "awq":
        return _awq(w, x, weight, bias)
    if dtype == "int4" and w.s.stack.keeps_dequantized:
        return _gptq(w, x, weight, bias)
    return _unpacked(w, x, weight, bias)


def _products(x: Tensor, weight: Tensor, dtype: str) -> tuple[Kernel, list[Kernel]]:
    """(forward, backward) products. The weight needs no gradient."""
    out, inner = weight.shape
    rows = x.numel / inner
    backward = [matmul_kernel(rows, inner, out, dtype, layout="dgrad")] if x.requires_grad else []
    return matmul_kernel(rows, out, inner, dtype), backward


def _dequantize(weight: Tensor, dtype: str) -> Kernel:
    assert weight.parameter is not None
    stored = weight.parameter.dtype
    return Kernel("dequantize", weight.numel * SPACE[stored] + weight.numel * BYTES[dtype], dtype=stored)


def _operands(*tensors: Tensor | None) -> list[Tensor]:
    return [t for t in tensors if t is not None]


def _unpacked(w: Writer, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The weight is unpacked for forward and again for backward."""
    g, formats = w.graph, w.s.formats
    compute = formats.compute
    # under FSDP's mixed precision, and in what was measured with transformers 4, outputs stay in the compute type
    came = x.dtype if w.s.stack.restores_type and formats.graph == formats.stored else compute
    x = g.cast(x, compute)
    y = g.new((*x.shape[:-1], weight.shape[0]), compute, x.requires_grad, "quantized_linear")
    full = weight.numel * BYTES[compute]
    assert weight.parameter is not None
    # scales of double quantization are made in fp32, twice in forward
    scales = 4 * weight.numel / BLOCK if weight.parameter.dtype == "nf4-dq" else 0.0
    unpack = [_dequantize(weight, compute)]
    again = unpack
    if w.s.stack.unpacks_by_operators and weight.parameter.dtype == "int4":  # autograd keeps what they made
        unpack, again = [Kernel("dequantize", size * weight.numel) for size in UNPACKING], []
    forward, backward = _products(x, weight, compute)
    kept, saved = [], []
    if w.s.stack.keeps_quantized_inputs and x.requires_grad:
        known = None if w.joined is None else w.joined.get(id(x.storage))
        saved = [known or g.new(x.shape, w.s.stack.keeps_quantized_inputs, False, "kept_input")]
        kept = [] if known else saved
        if w.joined is not None:
            w.joined[id(x.storage)] = saved[0]
    g.add_operation(
        "quantized_linear", "matmul", _operands(x, weight, bias), (y, *kept), saved, [*unpack, forward],
        [*again, *backward] if backward else [], temporary=(full + 2 * scales, full + max(0.0, scales - x.bytes)),
    )  # fmt: skip
    return g.cast(y, came)


def _int8(w: Writer, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """LLM.int8 without outliers; the products are taken to run at the rate of 16-bit ones (assumed)."""
    g = w.graph
    rows = x.numel / x.shape[-1]
    y = g.new((*x.shape[:-1], weight.shape[0]), x.dtype, x.requires_grad, "quantized_linear")
    half = 0.0 if x.dtype == "fp16" else 1.0
    # the fp16 copy, its absolute values, what exceeds the threshold, and the int8 rows; then the int32 result and that in fp16
    quantizing = (2 * half + 2 + 1 + 1) * x.numel + 4 * rows
    rescaling = x.numel + 4 * rows + (4 + 2 * half) * y.numel
    product = w.s.formats.compute
    forward, backward = _products(x, weight, product)
    elementwise = [
        *([Kernel("elementwise", x.bytes + 2 * x.numel)] if half else []),
        Kernel("elementwise", 4 * x.numel),
        Kernel("elementwise", 3 * x.numel),
        Kernel("reduction", x.numel),
        Kernel("elementwise", 3 * x.numel),
    ]
    after = [Kernel("elementwise", 6 * y.numel), *([Kernel("elementwise", y.bytes + 2 * y.numel)] if half else [])]
    full = weight.numel * BYTES[x.dtype]
    backward = [_dequantize(weight, x.dtype), Kernel("elementwise", 2 * full), *backward] if backward else []
    g.add_operation(
        "quantized_linear", "matmul", _operands(x, weight, bias), (y,), (), [*elementwise, forward, *after], backward,
        temporary=(max(quantizing - y.bytes, rescaling), full), attached=(x,) if x.requires_grad else (),
    )  # fmt: skip
    return y


def _gptq(w: Writer, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """GPT-QModel's TorchLinear: a dequantized weight in the input's type, and a plain product."""
    g = w.graph
    full = g.new(weight.shape, x.dtype, False, "dequantized_weight")
    g.add_operation("dequantize", "dequantize", (weight,), (full,), (), (_dequantize(weight, x.dtype),), ())
    return g.linear(x, full, bias)


def _awq(w: Writer, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """GPT-QModel's AwqGemmFn past 1024 rows: keeps its input; the data gradient is a batched product with a copy of the weight per sequence."""
    g = w.graph
    came = x.dtype
    compute = came if came in ("bf16", "fp16") else "fp16"
    x = g.cast(x, compute)
    y = g.new((*x.shape[:-1], weight.shape[0]), compute, x.requires_grad, "quantized_linear")
    full = weight.numel * BYTES[compute]
    copies = x.shape[0] if len(x.shape) > 2 else 1.0
    forward, backward = _products(x, weight, compute)
    unpack = _dequantize(weight, compute)
    repeat = Kernel("elementwise", (1 + copies) * full)
    g.add_operation(
        "quantized_linear", "matmul", _operands(x, weight, bias), (y,), (x,) if x.requires_grad else (), [unpack, forward],
        [unpack, repeat, *backward] if backward else [],
        temporary=(full + (y.bytes if bias is not None else 0.0), (1 + copies) * full),
    )  # fmt: skip
    return g.cast(y, came)
