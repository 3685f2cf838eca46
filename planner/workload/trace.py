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
    local: those that a variable of the stack's forward keeps alive until that is over.
    lasting: tensors that all blocks use and that live until backward is over.
    retained: operations of a checkpointed block whose results are kept, so that they are not recomputed.
    handed: tensors that later checkpointed blocks hold as arguments, until their backward is over.
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
    local: tuple[Tensor, ...] = ()
    retained: tuple[Operation, ...] = ()
    lasting: tuple[Tensor, ...] = ()
    handed: tuple[Tensor, ...] = ()
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
            sum(
                p.numel * s.count
                for s in self.stretches
                for p in s.parameters
                if not p.buffer and (p.trainable or not trainable)
            )
        )


@dataclass(frozen=True)
class Part:
    """The layers of one pipeline stage [start, stop), and whether it has the model's beginning and its end. more: further layers, of its other chunks."""

    start: int
    stop: int
    first: bool = True
    last: bool = True
    more: tuple[tuple[int, int], ...] = ()


class _Tracer:
    """Traces the stacks of a model in the order of its forward pass."""

    def __init__(self, setting: Setting, head: str, checkpointing: str, part: Part | None) -> None:
        self.s, self.head, self.selective = setting, head, checkpointing == "selective"
        self.part = part or Part(0, setting.arch.layers)
        self.whole = checkpointing == "full" or (self.selective and setting.stack.selective == "operators")
        self.stretches: list[Stretch] = []
        self._shared: dict[str, Parameter] = {}
        self._carried: dict[Hashable, Tensor] = {}
        self._casts: dict[str, Tensor] = {}

    def run(self) -> list[Stretch]:
        arch, part = self.s.arch, self.part
        for tower in arch.towers if part.first else ():
            x = self._blocks(tower, self._front(tower), Part(0, tower.layers))
            self._carried[tower.tower] = self._tail(tower, x)
        x = self._blocks(arch, self._front(arch) if part.first else self._received(arch), part)
        for start, stop in part.more:
            x = self._blocks(arch, x, Part(start, stop))
        if part.last:
            self._head(x)
        return self.stretches

    def _received(self, arch: Architecture) -> Tensor:
        """What the stage before sends."""
        w = self._writer(arch)
        x = w.graph.new((w.b, w.t / self.s.split.outside, arch.hidden), self.s.formats.graph, True, "received")
        w.graph.add_operation("receive", "embedding", (), (x,), (), (), ())
        self._add("embedding", w, None, x)
        return x

    def _writer(self, arch: Architecture) -> Writer:
        formats = self.s.formats
        made = Writer(self.s, Graph(formats.autocast, formats.compute, self.s.processor), self._shared, arch)
        made.head_kind, made.carried, made.checkpointed = self.head, self._carried, self.whole
        if arch.shared_layers:
            made.graph.share_casts(self._casts)
        return made

    def _front(self, arch: Architecture) -> Tensor:
        w, setting = self._writer(arch), self.s
        tokens = not any(getattr(stack.front, "main_input", False) for stack in setting.arch.stacks)
        require_grad = self.whole and tokens and (setting.adaptation.peft or setting.stack.requires_input_grad)
        x = embed(w, require_grad) if arch.front is None else arch.front.write(w, require_grad)
        # a checkpoint keeps its arguments for the recomputation; without one only cosine and sine are saved
        lasting = w.arguments if self.whole else tuple(t for t in w.arguments if t.storage.name not in ("mask", "embeddings"))
        self._add(
            "embedding", w, None, x, held=(*w.held, *(t for t in w.arguments if t not in lasting)), lasting=lasting
        )
        return x

    def _blocks(self, arch: Architecture, x: Tensor, stage: Part) -> Tensor:
        if self.whole and self.s.checkpoint_every > 1:
            return self._some_blocks(arch, x, stage)
        for indices, count in runs_of_equal_layers(arch, self.s.adaptation, stage.start, stage.stop):
            for part, times in ((indices, 1), (tuple(i + len(indices) for i in indices), count - 1)):
                for index in part if times else ():
                    x = self._block(arch, index, times, x, self.whole)
        return x

    def _some_blocks(self, arch: Architecture, x: Tensor, stage: Part) -> Tensor:
        """One block in `every` is checkpointed (torchtitan's selective option n: the n-th, 2n-th, …).

        They are written in their order, since the gradients grow as the kept tensors go: only neighbours that are equal share a stretch.
        """
        every = self.s.checkpoint_every
        for indices, count in runs_of_equal_layers(arch, self.s.adaptation, stage.start, stage.stop):
            period, end = len(indices), indices[0] + len(indices) * count
            layer = indices[0]
            while layer < end:
                checkpointed = (layer + 1) % every == 0
                alike = period == 1 and layer > indices[0] and not checkpointed
                times = min(every - 1 - layer % every, end - layer) if alike else 1
                x = self._block(arch, layer, times, x, checkpointed)
                layer += times
        return x

    def _block(self, arch: Architecture, index: int, times: int, x: Tensor, whole: bool) -> Tensor:
        w = self._writer(arch.at(index))
        if arch.shared_layers:
            index = index * arch.shared_layers // arch.layers
        y = block(w, index, x)
        w.graph.release(*w.kept)
        behind = self._writer(arch.at(index)) if whole else w  # what follows a block stands outside its checkpoint
        follow = getattr(w.arch.mixer, "follow", None)
        z = y if follow is None else follow(behind, x, y)
        if w.arch.behind is not None:
            z = w.arch.behind.write(behind, z)
        z = w.s.adaptation.follow(behind, w.names.layer.replace("{i}", str(index)), z)
        w.graph.release(x, y if whole else z)  # the caller refers to the block's input until it returns
        operations = w.graph.operations
        self._add(
            "block",
            w,
            x,
            y if whole else z,
            count=times,
            checkpointed=whole,
            skipped=last_kept_only_inputs(operations) if whole and self.s.stack.early_stop else 0,
            held=(*w.graph.cached_casts, *w.held),
            lasting=w.lasting,
            handed=w.handed,
            retained=self._retained(operations) if whole else (),
        )
        if whole and behind.graph.operations:
            self._add("block", behind, y, z, count=times, held=(*behind.graph.cached_casts, *behind.held))
        return z

    def _retained(self, operations: list[Operation]) -> tuple[Operation, ...]:
        if self.selective:
            return _retained(operations)
        return tuple(o for o in operations if o.kind in self.s.checkpoint_keep and o.forward)

    def _tail(self, arch: Architecture, x: Tensor) -> Tensor:
        """The end of a tower. Its result lives as long as later stacks may use it."""
        w = self._writer(arch)
        if arch.tail is not None:
            y = arch.tail.write(w, x)
        else:
            y = w.norm(arch.names.final_norm, x, arch.hidden) if arch.final_norm else x
            y = w.graph.dropout(y, w.active(arch.final_dropout))
        lasting, held = ((y,), w.held) if self.whole else ((), (*w.held, y))
        self._add("tail", w, x, y, held=(*w.graph.cached_casts, *held), lasting=lasting)
        return y

    def _head(self, x: Tensor) -> None:
        w = self._writer(self.s.arch)
        loss = write_head(w, x)
        added = [(p, s.count) for s in self.stretches for p in s.parameters if p.adapter]
        loss = self.s.adaptation.finish(w, loss, added)
        self._add("head", w, x, loss, held=w.graph.cached_casts)

    def _add(self, name: str, w: Writer, source: Tensor | None, output: Tensor, **more: Any) -> None:
        passed = {id(t): t for key, t in self._carried.items() if isinstance(key, str)}
        used = {id(t): passed[id(t)] for o in w.graph.operations for t in o.inputs if id(t) in passed}
        held, local = more.pop("held", ()), w.local
        if w.arch.tower and name != "tail":  # what a tower's forward held goes with it; autocast's copies stay
            casts = {id(t) for t in w.graph.cached_casts}
            local = (*local, *(t for t in held if id(t) not in casts))
            held = (*w.graph.cached_casts, *w.outer)
        made = Stretch(
            name, w.graph.operations, w.graph.parameters, more.pop("count", 1), source, output,
            held=held, local=local, borrowed=tuple(used.values()), tower=w.arch.tower, **more,
        )  # fmt: skip
        self.stretches.append(made)


