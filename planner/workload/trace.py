"""From architecture and setting to a workload: the model as stretches of operations, equal blocks traced once.

A stretch is the embeddings, one block that stands for `count` equal ones, or the head. In a run of equal blocks the
first is traced apart, since its input may
not require a gradient while that of the others does. Cost therefore does not grow with depth.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from planner.workload.architecture import Architecture
from planner.workload.blocks import block
from planner.workload.embeddings import embed
from planner.workload.graph import Graph, Operation, Parameter, Tensor
from planner.workload.heads import head as write_head
from planner.workload.methods.base import Adaptation
from planner.workload.modules import layer_linears
from planner.workload.writer import Setting, Writer

MAX_PERIOD = 8


@dataclass
class Stretch:
    """Operations of one part of the model, standing for `count` equal parts one after the other.

    tower: the stack that it belongs to, empty for the main one.
    held: tensors that a Python variable of the model's forward keeps alive until the forward is over.
    lasting: tensors that all blocks use and that live until backward is over.
    retained: operations of a checkpointed block whose results are kept, so that they are not recomputed.
    borrowed: tensors of an earlier part that every one of the equal parts uses; their gradients are summed over all.
    """

    name: str
    operations: list[Operation]
    parameters: list[Parameter]
    count: int
    source: Tensor | None
    output: Tensor
    checkpointed: bool = False
    skipped: int = 0
    held: tuple[Tensor, ...] = ()
    retained: tuple[Operation, ...] = ()
    lasting: tuple[Tensor, ...] = ()
    borrowed: tuple[Tensor, ...] = ()
    tower: str = ""

    @property
    def needs_backward(self) -> bool:
        return self.output.requires_grad or any(operation.grads for operation in self.operations)


@dataclass(frozen=True)
class Workload:
    """What one micro step of the run takes, without hardware."""

    setting: Setting
    stretches: list[Stretch]
    head: str

    def parameter_count(self, trainable: bool = False) -> int:
        """Number of parameters, of all or of the trained ones; tied ones count once."""
        return round(
            sum(p.numel * s.count for s in self.stretches for p in s.parameters if p.trainable or not trainable)
        )


class _Tracer:
    """Traces the stacks of a model in the order of its forward pass."""

    def __init__(self, setting: Setting, head: str, checkpointing: str) -> None:
        self.s, self.head, self.selective = setting, head, checkpointing == "selective"
        self.whole = checkpointing == "full" or (self.selective and setting.stack.selective == "operators")
        self.stretches: list[Stretch] = []
        self._shared: dict[str, Parameter] = {}
        self._carried: dict[Hashable, Tensor] = {}
        self._casts: dict[str, Tensor] = {}

    def run(self) -> list[Stretch]:
        for tower in self.s.arch.towers:
            x = self._blocks(tower, self._front(tower))
            self._carried[tower.tower] = self._tail(tower, x)
        self._head(self._blocks(self.s.arch, self._front(self.s.arch)))
        return self.stretches

    def _writer(self, arch: Architecture) -> Writer:
        formats = self.s.formats
        made = Writer(self.s, Graph(formats.autocast, formats.compute), self._shared, arch)
        made.head_kind, made.carried = self.head, self._carried
        if arch.shared_layers:
            made.graph.share_casts(self._casts)
        return made

    def _front(self, arch: Architecture) -> Tensor:
        w, setting = self._writer(arch), self.s
        require_grad = self.whole and (setting.adaptation.peft or setting.stack.requires_input_grad)
        x = embed(w, require_grad) if arch.front is None else arch.front.write(w, require_grad)
        # a checkpoint keeps its arguments for the recomputation; without one only cosine and sine are saved
        lasting = w.arguments if self.whole else tuple(t for t in w.arguments if t.storage.name != "mask")
        self._add(
            "embedding", w, None, x, held=(*w.held, *(t for t in w.arguments if t not in lasting)), lasting=lasting
        )
        return x

    def _blocks(self, arch: Architecture, x: Tensor) -> Tensor:
        for indices, count in runs_of_equal_layers(arch, self.s.adaptation):
            for part, times in ((indices, 1), (tuple(i + len(indices) for i in indices), count - 1)):
                for index in part if times else ():
                    x = self._block(arch, index, times, x)
        return x

    def _block(self, arch: Architecture, index: int, times: int, x: Tensor) -> Tensor:
        w, whole = self._writer(arch.at(index)), self.whole
        if arch.shared_layers:
            index = index * arch.shared_layers // arch.layers
        y = block(w, index, x)
        w.graph.release(x, y, *w.kept)  # the caller refers to the block's input until it returns
        operations = w.graph.operations
        self._add(
            "block",
            w,
            x,
            y,
            count=times,
            checkpointed=whole,
            skipped=last_kept_only_inputs(operations) if whole and self.s.stack.early_stop else 0,
            held=(*w.graph.cached_casts, *w.held),
            retained=_retained(operations) if whole and self.selective else (),
        )
        return y

    def _tail(self, arch: Architecture, x: Tensor) -> Tensor:
        """The end of a tower. Its result lives as long as later stacks may use it."""
        w = self._writer(arch)
        if arch.tail is not None:
            y = arch.tail.write(w, x)
        else:
            y = w.norm(arch.names.final_norm, x, arch.hidden) if arch.final_norm else x
        lasting, held = ((y,), w.held) if self.whole else ((), (*w.held, y))
        self._add("tail", w, x, y, held=(*w.graph.cached_casts, *held), lasting=lasting)
        return y

    def _head(self, x: Tensor) -> None:
        w = self._writer(self.s.arch)
        loss = write_head(w, x)
        self._add("head", w, x, loss, held=w.graph.cached_casts)

    def _add(self, name: str, w: Writer, source: Tensor | None, output: Tensor, **more: Any) -> None:
        passed = {id(t): t for key, t in self._carried.items() if isinstance(key, str)}
        used = {id(t): passed[id(t)] for o in w.graph.operations for t in o.inputs if id(t) in passed}
        made = Stretch(
            name, w.graph.operations, w.graph.parameters, more.pop("count", 1), source, output,
            borrowed=tuple(used.values()), tower=w.arch.tower, **more,
        )  # fmt: skip
        self.stretches.append(made)


def trace(setting: Setting, head: str, checkpointing: str) -> Workload:
    """Trace forward (and what backward needs) of one micro step. checkpointing: none, selective or full."""
    return Workload(setting, _Tracer(setting, head, checkpointing).run(), head)


def _retained(operations: list[Operation]) -> tuple[Operation, ...]:
    """torchtitan's per-operator policy: keep attention and every second matrix product (torchtitan distributed/activation_checkpoint.py)."""
    kept: list[Operation] = []
    products = 0
    for operation in operations:
        if operation.kind == "attention":
            kept.append(operation)
        elif operation.kind == "matmul":
            products += 1
            if products % 2:
                kept.append(operation)
    return tuple(kept)


