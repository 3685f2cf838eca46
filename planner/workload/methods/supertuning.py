"""Super-Tuning: the largest entries of a weight are trained; the layer runs with a copy of the weight that has them (arXiv:2607.09287)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Kernel, Parameter, Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import needs_linear
from planner.workload.methods.targets import COMMON, adapted, has_bias

if TYPE_CHECKING:
    from planner.workload.writer import Writer


def _bind(method: Method, arch: Architecture) -> Adaptation:
    needs_linear(method, arch)
    sparsity = 0.99 if method.sparsity is None else method.sparsity

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.supertuning.Linear.forward: `F.linear(x, W.scatter_add(indices, values), bias)`, and LoRA's update beside it with a rank."""
        g, inner = w.graph, x.shape[-1]
        count = int(out * inner * (1 - sparsity))
        if count < 1:
            raise PlanError("method.sparsity", sparsity, f"trains no entry of {path}", "Use a lower sparsity.")
        base = w.weight(path + ".weight", (out, inner), base=True)
        values = w.added(path + ".supertuning_values", (float(count),), "fp32", True)
        narrow = g.parameter(Parameter(path + ".indices", (float(count),), "fp32", False, adapter=True, buffer=True))
        index = g.new((float(count),), "int64", False, "indices")
        g.add_operation("index_cast", "elementwise", (narrow,), (index,), (), (Kernel("elementwise", 1.5 * index.bytes),), ())
        taken = g.cast(values, base.dtype)
        weight = g.new((out, inner), base.dtype, True, "changed_weight")
        moved = (Kernel("elementwise", 2 * weight.bytes), Kernel("elementwise", index.bytes + 3 * taken.bytes))
        gathered = (Kernel("elementwise", index.bytes + 2 * taken.bytes),)
        g.add_operation("scatter_add", "elementwise", (base, taken), (weight,), (index,), moved, gathered)
        bias = w.weight(path + ".bias", (out,)) if has_bias(arch, path) else None
        y = g.linear(x, weight, bias, name="delta")
        if method.rank:
            one = w.added(path + ".supertuning_lora_A.weight", (float(method.rank), inner), "fp32", True)
            two = w.added(path + ".supertuning_lora_B.weight", (out, float(method.rank)), "fp32", True)
            low = g.linear(g.cast(x, "fp32", name="adapter_input"), one, name="lora_A")
            update = g.unary("adapter_scale", g.linear(low, two, name="lora_B"), save="none")
            y = g.add(y, g.cast(update, y.dtype), name="adapter_add")
        g.release(x, index, taken, weight)
        return y

    formula = f"sum over targets of {1 - sparsity:g} · in · out"
    shown = {"sparsity": sparsity, **({"rank": method.rank} if method.rank else {})}
    return adapted(method, arch, beside, shown, formula=formula, bases=())


register(
    MethodKind(
        "supertuning",
        "Super-Tuning",
        "Trains the largest entries of a weight.",
        ("sparsity", "rank", "alpha", "targets", *COMMON),
        "arXiv:2607.09287",
        _bind,
    )
)
