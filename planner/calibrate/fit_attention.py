"""Attention from samples: the law of each kernel that was measured, and what it misses near the measured shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from planner.calibrate.fit_summary import LEAST_CASES, SCALE, correction, summary
from planner.calibrate.result import Sample
from planner.device.attention import Attention, AttentionCurve
from planner.device.gemm import GemmCurve
from planner.device.measured import Correction
from planner.device.profile import DeviceProfile
from planner.device.solver import FloatArray, soft_l1_fit

_PRIOR: Final = {"cudnn": "flash3", "efficient": "efficient", "flash": "flash2"}
"""Published kernels from which a measured one starts, where the device has them; else from its usual kernel."""


def fit_attention(
    prior: DeviceProfile, gemm: dict[str, GemmCurve], samples: Sequence[Sample], errors: dict[str, dict[str, float]]
) -> tuple[dict[str, AttentionCurve], dict[str, Correction]]:
    """Curves by kernel and corrections by [kernel/]format/mask/pass. Samples without a backend are of the kernel that torch chooses."""
    curves: dict[str, AttentionCurve] = dict(prior.attention)
    corrections: dict[str, Correction] = {}
    for backend in sorted({str(s.case.get("backend", "")) for s in samples}):
        own = [s for s in samples if s.case.get("backend", "") == backend]
        name = backend or prior.attention_kernel
        start = _PRIOR.get(backend, name)
        base = prior.attention.get(start, prior.attention[prior.attention_kernel])
        if name == prior.attention_kernel and backend:
            continue  # a kernel of that name is the usual one, which was measured more closely
        curve, found, missed = _kernel(prior, gemm, base, own)
        if curve is None:
            continue
        curves[name] = curve
        corrections |= {f"{backend}/{key}" if backend else key: made for key, made in found.items()}
        if missed:
            errors[f"attention/{backend}" if backend else "attention"] = summary(missed)
    return curves, corrections


def _kernel(
    prior: DeviceProfile, gemm: dict[str, GemmCurve], base: AttentionCurve, samples: Sequence[Sample]
) -> tuple[AttentionCurve | None, dict[str, Correction], list[float]]:
    """Curve, corrections, and the errors of each case predicted from the others; None where too little was measured."""
    main = next((d for d in ("bf16", "fp16", "fp32") if any(s.case["dtype"] == d for s in samples)), None)
    own = [s for s in samples if s.case["dtype"] == main]
    if main is None or len(own) < LEAST_CASES:
        return None, {}, []

    def curve(x: FloatArray) -> AttentionCurve:
        f = [float(v) for v in np.exp(x)]
        return base.model_copy(
            update={
                "efficiency": base.efficiency * f[0],
                "backward_efficiency": base.backward_efficiency * f[1],
                "launch_s": base.launch_s * f[2],
                "tile_s": base.tile_s * f[3],
                "head_exponent": base.head_exponent * f[4],
            }
        )

    def law(x: FloatArray, dtype: str) -> Any:
        size = 4.0 if dtype == "fp32" else 2.0
        bound = Attention(curve(x), prior.peak_flops[dtype], prior.memory_bandwidth, prior.sm_count, size)

        def seconds(s: Sample) -> float:
            b, h, t, d = _sizes(s)
            return float(bound.seconds(b, h, h, t, t, d, bool(s.case["causal"]), bool(s.case["backward"]), None))

        return seconds

    seen = np.log([s.seconds for s in own])

    def residual(x: FloatArray) -> FloatArray:
        predict = law(x, main)
        return np.log([predict(s) for s in own]) - seen

    bound = np.full(5, 3.0)
    found = soft_l1_fit(residual, np.zeros(5), -bound, bound, scale=SCALE, prior=0.5)
    corrections: dict[str, Correction] = {}
    missed: list[float] = []
    for dtype in sorted({str(s.case["dtype"]) for s in samples} & set(gemm)):
        predict = law(found, dtype)
        for causal in (0.0, 1.0):
            for backward in (0.0, 1.0):
                part = [s for s in samples if (s.case["dtype"], s.case["causal"], s.case["backward"]) == (dtype, causal, backward)]
                if len(part) >= LEAST_CASES:
                    made = correction(part, predict, _shape)
                    corrections[f"{dtype}/{'causal' if causal else 'full'}/{'backward' if backward else 'forward'}"] = made
                    missed += made.left_out()
    return curve(found), corrections, missed


def _sizes(sample: Sample) -> tuple[float, float, float, float]:
    b, h, t, d = (float(sample.case[key]) for key in ("batch", "heads", "length", "head_dim"))
    return b, h, t, d


def _shape(sample: Sample) -> tuple[float, float, float, float]:
    """As a correction has it: sequences times heads, queries, keys, width."""
    b, h, t, d = _sizes(sample)
    return b * h, t, t, d
