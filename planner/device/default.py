"""Profiles without a measurement of your own: fitted curves of the part itself, or those of the nearest measured part, carried over."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from planner.catalog import Accelerator, find_accelerator
from planner.device.attention import AttentionCurve
from planner.device.gemm import Gemm, GemmCurve, Tile
from planner.device.profile import Basis, DeviceProfile
from planner.device.stream import StreamCurve
from planner.errors import PlanError

DISPATCH_SECONDS: Final = 6e-6
"""Processor time of one small eager operator: 5 us without, 7 us with autograd (pytorch/pytorch issue 41383, 2020); calibration replaces it."""

REFERENCE: Final = (8192, 8192, 8192)
"""The product [m, n, k] at which the rate of a carried curve is set."""

_MODERN = ("Hopper", "Blackwell", "Blackwell Ultra")
_LEAST_PROCESSORS = 16


@dataclass(frozen=True)
class Power:
    """How much of the peak a family holds: never above `ceiling`, and never above `per_watt` times the board power.

    per_watt: bf16 rate that the measured part of the family holds per watt of its limit [FLOP/s/W] · allowance: watts per peak
    FLOP/s of that part, where known [W s]. A part with less power for the same processors lowers clock and voltage together: its rate
    falls as the root of its allowance (dynamic power is f V^2; 500 W H100 of torchtitan, A100 PCIe beside SXM), not in proportion.
    """

    per_watt: float
    ceiling: float
    source: str
    allowance: float | None = None

    def share(self, watts: float, peak: float) -> float:
        """Share of the peak that the power limit leaves."""
        own = watts / peak
        return self.per_watt * (own if self.allowance is None else (own * self.allowance) ** 0.5)


_POWER: Final[dict[str, Power]] = {
    "Ampere 8.0": Power(
        0.84e12,
        0.90,
        "A100 SXM and PCIe, best matmul 271 and 253 TFLOP/s (ml-engineering @ 744d01e1)",
        300 / 312e12,
    ),
    "Ampere 8.6": Power(0.60e12, 0.92, "assumed between Turing and Ada: no table of this family"),
    "Ada Lovelace 8.9": Power(0.71e12, 0.95, "L40S: 250 TFLOP/s at 350 W in the fitted tables", 350 / 362e12),
    "Hopper 9.0": Power(
        1.14e12,
        0.88,
        "H100 SXM 795 TFLOP/s at 700 W, GH200 829 TFLOP/s at 900 W (ml-engineering @ 744d01e1)",
        700 / 989.4e12,
    ),
    "Blackwell 10.0": Power(1.75e12, 0.85, "B200: 1745 TFLOP/s at 1000 W (ml-engineering @ 744d01e1)"),
    "Blackwell Ultra 10.3": Power(1.65e12, 0.85, "B300: 1769 TFLOP/s at 1100 W (ml-engineering @ 744d01e1)"),
    "Blackwell 12.0": Power(0.68e12, 1.00, "RTX PRO 6000: 410 TFLOP/s at 600 W in the fitted tables"),
    "Turing 7.5": Power(0.45e12, 0.85, "assumed: 12 nm, no table of this family"),
    "Volta 7.0": Power(0.42e12, 0.80, "assumed: 12 nm, no table of this family"),
    "Pascal 6.0": Power(0.10e12, 0.85, "assumed: no tensor cores"),
}

_REACH: Final[dict[str, tuple[float, str]]] = {
    "CDNA2": (0.77, "MI250X: 147 of 191.5 TFLOP/s (ml-engineering @ 7eda27f1)"),
    "CDNA3": (0.56, "MI300X 668 and MI325X 785 of 1307 TFLOP/s (ml-engineering @ 744d01e1)"),
    "CDNA4": (0.62, "MI355X: 1565 of 2517 TFLOP/s (ml-engineering @ 744d01e1)"),
    "Gaudi2": (0.96, "419 of 432 TFLOP/s (ml-engineering @ 744d01e1)"),
    "Gaudi3": (0.74, "1243 of 1677 TFLOP/s (ml-engineering @ 744d01e1)"),
    "TPU7x Ironwood": (0.83, "956 of 1153 TFLOP/s a device (tpu-recipes @ c8cfe2f6)"),
}
_VECTOR_TILES: Final = ((128, 128, 1.0), (128, 64, 0.97), (64, 64, 0.75))
"""Tiles [rows, columns] of fp32 products on vector units and their rates over that of the largest (assumed): with a sixteenth of the work of matrix units
for the same loads, small tiles starve less."""
_VECTOR_REACH: Final = dict.fromkeys(("Volta", "Turing", "Pascal", "Ampere 8.0"), 0.84)
"""Share of the peak that large fp32 products hold where each processor has 64 fp32 lanes (assumed: 93 % of cuBLAS' sgemm_128x128 at 90 % of the
boost clock that 300 W allow)."""
_VECTOR_REACH_DOUBLE: Final = 0.60
"""The same with 128 lanes, half of which integers share and which the register file cannot feed: cuBLAS 23.2 of 38.7 TFLOP/s on an RTX A6000 at 4096
(Boehm 2022, siboehm.com/articles/22/CUDA-MMM)."""
_REACH_UNKNOWN: Final = (0.70, "assumed: no published rate of this architecture")
"""Largest share of the peak at the reference product outside NVIDIA, and its source."""


@dataclass(frozen=True)
class _Fitted:
    """Curves of one measured part."""

    part: Accelerator
    gemm: dict[str, GemmCurve]
    attention: dict[str, AttentionCurve]
    attention_kernel: str
    errors: dict[str, dict[str, float]]


@cache
def _document() -> dict[str, Any]:
    text = resources.files("planner.device").joinpath("data/curves.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


@cache
def _fitted(key: str) -> _Fitted:
    found = _document()["devices"][key]
    return _Fitted(
        find_accelerator(found["accelerator"]),
        {dtype: GemmCurve.model_validate(curve) for dtype, curve in found["gemm"].items()},
        {name: AttentionCurve.model_validate(curve) for name, curve in found["attention"].items()},
        found["attention_kernel"],
        found["errors"],
    )


def measured_parts() -> dict[str, str]:
    """Key of the curves by catalogue name, for every part whose kernels were measured."""
    return {found["accelerator"]: key for key, found in _document()["devices"].items()}


def nearest_measured(part: Accelerator) -> str:
    """Key of the measured part whose architecture is nearest to that of `part`."""
    own = measured_parts().get(part.name.removesuffix(" (edited)"))
    if own is not None:
        return own
    if part.vendor == "NVIDIA":
        capability = part.compute_capability or 8.0
        if capability >= 12.0:
            return "rtx_pro_6000_server"
        if capability >= 10.3:
            return "b300_sxm"
        if capability >= 10.0:
            return "b200_sxm"
        if capability >= 9.0:
            return "h200_sxm" if part.memory_bandwidth > 4e12 else "h100_sxm"
        return "l40s" if capability > 8.0 else "a100_sxm"
    return "b60" if part.arch in ("Xe-HPG", "Xe2-HPG") else "h100_sxm"


def _held(part: Accelerator) -> tuple[float, float, str] | None:
    """Share of the peak that the power limit and the family leave, the family's ceiling and the source; None for an unknown family."""
    rule = _POWER.get(f"{part.arch} {part.compute_capability}")
    peak = part.peak_flops.get("bf16") or part.peak_flops.get("fp16")
    if part.vendor != "NVIDIA" or rule is None or peak is None:
        return None
    limit = rule.share(part.tdp_w, peak) if part.tdp_w else rule.ceiling
    return min(rule.ceiling, limit), rule.ceiling, rule.source


