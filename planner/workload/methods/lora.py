"""LoRA and QLoRA: a frozen linear layer gets a trained low-rank update beside it, `y = W x + B (A x) · alpha / r`.

Hu et al. 2021, arXiv:2106.09685 (eq. 3); Dettmers et al. 2023, arXiv:2305.14314 for the 4-bit base. Initialisations and scalings of the same
shape (rsLoRA, PiSSA, LoftQ, OLoRA, …) cost the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.methods import dora
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.experts import wrap
from planner.workload.methods.targets import ANY_BASE, COMMON, SELECTION, adapted

if TYPE_CHECKING:
    from planner.workload.graph import Tensor
    from planner.workload.writer import Writer

FROM_DATA = ("eva", "corda", "lora_ga")
"""Initialisations that look at data."""
OWN_LAYERS = ("nf4", "nf4-dq", "int8", "awq")
"""Bases for which peft has a LoRA layer that casts the update, not the sum (peft.tuners.lora.bnb and awq; that of GPTQ is like the plain one)."""
INITS = ("gaussian", "eva", "olora", "pissa", "corda", "loftq", "orthogonal", "lora_ga", "mica")


def bind(method: Method, arch: Architecture) -> Adaptation:
    """LoRA's update, or DoRA's where the run asks for it."""
    start = method.init_lora_weights
    if isinstance(start, str) and start not in INITS and not start.startswith("pissa_niter_"):
        raise PlanError(
            "method.init_lora_weights", start, "is not known to peft", f"Use true, false, {', '.join(INITS)}."
        )
    if method.name == "lora_fa" and arch.experts is not None and arch.experts.unstacked:
        names = method.targets if isinstance(method.targets, tuple) else ()
        if method.targets == "all-linear" or set(names) & {"gate", *arch.experts.unstacked}:
            raise PlanError("method.targets", method.targets, "reaches stacked experts, which are not planned with LoRA-FA", "Name attention's layers.")
    if method.use_dora:
        return dora.bind(method, arch)
    dropout = method.dropout or 0.0

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.lora.Linear.forward: `result + lora_B(lora_A(dropout(x.to(A.dtype)))) * scaling`, cast back."""
        g = w.graph
        rank = float(w.s.adaptation.adapts(path))
        y = layer(x)
        a = w.adapter(path + ".lora_A.weight", (rank, x.shape[-1]), trainable=method.name != "lora_fa")
        b = w.adapter(path + ".lora_B.weight", (out, rank))
        base = g.named(path + ".weight")
        apart = base is not None and base.dtype in OWN_LAYERS
        # under autocast these layers leave the cast of the input to it
        taken = g.dropout(x if apart and g.autocast else g.cast(x, a.dtype, name="adapter_input"), dropout)
        update = g.unary("adapter_scale", g.linear(g.linear(taken, a, name="lora_A"), b, name="lora_B"), save="none")
        if apart:
            update = update if g.autocast else g.cast(update, y.dtype, name="adapter_output")
            result = g.add(y, update, name="adapter_add")
            g.release(x, taken, update)
            return result
        result = g.cast(g.add(y, update, name="adapter_add"), y.dtype, name="adapter_output")
        g.release(x, taken)  # the module call's argument, and its local variable
        return result

    method, wrapped = wrap(method, arch, default_rank=8)
    return adapted(
        method,
        arch,
        beside,
        {"rank": method.rank or 8},
        rank=8,
        only="lora_only",
        quantized=method.name in ("qlora", "loftq"),
        merged=wrapped,
        tokens=len(set(method.token_indices or ())),
        bases=ANY_BASE,
        notes=(f"{start} needs forward passes over data before training, which are not part of the plan.",) if start in FROM_DATA else (),
    )


FIELDS = (
    *("rank", "alpha", "dropout", *SELECTION, "rank_pattern", "alpha_pattern", "use_dora", "use_rslora"),
    *("init_lora_weights", "bias", "token_indices", *COMMON),
)
register(
    MethodKind(
        "lora",
        "LoRA",
        "Trains low-rank updates beside frozen linear layers.",
        FIELDS,
        "Hu et al. 2021, arXiv:2106.09685",
        bind,
    )
)
register(
    MethodKind(
        "qlora",
        "QLoRA",
        "LoRA over a base stored in 4-bit NormalFloat.",
        FIELDS,
        "Dettmers et al. 2023, arXiv:2305.14314",
        bind,
    )
)
