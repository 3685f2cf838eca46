"""LoRA on a router and on stacked experts, which are parameters and no linear layers.

peft (utils/transformers_weight_conversion.py) reads the names that experts had before transformers stacked them, and wraps the stacked parameter:
one low-rank update an expert, gate and up projection together at twice the rank. The update is added to the whole stack at every forward
(peft.tuners.lora.ParamWrapper), so that its cost follows the weights and not the tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import BYTES, Kernel, Tensor, matmul_kernel
from planner.workload.methods.targets import ends, expression, ranks
from planner.workload.modules import linear_kinds

if TYPE_CHECKING:
    from planner.workload.methods.base import Merge
    from planner.workload.writer import Writer

ROUTER = "gate"


def unchanged(w: Writer, path: str, parameter: Tensor) -> Tensor:
    """No update."""
    return parameter


def wrap(method: Method, arch: Architecture, default_rank: int) -> tuple[Method, Merge]:
    """The method without the targets that are parameters, and what writes those."""
    names = arch.experts.unstacked if arch.experts is not None else ()
    targets = method.targets
    if not names or targets is None:
        return method, unchanged
    every: tuple[str, ...] = (ROUTER, *names)
    if isinstance(targets, str):
        wanted: tuple[str, ...] = every
        if targets != "all-linear":
            # a regular expression counts by the last names that it matches, in whichever layer
            found = _matched(targets, arch, every)
            wanted, others = tuple(name for name in found if name in every), tuple(n for n in found if n not in every)
            if not wanted and not others:
                return method, unchanged
            method = method.model_copy(update={"targets": others})
        elif not isinstance(method.exclude, str):  # the names now mean the stacks: a shared expert's layers of these names are left out
            method = method.model_copy(update={"exclude": (*(method.exclude or ()), *names)})
    else:
        wanted = tuple(name for name in every if any(ends(target, (name,)) for target in targets))
        method = method.model_copy(
            update={"targets": tuple(t for t in targets if not any(ends(t, (n,)) for n in every))}
        )
    if not wanted:
        return method, unchanged
    gate, up, down = names
    if (gate in wanted) != (up in wanted):
        lone, other = (gate, up) if gate in wanted else (up, gate)
        raise PlanError(
            "method.targets",
            lone,
            f"is stacked with {other} in one parameter of {arch.model_type}",
            f"Name both {gate} and {up}.",
        )
    for field in ("dropout", "use_dora"):
        if getattr(method, field) or (field == "use_dora" and method.name == "dora"):
            raise PlanError(
                f"method.{field}",
                getattr(method, field),
                "does not work on stacked experts and routers (peft adds the update to the weights)",
                "Leave it out, or name attention's layers as targets.",
            )
    stacked = {"gate_up_proj": gate in wanted, "down_proj": down in wanted}
    plain = method.rank or default_rank
    of = ranks(
        method.model_copy(update={"rank_pattern": {**(method.rank_pattern or {}), r".*\.gate_up_proj": 2 * plain}}),
        default_rank,
    )

    def merged(w: Writer, path: str, parameter: Tensor) -> Tensor:
        last = path.rsplit(".", 1)[-1]
        if path.endswith(f"{arch.names.router}.weight"):
            return add_to_router(w, path, parameter, float(of(path))) if ROUTER in wanted else parameter
        return add_to_experts(w, path, parameter, float(of(path))) if stacked.get(last) else parameter

    return method, merged


def _matched(targets: str, arch: Architecture, every: tuple[str, ...]) -> tuple[str, ...]:
    compiled = expression("targets", targets)
    n = arch.names
    modules = [*linear_kinds(arch), f"{n.layer}.{n.router}", *(f"{n.layer}.{n.experts}.{name}" for name in every[1:])]
    paths = [path.replace("{i}", str(i)) for path in modules for i in range(arch.layers)]
    return tuple(dict.fromkeys(path.rsplit(".", 1)[-1] for path in paths if compiled.fullmatch(path)))


def add_to_router(w: Writer, path: str, weight: Tensor, rank: float) -> Tensor:
    """`W + (B A) · scaling`, cast to the weight's type."""
    g = w.graph
    out, inner = weight.shape
    a, b = w.adapter(path + ".lora_A", (rank, inner)), w.adapter(path + ".lora_B", (out, rank))
    product = _product(w, g.lower(b), g.lower(a), 1.0, out, inner, rank, (out, inner))
    delta = g.cast(g.unary("adapter_scale", product, save="none"), weight.dtype)
    return g.add(weight, delta, name="merge")


def add_to_experts(w: Writer, path: str, weight: Tensor, rank: float) -> Tensor:
    """`baddbmm(W, B, A)` over the experts, in the weight's type; it runs twice, since registering a parametrization evaluates it."""
    g = w.graph
    count, out, inner = weight.shape
    a = w.adapter(path + ".lora_A", (rank * count, inner))
    b = w.adapter(path + ".lora_B", (out, rank * count))
    a, b = g.cast(a, weight.dtype, name="adapter_cast"), g.cast(b, weight.dtype, name="adapter_cast")
    return _product(w, b, a, count, out, inner, rank, weight.shape, runs=2)


def _product(
    w: Writer,
    b: Tensor,
    a: Tensor,
    batch: float,
    out: float,
    inner: float,
    rank: float,
    shape: tuple[float, ...],
    runs: int = 1,
) -> Tensor:
    g = w.graph
    y = g.new(shape, a.dtype, True, "merged_weight")
    kind: Callable[..., Kernel] = matmul_kernel
    forward = kind(out, inner, rank, a.dtype, batch=batch)
    backward = (
        kind(out, rank, inner, a.dtype, batch=batch, layout="dgrad"),
        kind(rank, inner, out, a.dtype, batch=batch, layout="wgrad"),
    )
    moved = Kernel("elementwise", y.numel * BYTES[a.dtype])
    g.add_operation(
        "merge",
        "matmul",
        (b, a),
        (y,),
        (b, a),
        (forward, moved) * runs,
        backward,
        temporary=((runs - 1) * y.bytes, 0.0),
    )
    return y
