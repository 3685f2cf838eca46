"""LoKr: the update is a Kronecker product of two small matrices, each whole or low-rank, formed whole at every step.

Yeh et al. 2023, arXiv:2309.14859 (sec. 3.4), as peft's LoKr runs it: both sides of the weight are factorized near the square root (or by `factor`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import made, needs_linear, product
from planner.workload.methods.targets import COMMON, SELECTION, adapted

if TYPE_CHECKING:
    from planner.workload.writer import Writer


def factorization(size: int, factor: int = -1) -> tuple[int, int]:
    """Two factors of `size`, the first at most the second: `factor` itself where it divides, else the pair nearest to the square root whose
    smaller one is at most `factor` (-1: no limit)."""
    if factor > 0 and size % factor == 0:
        return factor, size // factor
    limit = size if factor == -1 else factor
    small, large = 1, size
    while small < large:
        following = small + 1
        while size % following:
            following += 1
        if following + size // following > small + large or following > limit:
            break
        small, large = following, size // following
    return min(small, large), max(small, large)


def _bind(method: Method, arch: Architecture) -> Adaptation:
    needs_linear(method, arch)
    factor, both = method.factor or -1, bool(method.decompose_both)

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.lokr.Linear: `result + F.linear(x.to(delta), kron(w1, w2) * scaling)`."""
        g, r = w.graph, float(w.s.adaptation.adapts(path))
        y = layer(x)
        inner = x.shape[-1]
        (rows1, rows2), (columns1, columns2) = factorization(int(out), factor), factorization(int(inner), factor)
        low1 = both and r < max(rows1, columns1) / 2

        def side(name: str, rows: float, columns: float, low: bool) -> Tensor:
            if not low:
                return w.adapter(f"{path}.{name}", (rows, columns))
            a, b = w.adapter(f"{path}.{name}_a", (rows, r)), w.adapter(f"{path}.{name}_b", (r, columns))
            return product(w, name, g.lower(a), g.lower(b), rows, columns, r, (rows, columns))

        one = side("lokr_w1", rows1, columns1, low1)
        two = side("lokr_w2", rows2, columns2, r < max(rows2, columns2) / 2)
        wide = "fp32" if "fp32" in (one.dtype, two.dtype) else one.dtype
        size = out * inner * (4.0 if wide == "fp32" else 2.0)
        kron = made(w, "kron", (one, two), (out, inner), wide, (one, two), scratch=(0.0, 2 * size))
        delta = g.unary("adapter_scale", kron, save="none")
        taken = g.cast(x, delta.dtype, name="adapter_input")
        result = g.cast(
            g.add(y, g.linear(taken, delta, name="delta"), name="adapter_add"), x.dtype, name="adapter_output"
        )
        g.release(x)
        return result

    return adapted(
        method,
        arch,
        beside,
        {"rank": method.rank or 8, "factor": factor, "decompose_both": both},
        rank=8,
        formula="sum over targets of two Kronecker factors",
    )


register(
    MethodKind(
        "lokr",
        "LoKr",
        "Trains the two factors of a Kronecker product.",
        ("rank", "alpha", "factor", "decompose_both", *SELECTION, "rank_pattern", "alpha_pattern", *COMMON),
        "Yeh et al. 2023, arXiv:2309.14859",
        _bind,
    )
)