def trace(setting: Setting, head: str, checkpointing: str, part: Part | None = None) -> Workload:
    """Trace forward (and what backward needs) of one micro step. checkpointing: none, selective or full.

    part: the pipeline stage to trace; the whole model when left out.
    """
    return Workload(setting, _Tracer(setting, head, checkpointing, part).run(), head)


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


def runs_of_equal_layers(
    arch: Architecture, adaptation: Adaptation, start: int = 0, stop: int | None = None
) -> list[tuple[tuple[int, ...], int]]:
    """Layers [start, stop) as (indices of one period, repeats): equal neighbours form one run; an alternating pattern is one run of periods.

    A repeated period of several layers is returned as one-layer runs when it does not divide the depth.
    """
    layers = range(start, arch.layers if stop is None else stop)
    if not layers:
        return []
    if arch.shared_layers or adaptation.distinct:  # weights that several layers share: equal layers are no longer alike
        return [((i,), 1) for i in layers]
    if not adaptation.per_layer and len(arch.windows) <= 1 and len(arch.variants) <= 1:
        return [((start,), len(layers))]
    keys = [decisions(arch, adaptation, i) for i in layers]
    runs = [(tuple(start + i for i in indices), count) for indices, count in _run_lengths(keys)]
    if len(runs) <= 4:
        return runs
    for period in range(2, MAX_PERIOD + 1):
        if len(layers) % period == 0 and all(keys[i] == keys[i % period] for i in range(len(layers))):
            return [(tuple(range(start, start + period)), len(layers) // period)]
    return runs


def _run_lengths(keys: list[Hashable]) -> list[tuple[tuple[int, ...], int]]:
    runs: list[tuple[tuple[int, ...], int]] = []
    for i, key in enumerate(keys):
        if i and key == keys[i - 1]:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append(((i,), 1))
    return runs


def decisions(arch: Architecture, adaptation: Adaptation, layer: int) -> Hashable:
    """Everything by which one layer can differ from another."""
    prefix = arch.path(layer)
    modules = layer_linears(arch, layer)
    weights = [m + end for m in modules for end in (".weight", ".bias")] + [
        f"{prefix}.{n}{end}" for n in (*arch.names.norms, *arch.names.qk_norms) for end in (".weight", ".bias")
    ]
    return (
        arch.window(layer),
        id(arch.at(layer)),
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
        kept = operation.saved if operation.grads else ()  # weights too: the checkpoint counts whatever autograd saves
        if kept:
            produced = {id(t) for t in operation.outputs}
            return len(operations) - position - (1 if any(id(t) in produced for t in kept) else 0)
    return len(operations)
