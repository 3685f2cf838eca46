"""A profile measured on one part, carried to another by what the measurement said beyond the published curves.

What was learned of device A is the ratio of its measured laws to those it would have had without a measurement. B's own published (or
carried) curves take that ratio, number format by number format, as far as it is a property of how well the kind of part runs (driver,
library, cooling, clocks) and not of A alone; B's peak, bandwidth, processors and cache enter as they are. The result stands on the basis
that B's curves had, one step lower for a part that was fitted, so that its interval is the wider one.
"""

from __future__ import annotations

import math
from typing import Final

from planner.catalog import Accelerator
from planner.device.default import REFERENCE, default_profile, part_of
from planner.device.gemm import GemmCurve
from planner.device.profile import DeviceProfile
from planner.errors import PlanError

SHAPES: Final = (REFERENCE, (4096, 4096, 4096), (8192, 1024, 8192), (2048, 14336, 4096))
"""Products [m, n, k] over which the ratio is taken; their geometric mean."""
FURTHEST: Final = 2.0
"""A ratio beyond this, or below its inverse, is a property of the machine that was measured and is not carried further."""


def carry(profile: DeviceProfile, to: Accelerator) -> DeviceProfile:
    """The profile of `to` that a measurement elsewhere suggests.

    Errors: PlanError for a profile that was not measured, or of a device outside the catalogue, which has no published curves to compare with.
    """
    if profile.basis != "calibrated":
        raise PlanError("profile", profile.name, "was not measured", "Name a profile that `calibrate` wrote.")
    part = part_of(profile)
    if part is None:
        raise PlanError(
            "profile", profile.name, "is of a device outside the catalogue, so that nothing says what it has of others", "Measure the other device."
        )
    source = default_profile(part)
    base = default_profile(to)
    rates = {dtype: _ratio(profile, source, dtype) for dtype in base.gemm if profile.supports(dtype) and source.supports(dtype)}
    if not rates:
        raise PlanError("profile", profile.name, f"shares no number format with {to.name}", "Measure the other device.")
    main = rates.get("bf16") or next(iter(rates.values()))
    stream = _held(profile.stream.fractions["elementwise"] / source.stream.fractions["elementwise"])
    fractions = {kind: fraction * stream for kind, fraction in base.stream.fractions.items()}
    words = ", ".join(f"{dtype} {ratio:.2f}" for dtype, ratio in rates.items())
    return DeviceProfile.model_validate(
        {
            **dict(base),
            "name": f"{to.name}, carried from {profile.name}",
            "basis": "datasheet",
            "source": f"{base.source}; times what was measured on {profile.accelerator_name} ({profile.source})",
            "gemm": {dtype: _scaled(curve, rates.get(dtype, main)) for dtype, curve in base.gemm.items()},
            "attention": {
                name: curve.model_copy(
                    update={"efficiency": curve.efficiency * main, "backward_efficiency": curve.backward_efficiency * main}
                )
                for name, curve in base.attention.items()
            },
            "stream": base.stream.model_copy(update={"fractions": fractions}),
            "dispatch_seconds": profile.dispatch_seconds,
            "notes": (*base.notes, f"products times {words}, memory-bound kernels times {stream:.2f}: measured over published on {profile.accelerator_name}"),
        }
    )


def _ratio(measured: DeviceProfile, published: DeviceProfile, dtype: str) -> float:
    """Measured over published rate, the mean over products that fill the device."""
    logs = [
        math.log(float(published.matmul_seconds(m, n, k, dtype)) / float(measured.matmul_seconds(m, n, k, dtype))) for m, n, k in SHAPES
    ]
    return _held(math.exp(sum(logs) / len(logs)))


def _held(ratio: float) -> float:
    return min(FURTHEST, max(1.0 / FURTHEST, ratio))


def _scaled(curve: GemmCurve, ratio: float) -> GemmCurve:
    tiles = tuple(tile.model_copy(update={"efficiency": tile.efficiency * ratio}) for tile in curve.tiles)
    return curve.model_copy(update={"tiles": tiles})
