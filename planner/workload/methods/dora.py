"""DoRA: LoRA on the direction of a weight, and a trained magnitude of each of its rows (Liu et al. 2024, eq. 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Kernel, Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.experts import wrap
from planner.workload.methods.pieces import without_bias
from planner.workload.methods.targets import COMMON, SELECTION, adapted, has_bias

if TYPE_CHECKING:
    from planner.workload.writer import Writer


def bind(method: Method, arch: Architecture) -> Adaptation:
    """DoRA bound to a model; also what `lora` with `use_dora` is."""
    dropout = method.dropout or 0.0

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.lora.dora.DoraLinearLayer.forward: the update's whole matrix is formed (A and B applied to the
        identity) for the weight norm, which is detached, so that nothing of it is kept; the result is reweighted."""
        g = w.graph
        y = layer(x)
        inner, rank = x.shape[-1], float(w.s.adaptation.adapts(path))
        a = w.adapter(path + ".lora_A.weight", (rank, inner))
        b = w.adapter(path + ".lora_B.weight", (out, rank))
        magnitude = w.adapter(path + ".lora_magnitude_vector.weight", (out,))
        taken = g.cast(x, a.dtype, name="adapter_input")
        base = y
        if dropout:
            taken = g.dropout(taken, dropout)
            weight = w.weight(path + ".weight", (out, inner), base=True)
            base = g.linear(taken, g.cast(weight, taken.dtype))
        eye = g.new((inner, inner), a.dtype, False, "eye")
        g.add_operation("eye", "elementwise", (), (eye,), (), (Kernel("elementwise", eye.bytes),), ())
        low_eye = g.lower(eye)
        down = g.linear(low_eye, _detached(g.lower(a)), name="lora_A")
        update = g.cast(g.linear(down, _detached(g.lower(b)), name="lora_B"), taken.dtype, name="lora_weight")
        merged = g.new((out, inner), taken.dtype, False, "merged_weight")
        norm = g.new((out,), taken.dtype, False, "weight_norm")
        moved = Kernel("elementwise", 3 * merged.bytes)
        g.release(eye)  # a local variable of `get_lora_weight`; the graph of the update keeps what its products took
        held = []
        if w.s.formats.graph != taken.dtype:  # the base weight in the update's type
            held.append(g.new(merged.shape, taken.dtype, False, "base_copy"))
            g.add_operation("base_copy", "elementwise", (), held, (), (Kernel("elementwise", 1.5 * merged.bytes),), ())
        # the scaled update exists beside the sum
        scaled = (merged.bytes, 0.0)
        g.add_operation("merged_weight", "elementwise", (update,), (merged,), (), (moved,), (), temporary=scaled)
        g.add_operation("weight_norm", "norm", (merged,), (norm,), (), (Kernel("reduction", merged.bytes),), ())
        scale = g.mul(magnitude, g.unary("reciprocal", norm, save="none"), name="magnitude_scale")
        low = g.linear(g.linear(taken, a, name="lora_A"), b, name="lora_B")
        bias = base is y and has_bias(arch, path)
        if bias:
            base = without_bias(w, base)
        kept = g.mul(g.unary("minus_one", scale, save="none"), base, name="magnitude")
        moved_by = g.unary("adapter_scale", g.mul(scale, low, name="magnitude"), save="none")
        result = g.cast(g.add(y, g.add(kept, moved_by), name="adapter_add"), y.dtype, name="adapter_output")
        g.release(x, taken, low_eye, down, update, low, base, *held)
        return result

    method, wrapped = wrap(method, arch, default_rank=8)
    return adapted(
        method,
        arch,
        beside,
        {"rank": method.rank or 8},
        rank=8,
        only="lora_only",
        quantized=method.name == "qlora",
        merged=wrapped,
        tokens=len(set(method.token_indices or ())),
    )


def _detached(x: Tensor) -> Tensor:
    return Tensor(x.shape, x.dtype, x.storage, False, x.parameter)


register(
    MethodKind(
        "dora",
        "DoRA",
        "LoRA on a weight's direction and a trained magnitude per row.",
        (
            "rank",
            "alpha",
            "dropout",
            *SELECTION,
            "rank_pattern",
            "alpha_pattern",
            "init_lora_weights",
            "bias",
            "token_indices",
            *COMMON,
        ),
        "Liu et al. 2024, arXiv:2402.09353",
        bind,
    )
)
