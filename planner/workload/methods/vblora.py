"""VB-LoRA: parts of all low-rank matrices are mixtures of few vectors of one trained bank, chosen by trained logits.

Li et al. 2024, arXiv:2405.15179 (eq. 2-3), as peft's VBLoRA runs it; every layer adds to the bank's one gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Kernel, Parameter, Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import made
from planner.workload.methods.targets import COMMON, SELECTION, WIDE_TARGETS, adapted

if TYPE_CHECKING:
    from planner.workload.writer import Writer

BANK = "vblora_vector_bank"


def _bind(method: Method, arch: Architecture) -> Adaptation:
    rank, topk, dropout = method.rank or 4, method.topk or 2, method.dropout or 0.0
    vectors, length = method.vectors or 256, method.vector_length or 256
    if topk > vectors:
        raise PlanError("method.topk", topk, f"is more than the {vectors} vectors of the bank", "Use fewer.")

    def begin(w: Writer) -> None:
        """The bank is one parameter; blocks refer to it."""
        bank = w.adapter(BANK, (vectors, length)).parameter
        assert bank is not None
        w.shared[BANK] = Parameter(BANK, bank.shape, bank.dtype, True, adapter=True, shared=True)

    def matrix(w: Writer, path: str, tiles: tuple[float, float], shape: tuple[float, float]) -> Tensor:
        """`(softmax(topk(logits)) · bank[indices]).sum(-2)`."""
        g = w.graph
        bank = g.parameter(w.shared[BANK])
        logits = w.adapter(path, (*tiles, vectors))
        chosen = g.new((*tiles, topk), "int64", False, "indices")
        values = g.new((*tiles, topk), logits.dtype, True, "top_values")
        moved = (Kernel("elementwise", logits.bytes),)
        # backward spreads the gradient over all logits
        g.add_operation("top_k", "elementwise", (logits,), (values, chosen), (chosen,), moved, moved)
        weights = g.softmax(values)
        picked = made(w, "bank_rows", (bank,), (*tiles, topk, length), bank.dtype, (chosen,), passes=2)
        mixed = g.mul(weights, picked, name="mix")
        return made(w, "mix_sum", (mixed,), shape, mixed.dtype)

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.vblora.Linear.forward."""
        g, inner = w.graph, x.shape[-1]
        for width in (inner, out):
            if width % length:
                raise PlanError(
                    "method.vector_length",
                    length,
                    f"does not divide the {width:.0f} features of {path}",
                    "Use a common divisor of all widths.",
                )
        y = layer(x)
        a = matrix(w, path + ".vblora_logits_A", (rank, inner // length), (rank, inner))
        b = matrix(w, path + ".vblora_logits_B", (out // length, rank), (out, rank))
        taken = g.dropout(g.cast(x, a.dtype, name="adapter_input"), dropout)
        update = g.linear(g.linear(taken, a, name="lora_A"), b, name="lora_B")
        result = g.cast(g.add(y, update, name="adapter_add"), x.dtype, name="adapter_output")
        g.release(x, taken, a, b)
        return result

    resolved = {"rank": rank, "topk": topk, "vectors": vectors, "vector_length": length}
    formula = "vectors · length + sum over targets of r · vectors · (in + out) / length"
    return adapted(method, arch, beside, resolved, WIDE_TARGETS, begin=begin, only="vblora_only", formula=formula)


register(
    MethodKind(
        "vblora",
        "VB-LoRA",
        "LoRA whose matrices are mixtures of vectors from one trained bank.",
        ("rank", "vectors", "vector_length", "topk", "dropout", *SELECTION, "bias", *COMMON),
        "Li et al. 2024, arXiv:2405.15179",
        _bind,
    )
)
