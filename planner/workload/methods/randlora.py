"""RandLoRA: a full-rank update from many random low-rank bases, shared by all layers, with trained scales.

Albert et al. 2025, arXiv:2502.00987 (eq. 3), as peft's RandLora runs it: the larger base has nearly the size of the largest adapted weight, the
smaller one is scaled anew in every layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Kernel, Parameter, Tensor, matmul_kernel
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import buffer
from planner.workload.methods.targets import COMMON, SELECTION, adapted

if TYPE_CHECKING:
    from planner.workload.writer import Writer


SIZES = "randlora_sizes"


def _bind(method: Method, arch: Architecture) -> Adaptation:
    rank, dropout = method.rank or 32, method.dropout or 0.0

    def finish(w: Writer, loss: Tensor, added: list[tuple[Parameter, int]]) -> Tensor:
        """The bases have the sizes of the largest output and the largest input of all adapted layers."""
        out, inner = w.shared[SIZES].shape
        least, most = min(out, inner), max(out, inner)
        buffer(w, "randlora_A", (rank, 1, least), w.adapter_type)
        buffer(w, "randlora_B", (most, math.ceil(least / rank), rank), w.adapter_type)
        return loss

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.randlora.Linear.forward: `result + F.linear(F.linear(dropout(x), update_B), update_A) * scaling`."""
        g, inner, r = w.graph, x.shape[-1], float(rank)
        known = w.shared.get(SIZES)
        sizes = (out, inner) if known is None else (max(out, known.shape[0]), max(inner, known.shape[1]))
        w.shared[SIZES] = Parameter(SIZES, sizes, "fp32", False, shared=True)
        small, large = min(inner, out), max(inner, out)
        bases = float(math.ceil(small / r))
        y = layer(x)
        scale = w.adapter(path + ".randlora_lambda", (r, bases))
        gamma = w.adapter(path + ".randlora_gamma", (bases, small))
        a, big = (
            g.parameter(Parameter(name, shape, w.adapter_type, False, adapter=True, shared=True))
            for name, shape in (("randlora_A", (r, 1, small)), ("randlora_B", (large, bases * r)))
        )
        scaled = g.new((r * bases, small), a.dtype, True, "scaled_base")
        moved = Kernel("elementwise", 2 * scaled.bytes)
        back = (
            matmul_kernel(r, 1, small, a.dtype, batch=bases),
            matmul_kernel(small, 1, r, a.dtype, batch=bases),
            moved,
            moved,
        )
        g.add_operation(
            "scale_base",
            "elementwise",
            (scale, gamma, a),
            (scaled,),
            (),
            (moved, moved),
            back,
            temporary=(scaled.bytes, scaled.bytes),
        )
        flipped = Tensor((small, r * bases), scaled.dtype, scaled.storage, True)
        if small != inner:
            g.add_operation("transpose", "view", (scaled,), (flipped,), (), (), (), alias=True)
        down = scaled if small == inner else Tensor((bases * r, large), big.dtype, big.storage, False, big.parameter)
        up = big if small == inner else flipped
        taken = g.dropout(g.cast(x, a.dtype, name="adapter_input"), dropout)
        low = g.linear(taken, down, name="randlora_B")
        update = g.unary("adapter_scale", g.linear(low, up, name="randlora_A"), save="none")
        result = g.cast(g.add(y, update, name="adapter_add"), x.dtype, name="adapter_output")
        g.release(x, taken, scaled)
        return result

    formula = "sum over targets of bases · (r + min(in, out)) with bases = ceil(min(in, out) / r)"
    return adapted(method, arch, beside, {"rank": rank}, only="randlora_only", finish=finish, formula=formula)


register(
    MethodKind(
        "randlora",
        "RandLoRA",
        "Trains scales of shared random bases that sum to a full-rank update.",
        ("rank", "dropout", *SELECTION, "bias", *COMMON),
        "Albert et al. 2025, arXiv:2502.00987",
        _bind,
    )
)
