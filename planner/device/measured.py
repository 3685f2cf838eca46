"""What a calibration adds to the curves: times of operators by name, and how far each law is off near the shapes that were measured.

An operator's table holds its time against the bytes that it moves, on a logarithmic scale in both. The laws of products and attention
are corrected by the mean of a Gaussian process over their residuals ln(measured / law) (Rasmussen & Williams, Gaussian Processes for
Machine Learning, 2006, eq. 2.25), with the squared exponential kernel in the binary logarithms x of the sizes:

    r(x) = Σ_i α_i s² exp(-|x - x_i|² / 2ℓ²),     α = (K + σ² I)⁻¹ r

Far from every measured shape the correction vanishes and the law stands alone.
"""

from __future__ import annotations

import bisect
import math
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

SPREAD: Final = 0.5
"""s: how far a law is off where nothing was measured, as a logarithm."""
REACH: Final = 2.0
"""ℓ: factors of two over which a neighbour still tells something."""
NOISE: Final = 0.05
"""σ: repeatability of one sample, as a logarithm."""

EQUIVALENT: Final[dict[str, str]] = {
    "adapter_add": "residual", "positions_add": "residual", "embeddings_add": "residual", "add": "residual",
    "rotary_add": "residual", "adapter_scale": "scale", "output_scale": "scale", "negate": "scale", "half": "scale", "masked_rows": "scale",
    "one_plus": "scale", "rotary_cos": "scale", "rotary_sin": "scale", "center": "residual", "zero_bias": "residual",
    "autocast": "cast", "autocast_weight": "cast", "autocast_fp32": "cast", "adapter_cast": "cast",
    "norm_upcast": "cast", "norm_downcast": "cast", "mask_add": "residual",
    "bias_add": "residual", "attention_scale": "scale", "rotary_cat": "cat", "repeat_kv": "contiguous",
    "sigmoid": "tanh",
    "gelu_new": "gelu", "quick_gelu": "gelu", "gelu_tanh": "gelu", "gelu_fast": "gelu", "rms_norm": "layer_norm",
}  # fmt: skip
"""Operations of the graph that run the same kernel under another name."""


class Table(BaseModel):
    """Time of one operator by the bytes that it moves, both ascending."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    moved: tuple[float, ...] = Field(min_length=1, description="[bytes]")
    seconds: tuple[float, ...] = Field(min_length=1, description="[s]")

    def at(self, moved: float) -> float:
        """Time at `moved` [bytes]: straight lines between points in logarithms, the rate of the largest beyond it, the time of the smallest below [s]."""
        if moved <= self.moved[0]:
            return self.seconds[0]
        if moved >= self.moved[-1]:
            return self.seconds[-1] * moved / self.moved[-1]
        i = bisect.bisect_right(self.moved, moved)
        share = math.log(moved / self.moved[i - 1]) / math.log(self.moved[i] / self.moved[i - 1])
        return float(self.seconds[i - 1] * (self.seconds[i] / self.seconds[i - 1]) ** share)


class Correction(BaseModel):
    """Residuals of one law at the shapes that were measured."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sizes: tuple[tuple[float, ...], ...] = Field(min_length=1, description="sizes of each measured case")
    residuals: tuple[float, ...] = Field(min_length=1, description="ln(measured / law)")

    _points: Any = PrivateAttr()
    _weights: Any = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        self._points = np.log2(np.maximum(np.asarray(self.sizes, dtype=np.float64), 1e-9))
        self._weights = np.linalg.solve(self._covariance(), np.asarray(self.residuals, dtype=np.float64))

    def _covariance(self) -> Any:
        return _kernel(self._points, self._points) + NOISE**2 * np.eye(len(self._points))

    def factor(self, *sizes: Any) -> Any:
        """What the law is to be multiplied with at these sizes; scalars give a float, arrays an array."""
        grid = np.broadcast_arrays(*(np.asarray(size, dtype=np.float64) for size in sizes))
        x = np.log2(np.maximum(np.stack([axis.ravel() for axis in grid], axis=-1), 1e-9))
        found = np.exp(_kernel(x, self._points) @ self._weights)
        return float(found[0]) if grid[0].ndim == 0 else found.reshape(grid[0].shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Correction) and (self.sizes, self.residuals) == (other.sizes, other.residuals)

    def __hash__(self) -> int:
        return hash((self.sizes, self.residuals))

    def left_out(self) -> list[float]:
        """|ln(measured / predicted)| of each case, predicted from all others (Rasmussen & Williams, eq. 5.12)."""
        errors = self._weights / np.diag(np.linalg.inv(self._covariance()))
        return [abs(float(error)) for error in errors]


