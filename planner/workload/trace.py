"""From architecture and setting to a workload: the model as stretches of operations, equal blocks traced once.

A stretch is the embeddings, one block that stands for `count` equal ones, or the head. In a run of equal blocks the
first is traced apart, since its input may
not require a gradient while that of the others does. Cost therefore does not grow with depth.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from planner.workload.architecture import Architecture
from planner.workload.blocks import block
from planner.workload.embeddings import embed
from planner.workload.graph import Graph, Operation, Parameter, Tensor
from planner.workload.heads import head as write_head
from planner.workload.methods.base import Adaptation
from planner.workload.methods.targets import linear_modules
from planner.workload.writer import Setting, Writer

MAX_PERIOD = 8


@dataclass
class Stretch:
    """Operations of one part of the model, standing for `count` equal parts one after the other.

    held: tensors that a Python variable of the model's forward keeps alive until the forward is over.
    lasting: tensors that all blocks use and that live until backward is over.
    retained: operations of a checkpointed block whose results are kept, so that they are not recomputed.
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
            sum(
                p.numel * s.count
                for s in self.stretches
                for p in s.parameters
                if not p.buffer and (p.trainable or not trainable)
            )
        )


def trace(setting: Setting, head: str, checkpointing: str) -> Workload:
    """Trace forward (and what backward needs) of one micro step. checkpointing: none, selective or full."""
    arch, adaptation, formats = setting.arch, setting.adaptation, setting.formats
    shared: dict[str, Parameter] = {}
    carried: dict[int, Tensor] = {}

    def writer() -> Writer:
        made = Writer(setting, Graph(formats.autocast, formats.compute), shared)
        made.head_kind, made.carried = head, carried
        return made

    first = writer()
    whole = checkpointing == "full" or (checkpointing == "selective" and setting.stack.selective == "operators")
    x = embed(first, require_grad=whole and (adaptation.peft or setting.stack.requires_input_grad))
    stretches = [Stretch("embedding", first.graph.operations, first.graph.parameters, 1, None, x, held=first.held)]
    # a checkpoint keeps its arguments for the recomputation; without one only cosine and sine are saved
    lasting = first.arguments if whole else tuple(t for t in first.arguments if t.storage.name != "mask")
    for indices, count in runs_of_equal_layers(arch, adaptation):
        for part, times in ((indices, 1), (tuple(i + len(indices) for i in indices), count - 1)):
            if times < 1:
                continue
            for index in part:
                w = writer()
                y = block(w, index, x)
                w.graph.release(x, y, *w.kept)  # the caller refers to the block's input until it returns
                skipped = last_kept_only_inputs(w.graph.operations) if whole and setting.stack.early_stop else 0
                retained: tuple[Operation, ...] = ()
                if whole and checkpointing == "selective":
                    retained = _retained(w.graph.operations)
                stretches.append(
                    Stretch(
                        "block",
                        w.graph.operations,
                        w.graph.parameters,
                        times,
                        x,
                        y,
                        whole,
                        skipped,
                        (*w.graph.cached_casts, *w.held),
                        retained,
                    )
                )
                x = y
    last = writer()
    loss = write_head(last, x)
    loss = adaptation.finish(last, loss, [(p, s.count) for s in stretches for p in s.parameters if p.adapter])
    stretches.append(
        Stretch("head", last.graph.operations, last.graph.parameters, 1, x, loss, held=last.graph.cached_casts)
    )
    stretches[0].held = (*first.held, *(t for t in first.arguments if t not in lasting))
    stretches[0].lasting = lasting
    return Workload(setting, stretches, head)


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
    if not adaptation.per_layer and len(arch.windows) <= 1:
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
    modules = [path.replace("{i}", str(layer)) for path in linear_modules(arch)]
    weights = [m + end for m in modules for end in (".weight", ".bias")] + [
        f"{prefix}.{n}{end}" for n in (*arch.names.norms, *arch.names.qk_norms) for end in (".weight", ".bias")
    ]
    return (
        arch.window(layer),
        tuple(adaptation.trains(w) for w in weights),
        tuple(adaptation.adapts(m) for m in modules),
        tuple(adaptation.copies(w.rsplit(".", 1)[0]) for w in weights),
    )


def last_kept_only_inputs(operations: list[Operation]) -> int:
    """How many trailing operations a non-reentrant checkpoint's recomputation skips: it stops once the last saved tensor has been rebuilt.

    Parameters count as saved tensors too.
    A saved input exists before its operation runs, so the operation that saves only inputs need not run either (torch.utils.checkpoint, early stop).
    """
    for position in range(len(operations) - 1, -1, -1):
        operation = operations[position]
        kept = operation.saved if operation.grads else ()
        if kept:
            produced = {id(t) for t in operation.outputs}
            return len(operations) - position - (1 if any(id(t) in produced for t in kept) else 0)
    return len(operations)
