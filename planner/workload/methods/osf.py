"""OSF: the weight's smaller singular directions are trained, the larger ones kept (Nayak et al. 2025, arXiv:2504.07097), as peft's OSF runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Kernel, Tensor, matmul_kernel
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import buffer, needs_linear
from planner.workload.methods.targets import COMMON, adapted

if TYPE_CHECKING:
    from planner.workload.writer import Writer


_GATED = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "down_proj", "up_proj")
TARGETS = {
    **dict.fromkeys(("llama", "mistral", "mixtral", "gemma", "gemma2", "gemma3_text", "qwen2", "qwen3", "phi"), _GATED),
    **dict.fromkeys(("bloom", "gpt_neox", "falcon"), ("query_key_value", "dense_4h_to_h")),
    "opt": ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
    "gptj": ("q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out"),
    "gpt_bigcode": ("c_attn", "c_proj"),
}
"""What peft adapts when no target is given; all linear layers of other models."""


def projected(w: Writer, x: Tensor, kept: float) -> Tensor:
    """Nothing forward; backward, the hook's two products with the `kept` directions, and what it returns."""
    high, wide = x.shape
    m, n = (high, wide) if high > wide else (wide, high)
    kernels = (matmul_kernel(kept, n, m, x.dtype), matmul_kernel(m, n, kept, x.dtype), Kernel("elementwise", 3 * x.bytes))
    y = Tensor(x.shape, x.dtype, x.storage, True)
    w.graph.add_operation("project", "matmul", (x,), (y,), (), (), kernels, alias=True, temporary=(0.0, 2 * x.bytes))
    return y


def _bind(method: Method, arch: Architecture) -> Adaptation:
    needs_linear(method, arch)
    method = method.model_copy(update={"targets": method.targets or TARGETS.get(arch.model_type, "all-linear")})

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.osf.Linear.forward: the base layer, plus what trained singular parts change: `[U S, −U₀ S₀] [V; V₀] x`. Hooks project the
        gradients of U and V off the kept directions."""
        g, inner = w.graph, x.shape[-1]
        y = layer(x)
        least = min(out, inner)
        kept = min(least, float(method.rank)) if method.rank else least // 2
        r = least - kept
        dtype = w.adapter_type
        shapes = {"U": (out, r), "S": (r,), "V": (r, inner)}
        u, s, v = (w.adapter(f"{path}.osf_{name}", shape) for name, shape in shapes.items())
        u0, s0, v0 = (buffer(w, f"{path}.osf_{name}_init", shape, dtype) for name, shape in shapes.items())
        if out > inner:
            buffer(w, path + ".osf_U_high", (out, kept), dtype)
        if out < inner:
            buffer(w, path + ".osf_V_high", (kept, inner), dtype)
        held = {"U": kept if out > inner else r, "V": kept if out < inner else r}
        u = projected(w, u, held["U"])
        v = projected(w, v, held["V"])
        one = g.mul(u, s, name="osf_scale")
        two = g.unary("negated", g.mul(u0, s0, name="osf_scale"), save="none")
        up = g.cat((one, two), (out, 2 * r), name="osf_A")
        g.release(one, two)
        down = g.cat((v, v0), (2 * r, inner), name="osf_B")
        taken = g.cast(x, up.dtype, name="adapter_input")
        low = g.linear(taken, down, name="osf_B")
        wide = g.linear(low, up, name="osf_A")
        total = g.add(y, g.cast(wide, x.dtype), name="adapter_add")
        g.release(x, y, up, down, taken, low, wide)
        return total

    formula = "sum over targets of k · (in + out + 1) with k = min(in, out) less the kept rank (half when left out)"
    return adapted(method, arch, beside, {"rank": method.rank} if method.rank else {}, formula=formula, bases=())


register(
    MethodKind(
        "osf",
        "OSF",
        "Trains a weight's smaller singular directions.",
        ("rank", "targets", *COMMON),
        "Nayak et al. 2025, arXiv:2504.07097",
        _bind,
    )
)
