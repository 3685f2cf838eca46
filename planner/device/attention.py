"""How long one fused attention kernel takes: query tiles over the keys they see, spread over streaming multiprocessors.

A fused (flash) kernel gives each thread block one tile of r query rows of one head and walks over the keys that those rows may see
(Dao, FlashAttention-2, arXiv 2307.08691, section 3). With P the peak rate of all S multiprocessors (SMs), e the fraction reached at
head size 128, and g the growth of the cost with the head size d (softmax does not grow with d, the two products do):

    column  = 4 r 128 (d / 128)^g S / (P e)                time of one tile against one key
    seen_i  = keys that tile i sees + b / 2                b: the key block, half of it wasted at a causal or window edge
    mean    = batch heads (sum_i seen_i column + tiles t_tile) / S
    longest = max_i seen_i column + t_tile
    compute = (mean ^ p + longest ^ p) ^ (1 / p)           load balance: neither below the mean nor below the longest tile
    memory  = bytes of Q, K, V, O / (f B)
    time    = t_launch + (compute ^ q + memory ^ q) ^ (1 / q)

The backward kernel recomputes the scores and does five products instead of two (2.5 times the forward FLOP count, same paper), at its
own fraction e_b, and reads and writes twice the bytes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field

BACKWARD_FLOPS = 2.5
"""FLOP count of the backward pass over that of the forward pass: five matrix products instead of two."""


class AttentionCurve(BaseModel):
    """Parameters of the attention law for one kernel; every one is a ratio or a time, so that it carries to a sister device."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    tile_rows: int = Field(gt=0, description="query rows of one tile r")
    efficiency: float = Field(gt=0, description="forward rate at head size 128 over the datasheet peak e")
    backward_efficiency: float = Field(gt=0, description="backward rate at head size 128 over the datasheet peak e_b")
    head_exponent: float = Field(ge=0, description="g: growth of the cost with the head size")
    launch_s: float = Field(gt=0, description="start and end of the kernel [s]")
    tile_s: float = Field(ge=0, description="fixed time of one query tile [s]")
    balance: float = Field(ge=1, description="p of the soft maximum of mean load and longest tile")
    bandwidth: float = Field(gt=0, description="memory rate over the datasheet bandwidth f")
    blend: float = Field(ge=1, description="q of the soft maximum of compute and memory")
    key_block: float = Field(ge=0, description="keys of one inner step b")


