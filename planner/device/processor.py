"""Curves of a processor (CPU) from what is known of its kind: cores, vector units, memory channels. A measurement replaces them."""

from __future__ import annotations

from typing import Final

from planner.device.attention import AttentionCurve
from planner.device.gemm import GemmCurve, Tile
from planner.device.measured import Measured
from planner.device.profile import DeviceProfile
from planner.device.stream import StreamCurve

CORE_PEAK: Final = {"fp32": 2 * 2 * 16 * 2.5e9, "bf16": 1024 * 2.0 * 2.0e9 / 2, "fp16": 2 * 2 * 16 * 2.5e9}
"""Peak of one core with AVX-512 (two units of 16 fp32 lanes, multiply and add, 2.5 GHz) and AMX (1,024 multiply-adds a cycle, shared by two
threads, 2 GHz): Intel 64 and IA-32 Architectures Optimization Reference Manual, chapters 18 and 20 [FLOP/s]."""
CORE_BANDWIDTH: Final = 10e9
"""Memory bandwidth that one core of a server draws, as order of magnitude [B/s]."""


def processor_profile(
    name: str,
    *,
    threads: int,
    peak_flops: dict[str, float] | None = None,
    memory_bandwidth: float | None = None,
    cache_bytes: float | None = None,
    memory_bytes: float | None = None,
) -> DeviceProfile:
    """Profile of a processor that was not measured.

    Arguments
    ---------
    threads: cores that one operator uses.
    peak_flops: dense peak by number format [FLOP/s]; left out: of AVX-512 and AMX cores.
    memory_bandwidth: [B/s]; left out: what so many cores draw.
    cache_bytes: cache near the cores [bytes]; left out: 2 MiB each.
    """
    peaks = peak_flops or {dtype: rate * threads for dtype, rate in CORE_PEAK.items()}
    attention = AttentionCurve(
        tile_rows=32, efficiency=0.4, backward_efficiency=0.4, head_exponent=0.8, launch_s=1e-5, tile_s=1e-6,
        balance=8.0, bandwidth=0.8, blend=1.5, key_block=32.0,
    )  # fmt: skip
    stream = StreamCurve(
        launch_s=3e-6,
        fractions={
            "elementwise": 0.8, "reduction": 0.6, "norm": 0.6, "fused_norm": 0.6, "norm_backward": 0.4, "softmax": 0.4,
            "eager": 0.8, "strided": 0.5, "copy": 0.8, "optimizer": 0.8,
        },
    )  # fmt: skip
    return DeviceProfile(
        name=f"{name} (assumed)",
        accelerator_name=name,
        basis="datasheet",
        source="assumed rates of a server core; calibrate to replace them",
        peak_flops=peaks,
        memory_bandwidth=memory_bandwidth or CORE_BANDWIDTH * threads,
        sm_count=threads,
        l2_bytes=cache_bytes or 2.0 * 2**20 * threads,
        gemm={dtype: _products(4.0 if dtype == "fp32" else 2.0) for dtype in peaks},
        attention={"math": attention},
        attention_kernel="math",
        stream=stream,
        launch_seconds=stream.launch_s,
        dispatch_seconds=5e-6,
        memory_bytes=memory_bytes,
        measured=Measured(synchronous=True),
        notes=("rates of a processor are assumed until it is calibrated",),
    )


def _products(element_bytes: float) -> GemmCurve:
    """Blocks of 32 × 32 in registers and no waves: threads take rows as they come."""
    return GemmCurve(
        tiles=(Tile(rows=32, columns=32, efficiency=0.9),),
        launch_s=5e-6, prologue_k=32.0, wave_s=1e-8, wave_softness=1.0, split_s=1e-5, split_k=1e9, split_traffic=1.0,
        cached=4.0, spilled=1.5, cache_fraction=0.5, miss_span=1.0, blend=2.0, droop=0.0, droop_s=1.0, misaligned=1.0,
        element_bytes=element_bytes, output_bytes=element_bytes,
    )  # fmt: skip
