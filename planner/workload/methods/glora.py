"""GLoRA: weight and bias are scaled and shifted by trained low-rank matrices, vectors or numbers: W + W ∘ A + B,
b + b ∘ D + E + W C (Chavan et al. 2023, arXiv:2306.07967, eq. 10)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import buffer, needs_linear, product
from planner.workload.methods.targets import COMMON, adapted, has_bias

if TYPE_CHECKING:
    from planner.workload.writer import Writer


def _bind(method: Method, arch: Architecture) -> Adaptation:
    needs_linear(method, arch)
    rank = method.rank or 8
    forms = {
        "weight_path": method.weight_path or "lora",
        "input_path": method.input_path or "lora",
        "bias_path": method.bias_path or "constant",
    }

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.glora.GloraLinear.forward: both layers run, and their difference is added."""
        g, inner = w.graph, x.shape[-1]
        y = layer(x)
        base = w.weight(path + ".weight", (out, inner), base=True)

        def part(name: str, form: str, high: float, wide: float, vector: tuple[float, ...]) -> Tensor:
            """One of A to E in the weight's type. high, wide: its whole shape."""
            if form == "lora":
                down = w.adapter(f"{path}.glora_{name}.Xd", (high, float(rank)))
                up = w.adapter(f"{path}.glora_{name}.Xu", (float(rank), wide))
                made = product(w, "glora", g.lower(down), g.lower(up), high, wide, float(rank), (high, wide))
            elif form in ("vector", "constant"):
                made = w.adapter(f"{path}.glora_{name}.X", vector if form == "vector" else (1.0,))
            else:
                made = buffer(w, f"{path}.glora_{name}.zeros", (high, wide), w.adapter_type)
            return g.cast(made, base.dtype)

        biased, kind = has_bias(arch, path), forms["weight_path"]
        a, b = (part(name, kind, out, inner, (out, 1.0)) for name in "AB")
        c = part("C", forms["input_path"] if biased else "none", inner, 1.0, (inner, 1.0))
        d, e = (part(name, forms["bias_path"] if biased else "none", out, 1.0, (out,)) for name in "DE")
        weight = g.add(g.add(base, g.mul(base, a, name="glora_scale")), b)
        bias = None
        if biased:
            own = w.weight(path + ".bias", (out,))
            moved = product(w, "glora_bias", g.lower(base), g.lower(c), out, 1.0, inner, (out,))
            bias = g.add(g.add(g.add(own, g.mul(own, d)), e), moved)
        changed = g.linear(x, weight, bias, name="delta")
        total = g.add(y, changed, name="adapter_add")
        again = g.unary("count", y, save="none")
        difference = g.add(total, again, name="subtract")
        result = g.cast(difference, y.dtype, name="adapter_output")
        g.release(x, y, a, b, c, d, e, weight, changed)
        return result

    formula = "sum over targets of 2 · r · (in + out), and r · (in + 1) + 2 with a bias"
    return adapted(method, arch, beside, {"rank": rank, **forms}, formula=formula, bases=())


register(
    MethodKind(
        "glora",
        "GLoRA",
        "Trains scales and shifts of weights and biases.",
        ("rank", "weight_path", "input_path", "bias_path", "targets", *COMMON),
        "Chavan et al. 2023, arXiv:2306.07967",
        _bind,
    )
)