def _rate(curve: GemmCurve, peak: float, bandwidth: float, processors: int, l2_bytes: float) -> float:
    m, n, k = REFERENCE
    return 2.0 * m * n * k / Gemm(curve, peak, bandwidth, processors, l2_bytes).seconds(m, n, k) / peak


def _scaled(curve: GemmCurve, factor: float) -> GemmCurve:
    tiles = tuple(tile.model_copy(update={"efficiency": tile.efficiency * factor}) for tile in curve.tiles)
    return curve.model_copy(update={"tiles": tiles})


def _formats(part: Accelerator, donor: _Fitted) -> dict[str, GemmCurve]:
    """One curve for every number format with a known peak; formats that were not measured take the curve of the nearest."""
    half = donor.gemm["bf16"]
    byte = donor.gemm.get("fp8", half.model_copy(update={"element_bytes": 1.0}))
    curves = {
        "bf16": half,
        "fp16": half,
        "tf32": half.model_copy(update={"element_bytes": 4.0, "output_bytes": 4.0}),
        "fp32": _vector_curve(part, half),
        "fp8": byte,
        "int8": byte.model_copy(update={"output_bytes": 4.0}),
        "fp4": donor.gemm.get("fp4", byte.model_copy(update={"element_bytes": 0.5625})),
    }
    return {dtype: curve for dtype, curve in curves.items() if dtype in part.peak_flops}


