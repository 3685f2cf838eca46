"""How long one matrix product takes: tiles on streaming multiprocessors, memory traffic, split-K, launch.

A GEMM library cuts C[m, n] = A[m, k] B[k, n] into output tiles and picks the tile shape that finishes first. For a tile of b_m x b_n
whose inner loop reaches the fraction e of the peak rate P of all S multiprocessors (SMs):

    tiles   = ceil(m / b_m) ceil(n / b_n) batch
    waves   = ceil(tiles / S) - softness (ceil(tiles / S) - tiles / S)           at least one
    compute = waves ((k + k0) 2 b_m b_n S / (P e) + t_wave)                      k0: filling and draining the pipeline
              + (waves - 1) drift k 2 b_m b_n S / (P e)                          later waves no longer load in step
    split-K : s = min(S // tiles, k // k_split) slices when tiles < S, plus t_split and the traffic of the partial sums
    miss    = (bytes / (f L2) - 1) / span, between 0 and 1                       a loop over more than the cache holds hits nothing
    memory  = bytes (1 / cached + miss / spilled) / B                            B: datasheet bandwidth
    work    = (min over tiles of compute ^ p + memory ^ p) ^ (1 / p)
    x       = (work / t_droop) ^ q
    time    = t_launch + work (1 + droop x / (1 + x))                            clocks settle under the power limit

Wave quantisation and tile choice: NVIDIA, Matrix Multiplication Background User's Guide, sections 3 and 4. The roofline: Williams et
al. 2009. The soft maximum stands for imperfect overlap of loads and products.
"""

from __future__ import annotations

import math
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

FloatArray = NDArray[np.float64]
Layout = Literal["forward", "dgrad", "wgrad"]


class Tile(BaseModel):
    """One output tile shape and the fraction of the peak that its inner loop reaches."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    rows: int = Field(gt=0, description="tile height b_m [rows of C]")
    columns: int = Field(gt=0, description="tile width b_n [columns of C]")
    efficiency: float = Field(gt=0, description="rate of the inner loop over the datasheet peak")


class GemmCurve(BaseModel):
    """Parameters of the GEMM law for one number format; every one is a ratio or a time, so that it carries to a sister device."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    tiles: tuple[Tile, ...] = Field(min_length=1, description="candidate tiles; the fastest is taken")
    launch_s: float = Field(gt=0, description="start and end of one kernel [s]")
    prologue_k: float = Field(ge=0, description="k0: depth that costs as much as filling and draining the pipeline")
    wave_s: float = Field(ge=0, description="fixed time of one wave, mostly the epilogue [s]")
    wave_softness: float = Field(
        ge=0, le=1, description="0: whole waves; 1: no quantisation (persistent kernels, clocks that differ)"
    )
    drift: float = Field(
        default=0.0,
        ge=0,
        description="slow-down of the inner loop after the first wave, whose tiles start together and share their loads",
    )
    split_s: float = Field(ge=0, description="extra time of a split-K product [s]")
    split_k: float = Field(gt=0, description="least depth of one split-K slice")
    split_traffic: float = Field(
        ge=0, description="traffic of partial sums, in units of 8 m n s bytes over the datasheet bandwidth"
    )
    cached: float = Field(
        gt=0, description="bandwidth of operands that stay in cache, over the datasheet memory bandwidth"
    )
    spilled: float = Field(
        gt=0, description="extra bandwidth term of bytes that miss the cache, over the datasheet memory bandwidth"
    )
    cache_fraction: float = Field(
        gt=0, description="part of the L2 cache that operands may fill before the first of them miss"
    )
    miss_span: float = Field(
        gt=0, description="growth of the operands beyond that part until all of them miss, as a share of that part"
    )
    blend: float = Field(ge=1, description="p of the soft maximum of compute and memory time")
    droop: float = Field(ge=0, description="relative slow-down of long products")
    droop_s: float = Field(gt=0, description="duration at which half of the droop has set in [s]")
    droop_power: float = Field(default=1.0, gt=0, description="q: how sharply the droop sets in at that duration")
    misaligned: float = Field(
        default=1.46,
        ge=1,
        description="slow-down of the product when a contiguous dimension is not a multiple of 16 bytes",
    )
    element_bytes: float = Field(gt=0, description="bytes of one operand element, scales included")
    output_bytes: float = Field(default=2.0, gt=0, description="bytes of one element of C")
    quantize_launch_s: float = Field(
        default=0.0, ge=0, description="kernel that quantises the left operand: fixed time [s]"
    )
    quantize_row_s: float = Field(default=0.0, ge=0, description="the same: time per row [s]")
    quantize_bandwidth: float = Field(
        default=1.0, gt=0, description="the same: bandwidth over the datasheet memory bandwidth"
    )


