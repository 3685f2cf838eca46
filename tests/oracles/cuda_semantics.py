"""Make fake CPU tensors behave as CUDA tensors where the two differ in what they keep for backward.

A CPU-only PyTorch has no CUDA device guard, so autograd refuses fake tensors on ``cuda``. Fake tensors on ``cpu`` run
everywhere, but CPU differs from CUDA in ways that change memory. `cuda_semantics` replaces exactly these:

1. autocast: CUDA autocast runs ``layer_norm``, ``softmax``, ``pow``, ``rsqrt``, ``sum`` … in float32
   (``AT_FORALL_FP32`` and ``AT_FORALL_FP32_SET_OPT_DTYPE`` in aten/src/ATen/autocast_mode.h); CPU autocast runs them
   in the dtype they are given;
2. dropout: CPU multiplies by a noise tensor of the input's dtype, CUDA calls ``native_dropout`` (a bool mask);
3. ``scaled_dot_product_attention``: CPU has one flash kernel, without dropout; CUDA picks flash (fp16/bf16, no mask)
   or the memory-efficient kernel, which keeps a log-sum-exp padded to a multiple of 32 rows;
4. ``rms_norm`` is one kernel on CUDA, several operators on CPU;
5. layer norm statistics are float32 on CUDA, of the input's dtype on CPU (see `float32_statistics`, which the tracker
   applies below autograd).

The caller passes ``foreach=True`` to optimizers and to ``clip_grad_norm_``: the default on CUDA, not on CPU.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch.nn import functional
from transformers import masking_utils

_FP32 = (
    *("layer_norm", "native_layer_norm", "rms_norm", "group_norm", "rsqrt", "exp", "expm1", "log", "reciprocal", "softplus"),
    *("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar", "logsumexp"),
)
_FP32_UNLESS_TOLD = ("softmax.int", "log_softmax.int", "sum", "sum.dim_IntList", "prod", "cumsum")


@contextlib.contextmanager
def cuda_semantics(padded: bool = False) -> Iterator[None]:
    """Within the block, CPU tensors follow CUDA's autocast lists, dropout and attention kernels. padded: masks hide something."""
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some are on CPU's list too, and replacing these warns
        for name in _FP32:
            library.impl(name, _in_float32(name), "AutocastCPU")
        for name in _FP32_UNLESS_TOLD:
            library.impl(name, _with_float32_result(name), "AutocastCPU")
    try:
        with (
            _whole_masks() if not padded else contextlib.nullcontext(),
            mock.patch.object(functional, "dropout", _dropout),
            mock.patch.object(functional, "rms_norm", _rms_norm),
            mock.patch.object(functional, "scaled_dot_product_attention", _attention),
            # Reads position ids to find packed sequences; fake ones hold no values, and these cases pack nothing.
            mock.patch("transformers.masking_utils.find_packed_sequence_indices", _nothing_is_packed),
            mock.patch.object(torch, "isfinite", _finite),
            # Asks for CUDA's autocast unless told a device; here autocast is the CPU's.
            mock.patch.object(torch, "is_autocast_enabled", _autocast_enabled),
            # CUDA's grouped product falls back to a loop for types other than bf16; fake tensors refuse them.
            mock.patch("transformers.integrations.moe._grouped_mm", _grouped_mm),
        ):
            yield
    finally:
        library._destroy()


@contextlib.contextmanager
def _whole_masks() -> Iterator[None]:
    """A mask of ones, as BART's decoder makes for itself, hides nothing and is dropped; fake ones hold no values to see that."""
    with contextlib.ExitStack() as stack:
        for name in ("_ignore_causal_mask_sdpa", "_ignore_bidirectional_mask_sdpa"):
            stack.enter_context(
                mock.patch(f"transformers.masking_utils.{name}", _ignoring(getattr(masking_utils, name)))
            )
        yield


def _ignoring(decide: Callable[..., bool]) -> Callable[..., bool]:
    return lambda padding_mask, *args, **kwargs: decide(None, *args, **kwargs)


def float32_statistics(func: Any, result: Any) -> Any:
    """Mean and reciprocal deviation as ``native_layer_norm`` returns them on CUDA."""
    if func is torch.ops.aten.native_layer_norm.default:
        return result[0], result[1].to(torch.float32), result[2].to(torch.float32)
    return result


def _autocast_enabled(device_type: str = "cpu", enabled: Callable[[str], bool] = torch.is_autocast_enabled) -> bool:
    return enabled(device_type)


def _grouped_mm(input: torch.Tensor, weight: torch.Tensor, offs: torch.Tensor) -> torch.Tensor:
    if weight.dtype == torch.bfloat16:
        return functional.grouped_mm(input.to(weight.dtype), weight, offs=offs)
    return _GroupedLoop.apply(input.to(weight.dtype), weight, offs)  # type: ignore[no-any-return,no-untyped-call]


