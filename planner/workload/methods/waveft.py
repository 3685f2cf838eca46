"""WaveFT: the update is the inverse wavelet transform of a few trained coefficients, formed whole at every step (Bilican et al. 2025, arXiv:2505.12532)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Tensor, matmul_kernel
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.fourierft import TARGETS
from planner.workload.methods.pieces import made, uncached
from planner.workload.methods.targets import COMMON, SELECTION, adapted

if TYPE_CHECKING:
    from planner.workload.writer import Writer


DEFAULT_FREQUENCIES = 2592

def _bind(method: Method, arch: Architecture) -> Adaptation:
    count = method.frequencies or DEFAULT_FREQUENCIES

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.waveft.WaveFTLinear: `result + F.linear(x, waverec2d(spectrum) * scaling)` with Haar wavelets: a transposed convolution of
        four filters, each two by two."""
        g, inner = w.graph, x.shape[-1]
        if count > inner * out:
            raise PlanError(
                "method.frequencies", count, f"is more than the {inner * out:.0f} entries of {path}", "Use fewer."
            )
        y = layer(x)
        spectrum = w.adapter(path + ".waveft_spectrum", (count,))
        high, wide = out + out % 2, inner + inner % 2
        dense = made(w, "dense_spectrum", (spectrum,), (high, wide), "fp32", passes=2)
        stacked = g.copy(dense, name="subbands")
        g.release(dense)
        stacked = uncached(w, stacked)
        delta = g.new((high, wide), stacked.dtype, True, "wavelet")
        kernel = matmul_kernel(high * wide / 4, 4, 4, stacked.dtype)
        g.add_operation("wavelet", "matmul", (stacked,), (delta,), (stacked,), (kernel,), (kernel,))
        scaled = g.unary("adapter_scale", delta, save="none")
        taken = g.cast(x, scaled.dtype, name="adapter_input")
        update = g.linear(taken, g.view(scaled, (out, inner)), name="delta")
        result = g.cast(g.add(y, update, name="adapter_add"), x.dtype, name="adapter_output")
        g.release(x, scaled, taken)
        return result

    return adapted(
        method, arch, beside, {"frequencies": count}, TARGETS, only="waveft_only", formula=f"targets · {count}"
    )


register(
    MethodKind(
        "waveft",
        "WaveFT",
        "Trains a few wavelet coefficients of the update.",
        ("frequencies", *SELECTION, "bias", *COMMON),
        "Bilican et al. 2025, arXiv:2505.12532",
        _bind,
    )
)
