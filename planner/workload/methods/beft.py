"""BEFT: a trained vector beside the bias of the value projections, and nothing else (Huang et al. 2025, arXiv:2509.15974), as peft's BEFT runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import needs_linear
from planner.workload.methods.targets import COMMON, adapted

if TYPE_CHECKING:
    from planner.workload.writer import Writer


TARGETS = {
    **dict.fromkeys(("t5", "mt5", "umt5"), ("v",)),
    **dict.fromkeys(("bert", "roberta"), ("value",)),
    "deberta-v2": ("value_proj",),
    **dict.fromkeys(
        ("opt", "gptj", "gpt_neo", "bart", "llama", "mistral", "mixtral", "phi", "gemma", "gemma2", "gemma3_text"),
        ("v_proj",),
    ),
    **dict.fromkeys(("qwen2", "qwen3"), ("v_proj",)),
}
"""What peft adapts when no target is given (peft.utils.constants)."""

def _bind(method: Method, arch: Architecture) -> Adaptation:
    needs_linear(method, arch)

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.beft.Linear.forward: `(result + beft_bias).to(result.dtype)`."""
        g = w.graph
        y = layer(x)
        moved = g.add(y, w.adapter(path + ".beft_bias", (out,)), name="adapter_add")
        result = g.cast(moved, y.dtype, name="adapter_output")
        g.release(x, y)
        return result

    return adapted(method, arch, beside, {}, TARGETS, formula="sum over targets of out")


register(
    MethodKind(
        "beft",
        "BEFT",
        "Trains a bias beside the value projections.",
        ("targets", *COMMON),
        "Huang et al. 2025, arXiv:2509.15974",
        _bind,
    )
)