class _GroupedLoop(torch.autograd.Function):
    """A grouped product that keeps and computes what its gradients need, no more."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, weight: torch.Tensor, offs: torch.Tensor) -> torch.Tensor:
        trained, passed = weight.requires_grad, rows.requires_grad
        ctx.save_for_backward(rows if trained else None, weight if passed or trained else None, offs)
        return torch.ops.transformers.grouped_mm_fallback(rows, weight, offs)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        rows, weight, offs = ctx.saved_tensors
        if rows is None:
            return torch.ops.transformers.grouped_mm_fallback(gradient, weight.transpose(-2, -1), offs), None, None
        return (*torch.ops.transformers.grouped_mm_fallback_backward(rows, weight, offs, gradient), None)


def _nothing_is_packed(*_: Any, **__: Any) -> None:
    """In place of a Mock, which would remember its arguments and so keep tensors alive."""


class _AllFinite:
    """Answers `torch.isfinite(x).all()`, by which DETR decides whether to clamp: fake tensors hold no values to see."""

    def all(self) -> bool:
        return True


def _finite(x: torch.Tensor, isfinite: Callable[..., torch.Tensor] = torch.isfinite) -> _AllFinite:
    isfinite(x)
    return _AllFinite()


def _overload(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def _eligible(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.dtype != torch.float64


def _to_float32(value: Any) -> Any:
    return value.to(torch.float32) if _eligible(value) else value


def _in_float32(name: str) -> Callable[..., Any]:
    op = _overload(name)

    def kernel(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast("cpu", enabled=False):
            return op(*map(_to_float32, args), **{k: _to_float32(v) for k, v in kwargs.items()})

    return kernel


def _with_float32_result(name: str) -> Callable[..., Any]:
    op = _overload(name)
    names = [argument.name for argument in op._schema.arguments]

    def kernel(*args: Any, **kwargs: Any) -> Any:
        values = dict(zip(names, args, strict=False)) | kwargs
        if values.get("dtype") is None and _eligible(args[0]):
            values["dtype"] = torch.float32
        positional = [values.pop(a.name) for a in op._schema.arguments if not a.kwarg_only and a.name in values]
        with torch.autocast("cpu", enabled=False):
            return op(*positional, **values)

    return kernel


def _dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    return torch.native_dropout(input, p, True)[0] if training and p > 0 else input


def _rms_norm(
    input: torch.Tensor, normalized_shape: Any, weight: torch.Tensor | None = None, eps: float | None = None
) -> torch.Tensor:
    if torch.is_autocast_enabled("cpu"):
        input, weight = _to_float32(input), _to_float32(weight)
    with torch.autocast("cpu", enabled=False):
        return _FusedRmsNorm.apply(input, weight)  # type: ignore[no-any-return,no-untyped-call]


class _FusedRmsNorm(torch.autograd.Function):
    """What CUDA's one kernel keeps: its input, its weight and a reciprocal root per row (CPU has separate operators)."""

    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        root = torch.empty((*input.shape[:-1], 1), dtype=torch.float32, device=input.device)
        ctx.save_for_backward(input, weight, root)
        return torch.empty_like(input, memory_format=torch.contiguous_format)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        input, weight, _ = ctx.saved_tensors
        passed, trained, *_ = ctx.needs_input_grad
        return torch.empty_like(input) if passed else None, torch.empty_like(weight) if trained else None


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """The kernel that CUDA's ``scaled_dot_product_attention`` takes: flash, else memory-efficient."""
    if torch.is_autocast_enabled("cpu"):  # autocast casts the inputs of the attention
        query, key, value = (t.to(torch.get_autocast_dtype("cpu")) for t in (query, key, value))
        if attn_mask is not None and attn_mask.is_floating_point():
            attn_mask = attn_mask.to(query.dtype)
    with torch.autocast("cpu", enabled=False):
        # flash wants one head size for queries, keys and values (aten/native/transformers/cuda/sdp_utils.cpp)
        same = query.shape[-1] == value.shape[-1]
        if query.dtype != torch.float32 and attn_mask is None and query.shape[-1] <= 256 and same:
            return _flash(query, key, value, dropout_p, is_causal, scale)
        return _efficient(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)


def _flash(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout_p: float, is_causal: bool, scale: float | None
) -> torch.Tensor:
    # Flash takes head sizes that are multiples of 8: others are padded, and the padded copies are what is kept.
    size = query.shape[-1]
    scale = size**-0.5 if scale is None else scale
    if padding := -size % 8:
        query, key, value = (functional.pad(t, (0, padding)) for t in (query, key, value))
    result = torch.ops.aten._scaled_dot_product_flash_attention(
        query, key, value, dropout_p, is_causal, False, scale=scale
    )
    return result[0][..., :size]  # type: ignore[no-any-return]


def _efficient(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> torch.Tensor:
    if enable_gqa and query.shape[1] != key.shape[1]:
        # The memory-efficient kernel has no grouped form: with enable_gqa PyTorch takes the math path, scores and all.
        result = torch.ops.aten._scaled_dot_product_attention_math(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=True
        )
        return result[0]  # type: ignore[no-any-return]
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(~attn_mask, float("-inf"))
        if columns := -attn_mask.shape[-1] % 8:  # rows of the bias are aligned to 8 elements
            width = attn_mask.shape[-1]
            attn_mask = functional.pad(attn_mask, (0, columns))[..., :width]
        attn_mask = attn_mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    result = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, True, dropout_p, is_causal, scale=scale
    )
    return result[0]  # type: ignore[no-any-return]
