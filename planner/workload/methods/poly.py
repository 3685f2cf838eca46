"""Poly: every task mixes a few LoRA adapters by trained weights, a mixture of its own for each part of a layer (Ponti et al. 2022,
arXiv:2202.13914; Caccia et al. 2022, arXiv:2211.03831 for several parts)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import add_in_place, made, needs_linear, product
from planner.workload.methods.targets import COMMON, adapted

if TYPE_CHECKING:
    from planner.workload.writer import Writer


def _bind(method: Method, arch: Architecture) -> Adaptation:
    needs_linear(method, arch)
    rank, tasks, skills, parts = method.rank or 8, method.tasks or 1, method.skills or 4, method.splits or 1

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.poly.Linear.forward: every sequence has matrices of its own, mixed from all skills."""
        g, inner, r, b = w.graph, x.shape[-1], float(rank), x.shape[0]
        for width in (inner, out):
            if width % parts:
                raise PlanError(
                    "method.splits", parts, f"does not divide the {width:.0f} features of {path}", "Use a divisor."
                )
        y = layer(x)
        a = w.adapter(path + ".poly_lora_A", (parts, skills, inner / parts, r))
        up = w.adapter(path + ".poly_lora_B", (parts, skills, r, out / parts))
        logits = w.adapter(path + ".poly_router.module_logits", (tasks, parts * skills))
        mixture = made(w, "poly_router", (logits,), (b, parts, skills), logits.dtype, passes=6)
        each = [
            product(w, "poly_mix", mixture, g.lower(t), b, t.numel / (parts * skills), skills, (b, t.numel / skills), parts)
            for t in (a, up)
        ]
        if parts > 1:
            each = [g.copy(t) for t in each]
        taken = g.cast(x, each[0].dtype, name="adapter_input")
        rows = x.numel / inner / b
        low = product(w, "poly_A", taken, each[0], rows, r, inner, (*x.shape[:-1], r), batch=b)
        wide = product(w, "poly_B", low, each[1], rows, out, r, (*x.shape[:-1], out), batch=b)
        scaled = g.unary("adapter_scale", wide, save="none")
        g.release(wide, low)
        result = g.cast(add_in_place(w, y, scaled), x.dtype, name="adapter_output")
        g.release(x, taken, mixture, *each)
        return result

    shown = {"rank": rank, "tasks": tasks, "skills": skills, "splits": parts}
    formula = "sum over targets of skills · r · (in + out) + tasks · splits · skills"
    return adapted(method, arch, beside, shown, formula=formula, checkpointing=False)


register(
    MethodKind(
        "poly",
        "Poly",
        "Trains LoRA adapters that each task mixes by trained weights.",
        ("rank", "tasks", "skills", "splits", "targets", "exclude", *COMMON),
        "Ponti et al. 2022, arXiv:2202.13914",
        _bind,
    )
)