def _on_vector_units(part: Accelerator) -> bool:
    """Whether fp32 products run beside the matrix units, as on all of NVIDIA's parts."""
    return part.vendor == "NVIDIA"


def _vector_curve(part: Accelerator, half: GemmCurve) -> GemmCurve:
    """Curve of fp32 products. On vector units the pipeline fills in the same time as on the matrix units, which is less depth at their slower rate."""
    wide = half.model_copy(update={"element_bytes": 4.0, "output_bytes": 4.0, "misaligned": 1.0})
    low = part.peak_flops.get("bf16") or part.peak_flops.get("fp16")
    if not _on_vector_units(part) or low is None or "fp32" not in part.peak_flops:
        return wide
    slower = part.peak_flops["fp32"] / low
    reach = _VECTOR_REACH.get(part.arch, _VECTOR_REACH.get(f"{part.arch} {part.compute_capability}", _VECTOR_REACH_DOUBLE))
    tiles = tuple(Tile(rows=rows, columns=columns, efficiency=reach * share) for rows, columns, share in _VECTOR_TILES)
    return wide.model_copy(update={"tiles": tiles, "prologue_k": wide.prologue_k * slower, "drift": 0.0})


def _stream(part: Accelerator, launch_s: float) -> StreamCurve:
    tables = _document()["stream"]
    fractions: dict[str, float] = dict(tables["A100 SXM4 80GB"])
    modern = tables["H100 SXM 80GB"]
    if part.arch in _MODERN:
        gain = modern["fused_norm"] / fractions["fused_norm"]
        fractions = {kind: min(modern["fused_norm"], fraction * gain) for kind, fraction in fractions.items()}
        fractions |= modern
    fractions.setdefault("norm_backward", modern["norm_backward"])
    fractions |= {"copy": fractions["elementwise"], "optimizer": fractions["elementwise"]}
    return StreamCurve(launch_s=launch_s, fractions=fractions)


def part_of(profile: DeviceProfile) -> Accelerator | None:
    """The catalogue's row of a profile's device; None for a device outside the catalogue."""
    try:
        return find_accelerator(profile.accelerator_name)
    except PlanError:
        return None


def default_profile(accelerator: Accelerator, *, donor: str | None = None) -> DeviceProfile:
    """Best profile that published data allow for `accelerator`.

    A part in the kernel tables has its own curves (basis "fitted"). Any other takes those of the nearest measured part (basis
    "datasheet"): the curves are ratios, so its own peak, bandwidth, processors and cache enter as they are. What the donor holds of its
    peak at a large product is then corrected for the power limit (NVIDIA: rate per watt and ceiling of the family) or set to the best
    published rate of the architecture (others).

    `donor` forces the curves of another measured part, by its key in `data/curves.json`: the test of what carrying costs.
    """
    key = donor or nearest_measured(accelerator)
    own = measured_parts().get(accelerator.name) == key
    return _profile(accelerator, _fitted(key), own)


