"""A device profile: how fast one piece of hardware really is, by operation and size. JSON in, JSON out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from planner.device.attention import Attention, AttentionCurve
from planner.device.conditions import Conditions
from planner.device.gemm import Gemm, GemmCurve, Layout
from planner.device.measured import Measured
from planner.device.stream import Stream, StreamCurve
from planner.errors import PlanError

Basis = Literal["datasheet", "fitted", "calibrated"]
PROFILE_VERSION: Final = 1


class DeviceProfile(BaseModel):
    """Efficiency curves of one device and the datasheet figures that they multiply.

    Arguments
    ---------
    basis: "calibrated" (this machine was measured), "fitted" (published measurements of this very part) or "datasheet" (curves of the
        nearest measured part, carried by ratios of peak, bandwidth, processors and power).
    gemm: one curve per number format that the device can multiply.
    attention: one curve per fused kernel; `attention_kernel` names the one that training uses unless the caller says otherwise.
    sustained: by number format, the rate that long training runs hold over that of short measurements; 1 where it is not named.
        Kernel benchmarks are short and their inputs hold little entropy, so they draw less power than training.

    Equations: see `planner.device.gemm`, `planner.device.attention` and `planner.device.stream`.
    Errors: PlanError for a number format, attention kernel or kind of kernel that the device does not have.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    version: Literal[1] = PROFILE_VERSION
    name: str = Field(min_length=1, description="name of this profile")
    accelerator_name: str = Field(
        min_length=1, description="name of the part in the catalogue, or as its driver reports it"
    )
    basis: Basis
    source: str = Field(description="where the curves come from")
    peak_flops: dict[str, float] = Field(description="dense peak by number format [FLOP/s]")
    memory_bandwidth: float = Field(gt=0, description="datasheet memory bandwidth [B/s]")
    sm_count: int = Field(
        gt=0, description="streaming multiprocessors, compute units or cores over which tiles are spread"
    )
    l2_bytes: float = Field(ge=0, description="last-level cache [bytes]")
    gemm: dict[str, GemmCurve]
    attention: dict[str, AttentionCurve] = Field(min_length=1)
    attention_kernel: str = Field(description="fused kernel that training uses unless the caller names another")
    stream: StreamCurve
    launch_seconds: float = Field(gt=0, description="least duration of one kernel on the device [s]")
    dispatch_seconds: float = Field(
        gt=0, description="processor time that PyTorch eager needs to issue one operator [s]"
    )
    sustained: dict[str, float] = Field(
        default_factory=dict, description="long-run rate over short-run rate, by number format"
    )
    fit_errors: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="held-out errors of the curves that were fitted here"
    )
    notes: tuple[str, ...] = Field(default=(), description="what was assumed or carried, in words")
    memory_bytes: float | None = Field(
        default=None, gt=0, description="memory of the device, where no catalogue row says it [bytes]"
    )
    measured: Measured | None = Field(default=None, description="what a calibration measured beside the curves")
    conditions: Conditions | None = Field(default=None, description="where and when a calibration was made")

    _gemm: dict[str, Gemm] = PrivateAttr(default_factory=dict)
    _attention: dict[tuple[str | None, str], Attention] = PrivateAttr(default_factory=dict)
    _stream: Stream = PrivateAttr()

    @field_validator("sustained", "peak_flops")
    @classmethod
    def _positive(cls, value: dict[str, float]) -> dict[str, float]:
        for key, number in value.items():
            if not number > 0:
                raise ValueError(f"{key} must be above 0")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        missing = sorted(set(self.gemm) - set(self.peak_flops))
        if missing:
            raise ValueError(f"gemm names {', '.join(missing)}, of which peak_flops holds no peak")
        if self.attention_kernel not in self.attention:
            raise ValueError(f"attention_kernel {self.attention_kernel!r} is none of {', '.join(self.attention)}")
        return self

    def model_post_init(self, context: Any, /) -> None:
        for dtype, curve in self.gemm.items():
            if dtype in self.peak_flops:
                self._gemm[dtype] = Gemm(curve, self._rate(dtype), self.memory_bandwidth, self.sm_count, self.l2_bytes)
        for kernel, attention in self.attention.items():
            for dtype in self.gemm:
                if dtype in self.peak_flops:
                    size = 4.0 if dtype in ("fp32", "tf32") else 2.0
                    bound = Attention(attention, self._rate(dtype), self.memory_bandwidth, self.sm_count, size)
                    self._attention[kernel, dtype] = bound
                    if kernel == self.attention_kernel:
                        self._attention[None, dtype] = bound
        self._stream = Stream(self.stream, self.memory_bandwidth, self.l2_bytes)

    def _rate(self, dtype: str) -> float:
        return self.peak_flops[dtype] * self.sustained.get(dtype, 1.0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeviceProfile) and dict(self) == dict(other)

    def __hash__(self) -> int:
        return hash((self.name, self.accelerator_name, self.basis, self.source))

    def supports(self, dtype: str) -> bool:
        """Whether the device multiplies matrices of this number format in hardware."""
        return dtype in self._gemm

    @property
    def synchronous(self) -> bool:
        """Whether operators run where they are issued (a processor): kernels and dispatch add up."""
        return self.measured is not None and self.measured.synchronous

    @property
    def bandwidth_efficiency(self) -> float:
        """Fraction of the datasheet bandwidth that a large elementwise kernel reaches."""
        return self.stream.fractions["elementwise"]

    def with_sustained(self, **factors: float) -> DeviceProfile:
        """A copy whose long-run factors are replaced, by number format: `profile.with_sustained(bf16=0.9)`."""
        return DeviceProfile.model_validate({**dict(self), "sustained": {**self.sustained, **factors}})

    def matmul_seconds(
        self, m: Any, n: Any, k: Any, dtype: str, *, batch: Any = 1, layout: Layout = "forward", kind: str = ""
    ) -> Any:
        """Time of one kernel with `batch` products [m, k] x [k, n], memory traffic and launch included [s].

        `layout` says which operands are contiguous along which dimension; it decides which dimensions must be multiples of 16 bytes. The
        caller swaps the sizes of backward products itself. `kind` "convolution" takes what was measured of
        convolutions. Products of fp8 and fp4 operands do not include quantising them.
        """
        try:
            kernel = self._gemm[dtype]
        except KeyError:
            raise self._unsupported(dtype) from None
        seconds = kernel.seconds(m, n, k, batch, layout)
        if self.measured is not None:
            products = self.measured.products
            known = (products.get(f"{dtype}/{kind}/{layout}") if kind else None) or products.get(f"{dtype}/{layout}")
            if known is not None:
                seconds *= known.factor(m, n, k, batch)
        return seconds

    def quantize_seconds(self, m: Any, k: Any, dtype: str) -> Any:
        """Time of the kernel that quantises a left operand [m, k] to fp8 or fp4 with a scale per row [s]; 0 for unscaled formats."""
        try:
            kernel = self._gemm[dtype]
        except KeyError:
            raise self._unsupported(dtype) from None
        return kernel.quantize_seconds(m, k) if kernel.curve.quantize_launch_s else 0.0 * m * k

    def attention_seconds(
        self,
        *,
        batch: Any,
        heads: Any,
        kv_heads: Any,
        q_len: Any,
        kv_len: Any,
        head_dim: Any,
        dtype: str,
        causal: bool,
        backward: bool,
        window: int | None = None,
        kernel: str | None = None,
    ) -> Any:
        """Time of the fused attention kernel, or with `backward` of its backward kernel alone [s].

        `window` counts the keys that a query sees to its left (and without `causal` to its right as well). `kernel` names one of
        `attention`, such as "flash2" or "flash3".
        """
        try:
            bound = self._attention[kernel, dtype]
        except KeyError:
            if kernel is not None and kernel not in self.attention:
                known = ", ".join(self.attention)
                raise PlanError(
                    "attention.kernel", kernel, f"is not measured on {self.accelerator_name}", f"Write one of {known}."
                ) from None
            raise self._unsupported(dtype) from None
        seconds = bound.seconds(batch, heads, kv_heads, q_len, kv_len, head_dim, causal, backward, window)
        if self.measured is not None:
            other = "" if kernel is None or kernel == self.attention_kernel else f"{kernel}/"
            name = f"{other}{dtype}/{'causal' if causal else 'full'}/{'backward' if backward else 'forward'}"
            if (missed := self.measured.attention.get(name)) is not None:
                seconds *= missed.factor(batch * heads, q_len, kv_len, head_dim)
        return seconds

    def stream_seconds(self, bytes_moved: Any, kind: str = "elementwise") -> Any:
        """Time of one memory-bound kernel that moves `bytes_moved` [bytes] between memory and processors [s]."""
        return self._stream.seconds(bytes_moved, kind)

    def _unsupported(self, dtype: str) -> PlanError:
        known = ", ".join(self._gemm)
        problem = f"is no number format in which {self.accelerator_name} multiplies matrices"
        return PlanError("precision.compute", dtype, problem, f"Write one of {known}.")

    def dump(self, path: str | Path) -> None:
        """Write the profile as JSON."""
        Path(path).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load_profile(path: str | Path) -> DeviceProfile:
    """Read a profile that `DeviceProfile.dump` or the calibration wrote.

    Errors: PlanError when the file is absent, is no JSON, has another version or lacks a field.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        raise PlanError("profile", str(path), problem, "Write the path of a profile that `calibrate` made.") from None
    except ValueError:
        raise PlanError(
            "profile", str(path), "is not JSON", "Write the path of a profile that `calibrate` made."
        ) from None
    if not isinstance(data, dict) or data.get("version") != PROFILE_VERSION:
        found = data.get("version") if isinstance(data, dict) else None
        raise PlanError(
            "profile.version", found, f"is not {PROFILE_VERSION}, the version read here", "Calibrate again."
        )
    try:
        return DeviceProfile.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PlanError(
            f"profile.{where}".rstrip("."), first.get("input"), f"is not valid: {first['msg']}", "Calibrate again."
        ) from None