class Attention:
    """A curve bound to one device: what `DeviceProfile.attention_seconds` calls.

    Arguments
    ---------
    curve: the fitted or carried parameters.
    peak_flops: datasheet peak of the format [FLOP/s], times what is sustained.
    memory_bandwidth: datasheet memory bandwidth [B/s].
    sm_count: streaming multiprocessors (compute units, cores).
    element_bytes: bytes of one element of Q, K, V and O.
    """

    def __init__(
        self,
        curve: AttentionCurve,
        peak_flops: float,
        memory_bandwidth: float,
        sm_count: int,
        element_bytes: float = 2.0,
    ) -> None:
        self.curve, self.sm_count = curve, sm_count
        column = 4.0 * curve.tile_rows * 128.0 * sm_count / peak_flops
        self._column = (column / curve.efficiency, BACKWARD_FLOPS * column / curve.backward_efficiency)
        self._per_byte = element_bytes / (memory_bandwidth * curve.bandwidth)

    def seconds(
        self,
        batch: Any,
        heads: Any,
        kv_heads: Any,
        q_len: Any,
        kv_len: Any,
        head_dim: Any,
        causal: bool,
        backward: bool,
        window: int | None,
    ) -> Any:
        """Time of the forward kernel, or of the backward kernel alone [s]; scalars give a float, arrays an array."""
        if (
            isinstance(batch, (int, float))
            and isinstance(heads, (int, float))
            and isinstance(kv_heads, (int, float))
            and isinstance(q_len, (int, float))
            and isinstance(kv_len, (int, float))
            and isinstance(head_dim, (int, float))
        ):
            return self._scalar(batch, heads, kv_heads, q_len, kv_len, head_dim, causal, backward, window)
        return self._array(batch, heads, kv_heads, q_len, kv_len, head_dim, causal, backward, window)

    def _scalar(
        self,
        batch: float,
        heads: float,
        kv_heads: float,
        q_len: float,
        kv_len: float,
        head_dim: float,
        causal: bool,
        backward: bool,
        window: int | None,
    ) -> float:
        c = self.curve
        rows = c.tile_rows if c.tile_rows < q_len else q_len
        tiles = -(-q_len // c.tile_rows)
        if causal:
            start = kv_len - q_len if kv_len > q_len else 0
            longest = min(start + tiles * rows, kv_len)
            growing = tiles
            if window:
                span = min(window + rows, kv_len)
                growing = min(tiles, max(math.ceil((span - start) / rows), 0))
                longest = min(longest, span)
            seen = growing * start + rows * growing * (growing + 1) / 2
            if growing < tiles:
                seen += (tiles - growing) * longest
        else:
            longest = min(kv_len, 2 * window + rows) if window else kv_len
            seen = tiles * longest
        column = self._column[backward] * (head_dim * 0.0078125) ** c.head_exponent
        scale = BACKWARD_FLOPS if backward else 1.0
        half, overhead = c.key_block / 2, c.tile_s * scale
        mean = batch * heads * ((seen + tiles * half) * column + tiles * overhead) / self.sm_count
        last = (longest + half) * column + overhead
        p, q = c.balance, c.blend
        compute = (mean**p + last**p) ** (1.0 / p)
        memory = (
            2.0 * batch * head_dim * (heads * q_len + kv_heads * kv_len) * self._per_byte * (2.0 if backward else 1.0)
        )
        time: float = c.launch_s * scale + (compute**q + memory**q) ** (1.0 / q)
        return time

    def _array(
        self,
        batch: ArrayLike,
        heads: ArrayLike,
        kv_heads: ArrayLike,
        q_len: ArrayLike,
        kv_len: ArrayLike,
        head_dim: ArrayLike,
        causal: bool,
        backward: bool,
        window: int | None,
    ) -> Any:
        c = self.curve
        values = (np.asarray(value, dtype=np.float64) for value in (batch, heads, kv_heads, q_len, kv_len, head_dim))
        batch, heads, kv_heads, q_len, kv_len, head_dim = values
        rows = np.minimum(c.tile_rows, q_len)
        tiles = np.ceil(q_len / c.tile_rows)
        if causal:
            start = np.maximum(kv_len - q_len, 0.0)
            longest = np.minimum(start + tiles * rows, kv_len)
            growing = tiles
            if window:
                span = np.minimum(window + rows, kv_len)
                growing = np.minimum(tiles, np.maximum(np.ceil((span - start) / rows), 0.0))
                longest = np.minimum(longest, span)
            seen = growing * start + rows * growing * (growing + 1) / 2 + (tiles - growing) * longest
        else:
            longest = np.minimum(kv_len, 2 * window + rows) if window else kv_len
            seen = tiles * longest
        column = self._column[backward] * (head_dim / 128.0) ** c.head_exponent
        scale = BACKWARD_FLOPS if backward else 1.0
        half, overhead = c.key_block / 2, c.tile_s * scale
        mean = batch * heads * ((seen + tiles * half) * column + tiles * overhead) / self.sm_count
        last = (longest + half) * column + overhead
        compute = (mean**c.balance + last**c.balance) ** (1.0 / c.balance)
        memory = (
            2.0 * batch * head_dim * (heads * q_len + kv_heads * kv_len) * self._per_byte * (2.0 if backward else 1.0)
        )
        return c.launch_s * scale + (compute**c.blend + memory**c.blend) ** (1.0 / c.blend)
