"""Quantized linear layers written out in plain torch: what each library stores, what its autograd keeps, and its scratch.

Sources, read line by line: bitsandbytes (August 2026) `autograd/_functions.py` MatMul4Bit and MatMul8bitLt, `functional.py` quantize_4bit and
dequantize_4bit, `backends/cuda/ops.py` (dequantize + F.linear past 1536 rows, which is what is written here); GPT-QModel (August 2026)
`nn_modules/qlinear/torch.py` TorchLinear._forward_eager with its one-kernel dequantization, which trains GPTQ weights, and
`nn_modules/qlinear/gemm_awq.py` AwqGemmFn. Kernels are single operators here, so that only what the libraries allocate is seen.

`adapters` lets peft's own LoRA layers for these bases (peft.tuners.lora.bnb, gptq, awq) run on them without the libraries.
"""

from __future__ import annotations

import contextlib
import enum
import importlib
import sys
import types
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import nn

GROUP = 128
"""Weights with one scale in GPTQ and AWQ."""


class _Packed(nn.Linear):
    """A linear layer whose weight is stored as `pieces`, frozen buffers by name."""

    def __init__(self, layer: nn.Linear, compute: torch.dtype) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.compute_dtype = compute
        self.bias = layer.bias
        for name, (shape, dtype) in self.pieces().items():
            self.register_buffer(name, torch.empty(shape, dtype=dtype))

    def pieces(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        raise NotImplementedError

    def full(self, dtype: torch.dtype) -> torch.Tensor:
        """The dequantized weight."""
        return torch.empty((self.out_features, self.in_features), dtype=dtype)


class Linear4bit(_Packed):
    """bitsandbytes' Linear4bit in NF4, blocks of 64."""

    double = False

    def pieces(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        numel = self.in_features * self.out_features
        blocks = -(-numel // 64)
        plain = {"packed": (((numel + 1) // 2, 1), torch.uint8), "code": ((16,), torch.float32)}
        if not self.double:
            return {**plain, "absmax": ((blocks,), torch.float32)}
        nested = {"state2_absmax": ((-(-blocks // 256),), torch.float32), "state2_code": ((256,), torch.float32)}
        return {**plain, "absmax": ((blocks,), torch.uint8), **nested, "offset": ((), torch.float32)}

    @property
    def weight(self) -> Any:  # what peft reads when it wraps the layer
        return types.SimpleNamespace(compress_statistics=self.double, quant_type="nf4", device=self.packed.device, dtype=torch.uint8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        came = x.dtype
        x = x.to(self.compute_dtype)
        bias = None if self.bias is None else self.bias.to(self.compute_dtype)
        return _MatMul4Bit.apply(x, self, bias).to(came)

    def scales(self) -> torch.Tensor:
        """The scales in fp32; those of double quantization are made from 8 bits each time."""
        if not self.double:
            return self.absmax
        made = torch.empty_like(self.absmax, dtype=torch.float32)
        return made + self.offset


class Linear4bitDouble(Linear4bit):
    double = True


class _MatMul4Bit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: torch.Tensor, layer: Linear4bit, bias: torch.Tensor | None) -> torch.Tensor:
        scales = layer.scales()  # noqa: F841  alive until the product is done
        weight = layer.full(a.dtype)
        ctx.layer = layer
        return nn.functional.linear(a, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        if not ctx.needs_input_grad[0]:
            return None, None, None
        return torch.matmul(grad, _dequantized(ctx.layer, grad.dtype)), None, None


def _dequantized(layer: Linear4bit, dtype: torch.dtype) -> torch.Tensor:
    scales = layer.scales()  # noqa: F841  alive until the weight is made
    return layer.full(dtype)


class Linear8bitLt(_Packed):
    """bitsandbytes' Linear8bitLt (LLM.int8): int8 rows, products in int8, outlier columns (none here) beside."""

    index = None

    def pieces(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        return {"CB": ((self.out_features, self.in_features), torch.int8), "SCB": ((self.out_features,), torch.float32)}

    @property
    def state(self) -> Any:
        return types.SimpleNamespace(has_fp16_weights=False, threshold=6.0)

    @property
    def weight(self) -> Any:
        return self.CB

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _MatMul8bitLt.apply(x, self, self.bias)


class _MatMul8bitLt(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: torch.Tensor, layer: Linear8bitLt, bias: torch.Tensor | None) -> torch.Tensor:
        came = a.shape
        a = a.reshape(-1, a.shape[-1])
        rows, scales = _vectorwise(a.to(torch.float16))  # the row scales live as long as the rows
        y = _rescaled(torch.ops.aten._int_mm(rows, layer.CB.t()), bias, a.dtype)
        del scales
        # an attribute of the node and no saved tensor: hooks, and so checkpoints, do not see it
        ctx.kept = a if ctx.needs_input_grad[0] else None
        ctx.layer, ctx.dtype, ctx.came = layer, a.dtype, came
        return y.reshape((*came[:-1], layer.out_features))

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        if not ctx.needs_input_grad[0]:
            return None, None, None
        grad = grad.reshape(-1, grad.shape[-1]).contiguous()
        weight = ctx.layer.CB.to(ctx.dtype, copy=True).mul_(ctx.layer.SCB.unsqueeze(1).mul(1.0 / 127.0))
        return torch.matmul(grad.to(ctx.dtype), weight).view(ctx.came), None, None


def _vectorwise(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """int8_vectorwise_quant: where no value passes the threshold."""
    scales = torch.empty(a.shape[0], dtype=torch.float32)
    rows = torch.empty(a.shape, dtype=torch.int8)
    outliers = a.abs() >= 6.0
    outliers.any()
    return rows, scales


def _rescaled(out: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
    """int8_mm_dequant: through fp16, whatever the type that is asked for."""
    y = torch.empty_like(out, dtype=torch.float16)
    if bias is not None and bias.dtype != torch.float16:
        y.add_(bias)
    return y.to(dtype)


class Gptq(_Packed):
    """GPT-QModel's TorchLinear: a dequantized weight and a plain product, of which autograd keeps the weight."""

    SUPPORTS_METHODS: tuple[Any, ...] = ()

    def pieces(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        groups = -(-self.in_features // GROUP)
        return {
            "qweight": ((self.in_features // 8, self.out_features), torch.int32),
            "qzeros": ((groups, self.out_features // 8), torch.int32),
            "scales": ((groups, self.out_features), torch.float16),
            "g_idx": ((self.in_features,), torch.int32),
        }

    @property
    def weight(self) -> Any:
        return self.qweight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = (*x.shape[:-1], self.out_features)
        x = x.reshape(-1, x.shape[-1])
        weight = torch.empty((self.in_features, self.out_features), dtype=x.dtype)
        y = torch.matmul(x, weight).reshape(shape)
        if self.bias is not None:
            y.add_(self.bias.to(y.dtype))
        return y


class _Awq(enum.Enum):
    AWQ = "awq"


class Awq(Gptq):
    """GPT-QModel's AwqGEMMLinear: keeps its input; backward repeats the dequantized weight for every sequence of the batch."""

    SUPPORTS_METHODS = (_Awq.AWQ,)

    def pieces(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        groups = -(-self.in_features // GROUP)
        return {
            "qweight": ((self.in_features, self.out_features // 8), torch.int32),
            "qzeros": ((groups, self.out_features // 8), torch.int32),
            "scales": ((groups, self.out_features), torch.float16),
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        came = x.dtype
        compute = came if came in (torch.float16, torch.bfloat16) else torch.float16
        x = x.to(compute) if came != compute else x.contiguous()
        y = _AwqGemm.apply(x, self)
        return y.to(came).reshape((*x.shape[:-1], self.out_features))


class _AwqGemm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: Awq) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.layer = layer
        weight = torch.empty((layer.in_features, layer.out_features), dtype=x.dtype)
        y = torch.matmul(x, weight)
        y = y if layer.bias is None else y + layer.bias.to(y.dtype)
        return y.unsqueeze(0) if y.ndim == 2 else y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        (x,) = ctx.saved_tensors
        weight = torch.empty((ctx.layer.in_features, ctx.layer.out_features), dtype=grad.dtype)
        gradient = None
        if ctx.needs_input_grad[0]:
            gradient = grad.bmm(weight.transpose(0, 1).unsqueeze(0).repeat(grad.shape[0], 1, 1)).view(x.shape)
        return gradient, None


LAYERS: dict[str, type[_Packed]] = {
    "nf4": Linear4bit, "nf4-dq": Linear4bitDouble, "int8": Linear8bitLt, "int4": Gptq, "awq": Awq,
}  # fmt: skip


def quantize(model: nn.Module, base: str, compute: torch.dtype, wide: bool) -> None:
    """Put packed layers in place of every linear layer but the output's. wide: what stays is cast to fp32 (prepare_model_for_kbit_training)."""
    heads = [m for m in (model.get_output_embeddings(),) if m is not None]  # type: ignore[operator]
    names = [
        name
        for name, module in model.named_modules()
        if type(module) is nn.Linear and not any(module is head for head in heads) and name not in ("score", "classifier")
    ]
    for name in names:
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        model.set_submodule(name, LAYERS[base](layer, compute))
    if wide:
        for parameter in model.parameters():
            parameter.data = parameter.data.float()
    model.requires_grad_(False)
    model.is_loaded_in_4bit, model.is_loaded_in_8bit = base.startswith("nf4"), base == "int8"  # type: ignore[assignment]


@contextlib.contextmanager
def adapters() -> Iterator[None]:
    """peft finds these layers where it looks for the libraries' own."""
    bnb, gptq = types.ModuleType("bitsandbytes"), types.ModuleType("gptqmodel")
    bnb.nn = types.SimpleNamespace(Linear4bit=Linear4bit, Linear8bitLt=Linear8bitLt)  # type: ignore[attr-defined]
    parts = {name: types.ModuleType(name) for name in ("gptqmodel.nn_modules", "gptqmodel.nn_modules.qlinear")}
    parts["gptqmodel.nn_modules.qlinear"].BaseQuantLinear = Gptq  # type: ignore[attr-defined]
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(sys.modules, {"bitsandbytes": bnb, "gptqmodel": gptq, **parts}))
        for name in ("is_bnb_available", "is_bnb_4bit_available", "is_gptqmodel_available"):
            for place in ("peft.import_utils", "peft.tuners.lora.model", "peft.tuners.lora.gptq", "peft.tuners.lora.awq", "peft.utils.other"):
                if hasattr(importlib.import_module(place), name):
                    stack.enter_context(mock.patch(f"{place}.{name}", return_value=True))
        for name in ("bnb", "awq"):
            importlib.import_module(f"peft.tuners.lora.{name}").torch = _Torch()  # type: ignore[attr-defined]
        yield


class _Torch:
    """torch as on a GPU, where autocast of the device is what `is_autocast_enabled()` tells."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def is_autocast_enabled() -> bool:
        return torch.is_autocast_enabled("cpu")