def _profile(accelerator: Accelerator, donor: _Fitted, own: bool) -> DeviceProfile:
    notes: list[str] = []
    processors = accelerator.sm_count or 0
    if processors < _LEAST_PROCESSORS:
        processors = donor.part.sm_count or 1
        notes.append(
            f"products are spread over {processors} units as on {donor.part.name}: this part has few large cores or names none"
        )
    l2_bytes = accelerator.l2_bytes if accelerator.l2_bytes is not None else donor.part.l2_bytes or 0
    gemm, attention = _formats(accelerator, donor), donor.attention
    attention_kernel = donor.attention_kernel
    if accelerator.vendor == "NVIDIA" and (accelerator.compute_capability or 8.0) < 8.0:
        attention, attention_kernel = {"efficient": attention["efficient"]}, "efficient"
        notes.append("FlashAttention-2 needs compute capability 8.0: memory-efficient attention is taken")
    if not own:
        factors, why = _carry_factors(accelerator, donor, gemm, processors, l2_bytes)
        gemm = {dtype: _scaled(curve, factors[dtype]) for dtype, curve in gemm.items()}
        main = next(dtype for dtype in ("bf16", "fp16", "fp32", *factors) if dtype in factors)
        attention = {name: _scaled_attention(curve, factors[main]) for name, curve in attention.items()}
        notes.append(f"curves of {donor.part.name}; rate of {main} products times {factors[main]:.2f}: {why}")
    notes.extend(f"{dtype}: curve of {_nearest(dtype)}, not measured" for dtype in gemm if dtype not in donor.gemm)
    if "fp8" in gemm and "fp8" in donor.gemm:
        notes.append("fp8: products with a scale per row; quantising the left operand is a kernel of its own")
    launch = donor.gemm["bf16"].launch_s + donor.gemm["bf16"].wave_s
    basis: Basis = "fitted" if own else "datasheet"
    return DeviceProfile(
        name=f"{accelerator.name} ({basis})",
        accelerator_name=accelerator.name,
        basis=basis,
        source=_document()["source"] if own else f"{_document()['source']}; carried from {donor.part.name}",
        peak_flops={dtype: accelerator.peak_flops[dtype] for dtype in gemm},
        memory_bandwidth=accelerator.memory_bandwidth,
        sm_count=processors,
        l2_bytes=l2_bytes,
        gemm=gemm,
        attention=attention,
        attention_kernel=attention_kernel,
        stream=_stream(accelerator, launch),
        launch_seconds=launch,
        dispatch_seconds=DISPATCH_SECONDS,
        fit_errors=donor.errors if own else {},
        notes=tuple(notes),
    )


def _nearest(dtype: str) -> str:
    return "fp8" if dtype in ("int8", "fp4") else "bf16"


def _carry_factors(
    part: Accelerator, donor: _Fitted, gemm: dict[str, GemmCurve], processors: int, l2_bytes: float
) -> tuple[dict[str, float], str]:
    """What the tile efficiencies of the donor are multiplied with, by number format, and why."""

    def rate(curve: GemmCurve, dtype: str) -> float:
        return _rate(curve, part.peak_flops[dtype], part.memory_bandwidth, processors, l2_bytes)

    held, donor_held = _held(part), _held(donor.part)
    if held is not None and donor_held is not None:
        share, ceiling, source = held
        factor = share / donor_held[0]
        # The tables are short runs and may lie above what the family holds: never carry a donor past the ceiling because of that.
        factors = {dtype: min(factor, max(1.0, ceiling / rate(curve, dtype))) for dtype, curve in gemm.items()}
        if "fp32" in factors:
            factors["fp32"] = 1.0  # its tiles are its own
        return factors, f"the family holds {share:.0%} of the peak here against {donor_held[0]:.0%}; {source}"
    if donor.part.vendor == part.vendor:
        return dict.fromkeys(gemm, 1.0), "same vendor, no rule for the power limit"
    reach, source = _REACH.get(part.arch, _REACH_UNKNOWN)
    factors = dict.fromkeys(gemm, 1.0)
    for _ in range(8):
        factors = {
            dtype: factor * reach / rate(_scaled(gemm[dtype], factor), dtype) for dtype, factor in factors.items()
        }
    return factors, f"it reaches {reach:.0%} of its peak; {source}"


def _scaled_attention(curve: AttentionCurve, factor: float) -> AttentionCurve:
    return curve.model_copy(
        update={"efficiency": curve.efficiency * factor, "backward_efficiency": curve.backward_efficiency * factor}
    )
