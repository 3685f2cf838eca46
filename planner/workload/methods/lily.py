"""Lily: layers in a row share a projection down, all layers the projections up, which a router mixes (Zhong et al. 2024, arXiv:2407.09946, eq. 3-5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Parameter, Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.pieces import made, needs_linear, product
from planner.workload.methods.targets import COMMON, SELECTION, adapted
from planner.workload.modules import all_linears

if TYPE_CHECKING:
    from planner.workload.writer import Writer


MANY = 20
"""From so many modules on, peft replaces whole paths by their shortest endings (peft.tuners.tuners_utils)."""

def _bind(method: Method, arch: Architecture) -> Adaptation:
    needs_linear(method, arch)
    rank, stride, experts = method.rank or 32, method.stride or 1, method.experts or 2
    targets = method.targets

    def group(path: str) -> str:
        """Layers of one name are shared among (peft.tuners.lily.LilyModel._post_injection_hook)."""
        if isinstance(targets, str) and targets != "all-linear":
            return targets
        if targets == "all-linear":
            count = sum(whole.adapts(p) > 0 for p in all_linears(arch)) + arch.pooler
            return path if count < MANY else path.rsplit(".", 1)[-1]
        known = [name for name in targets or () if path.endswith(name)]
        return known[-1] if known else path.rsplit(".", 1)[-1]

    def shared(w: Writer, key: str, count: int, shape: tuple[float, ...]) -> Tensor:
        """A projection that `count` layers one after the other use; 0: all that follow."""
        used = w.shared.get(key + ".uses")
        uses = 0 if used is None else round(used.numel)
        w.shared[key + ".uses"] = Parameter(key, (uses + 1,), "fp32", False, shared=True)
        number = uses // count if count else 0
        name = f"{key}.{number}"
        if name in w.shared:
            return w.graph.parameter(w.shared[name])
        w.shared[name] = Parameter(name, shape, w.adapter_type, True, adapter=True, shared=True)
        return w.added(name, shape, w.adapter_type, True)

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.lily.Linear.forward: the mean of the router's probabilities over all tokens mixes the projections up."""
        g, inner, r, e = w.graph, x.shape[-1], float(rank), float(experts)
        y = layer(x)
        key = f"lily.{group(path)}.{out:.0f}.{inner:.0f}"
        a, b = shared(w, key + ".A", stride, (r, inner)), shared(w, key + ".B", 0, (e * r, out))
        router = w.adapter(path + ".lily_router.weight", (e, r))
        taken = g.cast(x, a.dtype, name="adapter_input")
        hidden = g.linear(taken, a, name="lily_A")
        chosen = g.softmax(g.raise_(g.linear(hidden, router, name="lily_router")))
        mean = made(w, "mean", (chosen,), (e,), chosen.dtype)
        mixed = product(w, "lily_mix", g.view(mean, (1.0, e)), g.view(g.lower(b), (e, r * out)), 1, r * out, e, (r, out))
        rows = x.numel / inner
        delta = product(w, "lily_B", hidden, mixed, rows, out, r, (*x.shape[:-1], out))
        scaled = g.cast(g.unary("adapter_scale", delta, save="none"), y.dtype)
        result = g.add(y, scaled, name="adapter_add")
        g.release(x, taken, hidden, chosen, mean, mixed, delta)
        return result

    whole = adapted(
        method,
        arch,
        beside,
        {"rank": rank, "stride": stride, "experts": experts},
        formula="by name of layer: r · in for each stride of layers, experts · r · out once; experts · r each for routers",
    )
    return replace(whole, distinct=True)


register(
    MethodKind(
        "lily",
        "Lily",
        "Trains projections that layers share, mixed by a router.",
        ("rank", "stride", "experts", *SELECTION, *COMMON),
        "Zhong et al. 2024, arXiv:2407.09946",
        _bind,
    )
)