def _kernel(a: Any, b: Any) -> Any:
    distance = np.sum((a[:, None, :] - b[None, :, :]) ** 2, axis=-1)
    return SPREAD**2 * np.exp(-distance / (2.0 * REACH**2))


class Host(BaseModel):
    """What a step over all tensors (an update, clipping) costs on a device that runs a loop over them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    step_s: float = Field(default=0.0, ge=0, description="fixed time of a step [s]")
    tensor_s: float = Field(ge=0, description="fixed time of one tensor [s]")
    table: Table = Field(description="time of one tensor beyond that, by the bytes that its step moves")

    def tensor(self, moved: float) -> float:
        """Time of one tensor whose step moves `moved` [bytes]; below the smallest that was measured it falls with the bytes [s]."""
        return self.tensor_s + self.table.at(moved) * min(1.0, moved / self.table.moved[0])


class Update(BaseModel):
    """What a step over all tensors costs on a device behind a queue: the longer of issuing it and of moving its bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rate: float = Field(gt=0, description="bytes of a large step over its time [B/s]")
    step_s: float = Field(default=0.0, ge=0, description="fixed time of a step [s]")
    tensor_s: float = Field(default=0.0, ge=0, description="time that issuing takes for one tensor [s]")


class Measured(BaseModel):
    """Everything that a calibration measured apart from the curves."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    synchronous: bool = Field(
        default=False, description="operators run where they are issued (a processor): kernels and dispatch add up"
    )
    backward_dispatch_seconds: float | None = Field(
        default=None, ge=0, description="host time of one kernel in backward [s]; None: the constant ratio to forward"
    )
    operators: dict[str, Table] = Field(default_factory=dict, description="by name/format/pass")
    products: dict[str, Correction] = Field(default_factory=dict, description="by format/layout; sizes m, n, k, batch")
    attention: dict[str, Correction] = Field(
        default_factory=dict, description="by format/mask/pass; sizes batch × heads, queries, keys, head size"
    )
    collectives: dict[str, Correction] = Field(
        default_factory=dict, description="by kind; sizes: payload [bytes], ranks"
    )
    host_link: float | None = Field(default=None, gt=0, description="pinned copies between host and device [B/s]")
    beside: float | None = Field(
        default=None, ge=0, le=1, description="part of the shorter that a copy and products hide of each other"
    )
    dequantize: dict[str, Table] = Field(
        default_factory=dict, description="by format: nf4, int8, and nf4-torchao of torchao's tensors"
    )
    workspace_bytes: float | None = Field(
        default=None, ge=0, description="what the first product takes for its library's workspace [bytes]"
    )
    context_bytes: float | None = Field(
        default=None, ge=0, description="what driver and libraries take on the device outside of the allocator [bytes]"
    )
    optimizer: dict[str, Host] = Field(
        default_factory=dict, description="AdamW's loop over tensors, by format of the weights; of others by name/format"
    )
    clip: dict[str, Host] = Field(default_factory=dict, description="clipping by norm as a loop, by format of the gradients")
    updates: dict[str, Update] = Field(
        default_factory=dict, description="steps of optimizers by name, and clipping (clip), behind a queue"
    )

    def operator(self, name: str, dtype: str, backward: bool, moved: float, kind: str, fused: bool = False) -> float | None:
        """Time of an operation that moves `moved` [bytes], from its own table or that of its kind; None without either [s].

        fused: the stack compiles or fuses chains, of which the table under "compiled:" tells more.
        """
        run = "backward" if backward else "forward"
        known = (name, EQUIVALENT.get(name, name), kind)
        for key in (f"compiled:{name}", *known) if fused else known:
            table = self.operators.get(f"{key}/{dtype}/{run}")
            if table is not None:
                return table.at(moved)
        return None

    def unpacking(self, format: str, library: str = "") -> Table | None:
        """Times of dequantizing weights of a format by the bytes that it moves: of that library, else of another; None without any."""
        own = f"{format}-{library}" if library else format
        return next((self.dequantize[key] for key in (own, format, f"{format}-torchao") if key in self.dequantize), None)