class Gemm:
    """A curve bound to one device: what `DeviceProfile.matmul_seconds` calls.

    Arguments
    ---------
    curve: the fitted or carried parameters.
    peak_flops: datasheet peak of the format [FLOP/s], times what is sustained.
    memory_bandwidth: datasheet memory bandwidth [B/s].
    sm_count: streaming multiprocessors (compute units, cores).
    l2_bytes: last-level cache [bytes].
    """

    def __init__(
        self, curve: GemmCurve, peak_flops: float, memory_bandwidth: float, sm_count: int, l2_bytes: float
    ) -> None:
        self.curve, self.peak_flops = curve, peak_flops
        self.memory_bandwidth, self.sm_count, self.l2_bytes = memory_bandwidth, sm_count, l2_bytes
        table = []
        for tile in curve.tiles:
            per_k = 2.0 * tile.rows * tile.columns * sm_count / (peak_flops * tile.efficiency)
            table.append((tile.rows, tile.columns, per_k, per_k * curve.prologue_k + curve.wave_s))
        self._tiles = tuple(table)
        self._partial = 8.0 * curve.split_traffic / memory_bandwidth
        self._per_cached = 1.0 / (memory_bandwidth * curve.cached)
        self._per_spilled = 1.0 / (memory_bandwidth * curve.spilled)
        self._resident = curve.cache_fraction * l2_bytes
        self._all_miss = self._resident * (1.0 + curve.miss_span)
        self._device = (
            sm_count,
            curve.wave_softness,
            curve.drift,
            curve.split_k,
            curve.split_s,
            curve.element_bytes,
            curve.output_bytes,
            self._per_cached,
            self._per_spilled,
            self._resident,
            self._all_miss,
        )
        self._tail = (
            curve.blend,
            1.0 / curve.blend,
            curve.droop,
            1.0 / curve.droop_s,
            curve.droop_power,
            curve.launch_s,
        )
        self._align = max(1, round(16.0 / curve.element_bytes)) if curve.element_bytes > 1.5 else 16

    @overload
    def seconds(self, m: float, n: float, k: float, batch: float = 1, layout: Layout = "forward") -> float: ...
    @overload
    def seconds(
        self, m: ArrayLike, n: ArrayLike, k: ArrayLike, batch: ArrayLike = 1, layout: Layout = "forward"
    ) -> Any: ...
    def seconds(self, m: Any, n: Any, k: Any, batch: Any = 1, layout: Layout = "forward") -> Any:
        """Time of `batch` products [m, k] x [k, n] in one kernel [s]; scalars give a float, arrays an array."""
        if (
            isinstance(m, (int, float))
            and isinstance(n, (int, float))
            and isinstance(k, (int, float))
            and isinstance(batch, (int, float))
        ):
            return self._scalar(m, n, k, batch, layout)
        return self._array(m, n, k, batch, layout)

    def _scalar(self, m: float, n: float, k: float, batch: float, layout: Layout) -> float:
        (sms, softness, drift, split_k, split_s, element, output, per_cached, per_spilled, resident, all_miss) = (
            self._device
        )
        best = math.inf
        slices = k // split_k
        work: float
        onset: float
        for rows, columns, per_k, fixed in self._tiles:
            tiles = -(-m // rows) * -(-n // columns) * batch
            time = k * per_k + fixed
            if tiles > sms:
                waves = -(-tiles // sms)
                waves -= softness * (waves - tiles / sms)
                time = time * waves + k * per_k * drift * (waves - 1.0)
            elif slices >= 2 and 2 * tiles <= sms:
                parts = sms // tiles
                if parts > slices:
                    parts = slices
                split = k * per_k / parts + fixed + split_s + parts * m * n * batch * self._partial
                if split < time:
                    time = split
            if time < best:
                best = time
        align = self._align
        if n % align or (m if layout == "wgrad" else k) % align:
            best *= self.curve.misaligned
        moved = batch * (element * (m + n) * k + output * m * n)
        memory = moved * per_cached
        if moved >= all_miss:
            memory += moved * per_spilled
        elif moved > resident:
            memory += moved * (moved - resident) / (all_miss - resident) * per_spilled
        blend, inverse, droop, per_droop_s, power, launch_s = self._tail
        work = (best**blend + memory**blend) ** inverse
        onset = (work * per_droop_s) ** power
        return launch_s + work * (1.0 + droop * onset / (1.0 + onset))

    def _array(self, m: ArrayLike, n: ArrayLike, k: ArrayLike, batch: ArrayLike, layout: Layout) -> Any:
        c, sms = self.curve, self.sm_count
        m, n, k, batch = (np.asarray(value, dtype=np.float64) for value in (m, n, k, batch))
        best: Any = np.inf
        slices = np.floor(k / c.split_k)
        for rows, columns, per_k, fixed in self._tiles:
            tiles = np.ceil(m / rows) * np.ceil(n / columns) * batch
            waves = np.ceil(tiles / sms)
            waves = np.where(tiles > sms, waves - c.wave_softness * (waves - tiles / sms), 1.0)
            time = waves * (k * per_k + fixed) + k * per_k * c.drift * (waves - 1.0)
            parts = np.maximum(np.minimum(np.floor(sms / tiles), slices), 1.0)
            split = k * per_k / parts + fixed + c.split_s + parts * m * n * batch * self._partial
            best = np.minimum(best, np.where(parts >= 2, np.minimum(time, split), time))
        contiguous = m if layout == "wgrad" else k
        best = np.where((n % self._align == 0) & (contiguous % self._align == 0), best, best * c.misaligned)
        moved = batch * (c.element_bytes * (m + n) * k + c.output_bytes * m * n)
        span = self._all_miss - self._resident
        miss = np.clip((moved - self._resident) / span, 0.0, 1.0) if span > 0 else 1.0
        memory = moved * (self._per_cached + miss * self._per_spilled)
        work = (best**c.blend + memory**c.blend) ** (1.0 / c.blend)
        onset = (work / c.droop_s) ** c.droop_power
        return c.launch_s + work * (1.0 + c.droop * onset / (1.0 + onset))

    def quantize_seconds(self, m: Any, k: Any) -> Any:
        """Time of the kernel that quantises the left operand [m, k] with one scale per row, as in the measured fp8 and fp4 path [s]."""
        c = self.curve
        rows = m * c.quantize_row_s
        moved = m * k * (2.0 + c.element_bytes) / (self.memory_bandwidth * c.quantize_bandwidth)
        return c.quantize_launch_s + (rows**4 + moved**4) ** 0.25
