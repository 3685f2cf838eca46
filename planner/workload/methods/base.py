"""What a fine-tuning method decides: which weights are trained, and what stands beside a linear layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from planner.errors import PlanError
from planner.run import Method
from planner.words import nearest
from planner.workload.architecture import Architecture
from planner.workload.methods.unplanned import REFUSED, UNPLANNED
from planner.workload.quantized import QUANTIZED

if TYPE_CHECKING:
    from planner.workload.graph import Parameter, Tensor
    from planner.workload.optimizers import Optimizer, Step, Task
    from planner.workload.writer import Writer

    Beside = Callable[[Writer, str, Tensor, float, Callable[[Tensor], Tensor]], Tensor]
    After = Callable[[Writer, str, str, Tensor, Tensor], Tensor]
    Join = Callable[[Writer, int, Tensor, Tensor], tuple[Tensor, Tensor]]
    Merge = Callable[[Writer, str, Tensor], Tensor]
    Finish = Callable[[Writer, Tensor, list[tuple[Parameter, int]]], Tensor]
    Stepped = Callable[[Optimizer, Task], Step]


@dataclass(frozen=True)
class Adaptation:
    """A method bound to one architecture.

    trains: is the base parameter of this path trained?
    adapts: does the linear layer of this path get an update, and of which rank? 0: none; 1 where the method has no rank.
    copies: is the module of this path trained as a copy beside the frozen original (peft's modules_to_save)?
    quantized: the frozen base is stored in 4 bits when the run does not say how.
    resolved: method fields that were left out, with the values used.
    per_layer: decisions differ between layers, so that layers cannot be assumed equal.
    distinct: some layers share weights with others, so that each is written by itself.
    beside: writes an adapted linear layer: (writer, path, input, output width, the base layer as a function) to output.
    peft: the base model is frozen under peft (which makes the embeddings' output require a gradient under checkpointing).
    copies_head: under peft a classification head is trained as a copy (every method that knows modules_to_save, and prompts).
    after: writes what follows a branch: (writer, layer path, "attention" or "mlp", its input, its output) to output.
    virtual_tokens: tokens that stand before the user's in every layer; prompt: writes them before the embeddings.
    prefix_tokens: keys and values that stand before those of the tokens; begin: writes what makes them, once;
    prefix: joins them: (writer, layer, keys, values) to both.
    checkpointing: does the method work with activation checkpointing?
    merged: writes a parameter with its update added, where the sum itself is what the model uses: (writer, path, parameter) to the sum.
    loaded: adapters in memory, of which one is active.
    tokens: token embeddings that are trained beside the frozen table.
    follow: writes what follows a whole block: (writer, layer path, its output) to the output.
    finish: writes what follows the loss: (writer, loss, added parameters with how often each occurs) to the loss.
    stepped: what the optimizer does with the trained parameters: (optimizer, task) to its step.
    sharding: does the method work when weights or optimizer states are sharded?
    bases: quantized storages of the base that the method has layers for.
    notes: assumptions to show.
    formula: how many parameters the method adds, in words of the ledger.
    """

    name: str
    trains: Callable[[str], bool]
    adapts: Callable[[str], int] = field(default=lambda path: 0)
    copies: Callable[[str], bool] = field(default=lambda path: False)
    per_layer: bool = False
    distinct: bool = False
    peft: bool = False
    copies_head: bool = True
    beside: Beside | None = None
    resolved: Mapping[str, Any] = field(default_factory=dict)
    adapter_dtype: str | None = None
    quantized: bool = False
    formula: str = "sum over targets of r · (in + out)"
    after: After = field(default=lambda w, layer, branch, x, y: y)
    virtual_tokens: int = 0
    prompt: Callable[[Writer, Tensor], Tensor] = field(default=lambda w, x: x)
    prefix_tokens: int = 0
    begin: Callable[[Writer], None] = field(default=lambda w: None)
    prefix: Join = field(default=lambda w, index, k, v: (k, v))
    checkpointing: bool = True
    merged: Merge = field(default=lambda w, path, parameter: parameter)
    loaded: int = 1
    tokens: int = 0
    sharding: bool = True
    bases: tuple[str, ...] = QUANTIZED
    notes: tuple[str, ...] = ()
    follow: Callable[[Writer, str, Tensor], Tensor] = field(default=lambda w, layer, y: y)
    finish: Finish = field(default=lambda w, loss, added: loss)
    stepped: Stepped = field(default=lambda optimizer, task: optimizer.step(task))


@dataclass(frozen=True)
class MethodKind:
    """A registered method: how it is shown, which fields of a run it reads, and how it binds to a model."""

    name: str
    label: str
    help: str
    fields: tuple[str, ...]
    reference: str
    bind: Callable[[Method, Architecture], Adaptation]


METHODS: dict[str, MethodKind] = {}


def register(kind: MethodKind) -> MethodKind:
    """Add a method; a second one of the same name is a mistake."""
    if kind.name in METHODS:
        raise RuntimeError(f"method {kind.name} is registered twice")
    METHODS[kind.name] = kind
    return kind


def adapt(method: Method, arch: Architecture) -> Adaptation:
    """Bind a run's method to a model. Raises `PlanError` for an unknown method or a field that it does not read."""
    kind = METHODS.get(method.name)
    if kind is None and method.name in REFUSED:
        raise PlanError("method.name", method.name, *REFUSED[method.name])
    if kind is None and method.name in UNPLANNED:
        raise PlanError("method.name", method.name, UNPLANNED[method.name], "Use lora or another method.")
    if kind is None:
        raise PlanError("method.name", method.name, "is not a known method", f"{nearest(method.name, METHODS)}Use one of {', '.join(METHODS)}.")
    for name in method.model_fields_set - {"name"} - set(kind.fields):
        if getattr(method, name) is not None:
            raise PlanError(
                f"method.{name}",
                getattr(method, name),
                f"means nothing for {method.name}",
                f"It reads {', '.join(kind.fields) or 'no field'}.",
            )
    return kind.bind(method, arch)
