"""RoAd: a layer's output is rotated and scaled in pairs of features by trained angles (Liao et al. 2024, arXiv:2409.00119, eq. 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Kernel, Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import made, needs_linear
from planner.workload.methods.targets import COMMON, adapted

if TYPE_CHECKING:
    from planner.workload.writer import Writer


ANGLES = {"road_1": 0.5, "road_2": 1.0, "road_4": 2.0}
"""Angles, and as many scales, per output feature."""

def _bind(method: Method, arch: Architecture) -> Adaptation:
    needs_linear(method, arch)
    variant, group = method.variant or "road_1", method.group_size or 64
    if variant not in ANGLES:
        raise PlanError("method.variant", variant, "is not known to peft", f"Use {', '.join(ANGLES)}.")
    if group % 2:
        raise PlanError("method.group_size", group, "cannot be halved", "Use an even number.")

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.road._apply_road: `y · (α cos θ) + rotated(y) · (α sin θ)`."""
        g = w.graph
        if out % group:
            raise PlanError(
                "method.group_size", group, f"does not divide the {out:.0f} features of {path}", "Use a divisor."
            )
        y = layer(x)
        theta, alpha = (w.adapter(f"{path}.road_{name}", (out * ANGLES[variant],)) for name in ("theta", "alpha"))
        first, second = (
            made(w, name, (theta, alpha), (out,), theta.dtype, (theta, alpha), passes=4) for name in ("cosine", "sine")
        )
        taken = g.cast(y, theta.dtype, name="adapter_input")
        half = g.new((*y.shape[:-1], out / 2), taken.dtype, taken.requires_grad, "negated")
        moved = (Kernel("elementwise", 2 * half.bytes),)
        g.add_operation("negated", "elementwise", (taken,), (half,), (), moved, (Kernel("elementwise", taken.bytes),))
        rotated = g.cat((half, taken), y.shape, name="rotate_half")
        g.release(half)
        total = g.add(g.mul(taken, first, name="road_cosine"), g.mul(rotated, second, name="road_sine"))
        g.release(rotated, taken)
        result = g.cast(total, y.dtype, name="adapter_output")
        g.release(x, total)
        return result

    formula = f"sum over targets of 2 · {ANGLES[variant]:g} · out"
    return adapted(method, arch, beside, {"variant": variant, "group_size": group}, formula=formula)


register(
    MethodKind(
        "road",
        "RoAd",
        "Trains rotations and scales of pairs of a layer's output features.",
        ("variant", "group_size", "targets", *COMMON),
        "Liao et al. 2024, arXiv:2409.00119",
        _bind,
    )
)
