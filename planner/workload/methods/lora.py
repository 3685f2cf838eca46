"""LoRA and QLoRA: a frozen linear layer gets a trained low-rank update beside it, `y = W x + B (A x) · alpha / r`.

Hu et al. 2021, arXiv:2106.09685 (eq. 3); Dettmers et al. 2023, arXiv:2305.14314 for the 4-bit base. Target selection as peft does it: a list of module name
endings, a regular expression that matches the whole path, or `all-linear` (every linear layer but the output head).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from planner.errors import PlanError, shorten
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.modules import all_linears, linear_kinds

if TYPE_CHECKING:
    from planner.workload.graph import Tensor
    from planner.workload.methods.base import Beside
    from planner.workload.writer import Writer

DEFAULT_TARGETS: dict[str, tuple[str, ...]] = {
    "gpt2": ("c_attn",),
    "gpt_neox": ("query_key_value",),
    "bert": ("query", "value"),
    "roberta": ("query", "value"),
    "xlm-roberta": ("query", "value"),
    "camembert": ("query", "value"),
    "phi": ("q_proj", "v_proj", "fc1", "fc2"),
    "phi3": ("qkv_proj",),
    "falcon": ("query_key_value",),
    "bloom": ("query_key_value",),
    "mpt": ("Wqkv",),
    "codegen": ("qkv_proj",),
    "electra": ("query", "value"),
    "deberta": ("in_proj",),
    "deberta-v2": ("query_proj", "value_proj"),
    "layoutlm": ("query", "value"),
}
"""What peft adapts when no target is given (peft.utils.constants); q_proj and v_proj for the others."""


def select(
    method: Method, arch: Architecture, defaults: Mapping[str, tuple[str, ...]] = DEFAULT_TARGETS
) -> tuple[Callable[[str], bool], bool]:
    """Target selection as peft does it: (does a path match, do the layers differ). defaults: targets by model type."""
    targets = method.targets or defaults.get(arch.model_type, ("q_proj", "v_proj"))
    known = {path.replace("{i}", "0") for path in linear_kinds(arch)}
    head = arch.output_layer
    outside = {head, arch.names.classifier, arch.names.pooler}
    if targets == "all-linear":
        if any(kind.experts is not None and kind.experts.wrapped for stack in arch.stacks for kind in stack.kinds):
            raise PlanError(
                "method.targets",
                targets,
                f"makes peft adapt the stacked experts of {arch.model_type}, which is not planned",
                "Name the layers, for example q_proj and v_proj.",
            )
        return lambda path: path != head and not path.startswith(arch.names.classifier), False
    if isinstance(targets, str):
        try:
            compiled = re.compile(targets)
        except re.error as error:
            raise PlanError(
                "method.targets",
                targets,
                f"is not a regular expression ({error})",
                "Give module names, an expression, or all-linear.",
            ) from None
        layers = all_linears(arch)
        if not any(compiled.fullmatch(path) for path in layers):
            raise PlanError(
                "method.targets",
                targets,
                "matches no linear layer",
                f"The expression must match a whole path such as {layers[0]}.",
            )
        return lambda path: compiled.fullmatch(path) is not None, True
    missing = [
        name for name in targets if not any(path == name or path.endswith("." + name) for path in known | outside)
    ]
    if missing:
        names = sorted({path.rsplit(".", 1)[-1] for path in known})
        raise PlanError(
            "method.targets",
            shorten(missing[0]),
            "is not a linear layer of this model",
            f"Its layers have {', '.join(names)}.",
        )
    endings = tuple("." + name for name in targets)
    return lambda path: path in targets or path.endswith(endings), False


def adapted(
    method: Method,
    arch: Architecture,
    beside: Beside,
    resolved: Mapping[str, Any],
    defaults: Mapping[str, tuple[str, ...]] = DEFAULT_TARGETS,
) -> Adaptation:
    """A frozen base whose selected linear layers are written by `beside`."""
    adapts, per_layer = select(method, arch, defaults)
    saved = method.modules_to_save or ()

    def copies(path: str) -> bool:
        return any(path == name or path.endswith("." + name) for name in saved)

    return Adaptation(
        method.name,
        trains=lambda path: False,
        adapts=adapts,
        copies=copies,
        beside=beside,
        resolved=resolved,
        per_layer=per_layer,
        peft=True,
        adapter_dtype=method.adapter_dtype,
        quantized=method.name in ("qlora", "loftq"),
    )


def bind(method: Method, arch: Architecture) -> Adaptation:
    """LoRA's update; initialisations and scalings of the same shape (rsLoRA, PiSSA, LoftQ) cost the same."""
    rank, dropout = method.rank or 8, method.dropout or 0.0

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.lora.Linear.forward: `result + lora_B(lora_A(dropout(x.to(A.dtype)))) * scaling`, cast back."""
        g = w.graph
        y = layer(x)
        a = w.adapter(path + ".lora_A.weight", (float(rank), x.shape[-1]))
        b = w.adapter(path + ".lora_B.weight", (out, float(rank)))
        taken = g.dropout(g.cast(x, a.dtype, name="adapter_input"), dropout)
        update = g.unary("adapter_scale", g.linear(g.linear(taken, a, name="lora_A"), b, name="lora_B"), save="none")
        result = g.cast(g.add(y, update, name="adapter_add"), y.dtype, name="adapter_output")
        g.release(x, taken)  # the module call's argument, and its local variable
        return result

    return adapted(method, arch, beside, {"rank": rank})


FIELDS = ("rank", "alpha", "dropout", "targets", "adapter_dtype", "modules_to_save")
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