def runs_of_equal_layers(arch: Architecture, adaptation: Adaptation) -> list[tuple[tuple[int, ...], int]]:
    """Layers as (indices of one period, repeats): equal neighbours form one run; an alternating pattern is one run of periods.

    A repeated period of several layers is returned as one-layer runs when it does not divide the depth.
    """
    if arch.shared_layers:  # gradients and autocast copies of one set of weights: equal layers are no longer alike
        return [((i,), 1) for i in range(arch.layers)]
    if not adaptation.per_layer and len(arch.windows) <= 1 and len(arch.variants) <= 1:
        return [((0,), arch.layers)]
    keys = [_decisions(arch, adaptation, i) for i in range(arch.layers)]
    runs = _run_lengths(keys)
    if len(runs) <= 4:
        return runs
    for period in range(2, MAX_PERIOD + 1):
        if arch.layers % period == 0 and all(keys[i] == keys[i % period] for i in range(arch.layers)):
            return [(tuple(range(period)), arch.layers // period)]
    return runs


def _run_lengths(keys: list[Hashable]) -> list[tuple[tuple[int, ...], int]]:
    runs: list[tuple[tuple[int, ...], int]] = []
    for i, key in enumerate(keys):
        if i and key == keys[i - 1]:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append(((i,), 1))
    return runs


def _decisions(arch: Architecture, adaptation: Adaptation, layer: int) -> Hashable:
    """Everything by which one layer can differ from another."""
    prefix = arch.names.layer.replace("{i}", str(layer))
    modules = layer_linears(arch, layer)
    weights = [m + end for m in modules for end in (".weight", ".bias")] + [
        f"{prefix}.{n}{end}" for n in (*arch.names.norms, *arch.names.qk_norms) for end in (".weight", ".bias")
    ]
    return (
        arch.window(layer),
        id(arch.at(layer)),
        tuple(adaptation.trains(w) for w in weights),
        tuple(adaptation.adapts(m) for m in modules),
    )


def last_kept_only_inputs(operations: list[Operation]) -> int:
    """How many trailing operations a non-reentrant checkpoint's recomputation skips: it stops once the last saved tensor has been rebuilt.

    A saved input exists before its operation runs, so the operation that saves only inputs need not run either (torch.utils.checkpoint, early stop).
    """
    for position in range(len(operations) - 1, -1, -1):
        operation = operations[position]
        kept = [t for t in operation.saved if t.parameter is None]
        if kept:
            produced = {id(t) for t in operation.outputs}
            return len(operations) - position - (1 if any(id(t) in produced for t in kept) else 0)
    return len(operations)
