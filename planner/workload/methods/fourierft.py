"""FourierFT: the update is the inverse Fourier transform of a few trained coefficients, formed whole at every step.

Gao et al. 2024, arXiv:2405.03003 (eq. 2-4), as peft's FourierFT runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import made
from planner.workload.methods.targets import COMMON, DEFAULT_TARGETS, SELECTION, adapted

if TYPE_CHECKING:
    from planner.workload.writer import Writer

TARGETS = {**DEFAULT_TARGETS, "gpt2": ("mlp.c_proj",), "gpt_bigcode": ("mlp.c_proj",)}
"""What peft adapts when no target is given."""
DEFAULT_FREQUENCIES = 1000


def _bind(method: Method, arch: Architecture) -> Adaptation:
    count = method.frequencies or DEFAULT_FREQUENCIES

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.fourierft.FourierFTLinear: `result + F.linear(x, ifft2(spectrum).real * scaling)`; transforms work on complex64."""
        g, inner = w.graph, x.shape[-1]
        if count > inner * out:
            raise PlanError(
                "method.frequencies", count, f"is more than the {inner * out:.0f} entries of {path}", "Use fewer."
            )
        y = layer(x)
        spectrum = w.adapter(path + ".fourierft_spectrum", (count,))
        shape, size = (out, inner), 4.0 * out * inner
        dense = made(w, "dense_spectrum", (spectrum,), shape, "fp32", passes=2)
        # complex input and output beside the real ones
        delta = made(w, "ifft2", (dense,), shape, "fp32", passes=6, scratch=(3 * size, 2 * size))
        g.release(dense)
        taken = g.cast(x, delta.dtype, name="adapter_input")
        result = g.cast(
            g.add(y, g.linear(taken, delta, name="delta"), name="adapter_add"), x.dtype, name="adapter_output"
        )
        g.release(x, delta, taken)
        return result

    return adapted(
        method, arch, beside, {"frequencies": count}, TARGETS, only="fourier_only", formula=f"targets · {count}"
    )


register(
    MethodKind(
        "fourierft",
        "FourierFT",
        "Trains a few Fourier coefficients of the update.",
        ("frequencies", *SELECTION, "bias", *COMMON),
        "Gao et al. 2024, arXiv:2405.03003",
        _bind,
    )
)
