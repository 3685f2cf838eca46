"""Live memory over one step: walk the operations as autograd does, and keep the books by component.

What is alive: persistent states (weights, gradients, optimizer), the tensors saved for backward, the temporaries of
the running operation, gathered weights and
buckets of data parallel. Equal blocks are walked once; the books of the others follow by a constant step, since
every block adds the same bytes in forward and frees
the same bytes in backward. Every storage is rounded to 512 bytes, as the CUDA caching allocator does (c10/cuda/CUDACachingAllocator.cpp, kMinBlockSize).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from planner.estimate.arrays import most
from planner.estimate.sent import Sent
from planner.workload.graph import BATCH, BYTES, FUSED_ATTENTION, Operation, Parameter, Storage, Tensor
from planner.workload.precision import wire_bytes
from planner.workload.trace import Stretch, Workload

ROUNDING = 512
COMPONENTS = ("weights", "gradients", "optimizer", "activations", "logits", "workspace", "communication")
_INDEX = {name: i for i, name in enumerate(COMPONENTS)}
WEIGHTS, GRADIENTS, OPTIMIZER, ACTIVATIONS, LOGITS, WORKSPACE, COMMUNICATION = range(len(COMPONENTS))


def added(parts: tuple[float, ...], more: tuple[float, ...], times: float) -> tuple[float, ...]:
    """Books with some more of each, so many times."""
    return tuple(p + times * m for p, m in zip(parts, more, strict=True))


def rounded(size: float) -> float:
    """Size of a block that holds `size` bytes [bytes]."""
    return -(-size // ROUNDING) * ROUNDING


class Moment(NamedTuple):
    """Books at one point of the step: live bytes by component, and where it is.

    position: blocks walked so far, with fractions within a block.
    """

    phase: str
    place: str
    parts: tuple[float, ...]
    position: float = 0.0

    @property
    def total(self) -> float:
        """Live bytes of all components."""
        return sum(self.parts)


@dataclass(frozen=True)
class Persistent:
    """What is alive during the whole step [bytes]: by component, and how trained gradients are kept.

    gradient_bytes: persistent bytes of one trained element's gradient · present: gradients exist before this micro step (accumulation) ·
    gathered: bytes of one element of a gathered weight, None when weights are whole · gradient_share: fraction of
    the reduced gradient that stays on this rank · offloaded: saved tensors of blocks go to the host.
    """

    books: tuple[float, ...]
    gradient_bytes: float
    present: bool = False
    gathered: float | None = None
    gradient_share: float = 1.0
    sharded_gradients: bool = False
    offloaded: bool = False


@dataclass
class _Buffer:
    """Gradient memory that several tensors may share while it only passes through."""

    size: float
    category: int
    users: int = 1


@dataclass
class Walk:
    """Walks one micro step and records moments."""

    workload: Workload
    persistent: Persistent
    live: list[float] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    kept: tuple[float, ...] = ()
    """What the layers of one micro step keep from their forward for their backward, by component [bytes]."""
    kept_head: tuple[float, ...] = (0.0,) * len(COMPONENTS)
    """The same of head and loss."""
    _saved: dict[int, int] = field(default_factory=dict)
    _storages: dict[int, Storage] = field(default_factory=dict)
    _gradients: dict[int, _Buffer] = field(default_factory=dict)
    _accumulated: set[str] = field(default_factory=set)
    _last: dict[int, dict[int, int]] = field(default_factory=dict)
    _transient: float = 0.0
    _once: float = 0.0
    """Gradients of parameters that all blocks share: later blocks add into the first one's."""
    offloaded: float = 0.0
    """Saved tensors that went to the host [bytes]."""
    _walked: float = 0.0
    _sent: Sent = field(init=False)
    _attributes: list[tuple[Storage, int, bool]] = field(default_factory=list)
    """What autograd nodes refer to, of how many equal parts, and whether recomputation makes it again."""

    def __post_init__(self) -> None:
        self._sent = Sent(self._hold_saved, self._drop_sent)

    def run(self) -> list[Moment]:
        """Moments of forward and backward, in order."""
        self.live = list(self.persistent.books)
        stretches = self.workload.stretches
        self._gather_root(+1)
        for position, stretch in enumerate(stretches):
            before = list(self.live)
            self._repeat(stretch, "forward", self._forward)
            if stretch.name == "head":
                self.kept_head = _changed(before, self.live)
            following = stretches[position + 1] if position + 1 < len(stretches) else None
            ends = following is None or following.tower != stretch.tower or following.name == "head"
            if ends and stretch.name != "head":  # the main stack ended before its head
                self._end_of_stack(stretch.tower)
        self._end_of_forward()
        kept = added(_changed(self.persistent.books, self.live), self.kept_head, -1.0)
        self.kept = tuple(most(0.0, size) for size in kept)  # what went to the host is not there
        loss = stretches[-1].output
        if loss.requires_grad:
            self._gradients[id(loss)] = _Buffer(rounded(loss.bytes), ACTIVATIONS)
            self.live[ACTIVATIONS] += rounded(loss.bytes)
        for stretch in reversed(stretches):
            self._repeat(stretch, "backward", self._backward)
        self._forget()
        for stretch in stretches:
            for tensor in stretch.lasting:
                if tensor.storage.name != BATCH:  # the training loop keeps it beyond the optimizer step
                    self._drop_saved(tensor.storage)
        for buffer in self._gradients.values():  # gradients of leaves that are no parameters go with the graph
            self._unuse(buffer)
        self._gather_root(-1)
        return self.moments

    def _end_of_stack(self, tower: str) -> None:
        """Variables of a stack's forward are gone."""
        for stretch in self.workload.stretches:
            if stretch.tower == tower and stretch.name != "head":
                self._let_go(stretch, stretch.local)

    def _attached(self, stretch: Stretch) -> list[Storage]:
        """What the nodes of a stretch's graph refer to as attributes, each storage once."""
        found = {id(t.storage): t.storage for o in stretch.operations if o.grads for t in o.attached if t.parameter is None}
        return list(found.values())

    def _remember(self, stretch: Stretch, attached: Sequence[Storage]) -> None:
        """After the forward of a part whose graph stays: its nodes refer to these until the loss, and with it the whole graph, is gone.

        The recomputation of a checkpointed block makes them a second time; its input is there once.
        """
        source = stretch.source.storage if stretch.source is not None and stretch.checkpointed else None
        for storage in attached:
            again = stretch.checkpointed and storage is not source
            if again:
                self._storages.pop(id(storage), None)
                self._saved.pop(id(storage), None)
            self._attributes.append((storage, stretch.count, again))

    def _forget(self) -> None:
        for storage, count, again in self._attributes:
            if again:
                self.live[_INDEX[storage.category]] -= rounded(storage.bytes) * count
            else:
                self._drop_saved(storage)
                self.live[_INDEX[storage.category]] -= rounded(storage.bytes) * (count - 1)

    def _end_of_forward(self) -> None:
        """Variables of the model's forward and autocast's weight copies are gone."""
        for stretch in self.workload.stretches:
            self._let_go(stretch, stretch.held)

    def _let_go(self, stretch: Stretch, tensors: tuple[Tensor, ...]) -> None:
        """Python no longer refers to these; equal blocks lose theirs alike."""
        for tensor in tensors:
            storage = tensor.storage
            self._drop_saved(storage)
            if id(storage) not in self._storages or (self.persistent.offloaded and stretch.name == "block"):
                self.live[_INDEX[storage.category]] -= rounded(storage.bytes) * (stretch.count - 1)

    # -- equal blocks ------------------------------------------------------------------------------------------------------------------------------

    def _repeat(self, stretch: Stretch, phase: str, walk: Callable[[Stretch], None]) -> None:
        """Walk one of the equal blocks; shift its moments for the last (and some between), and the books by the change of all."""
        if phase == "backward":
            self._sum_gradients(stretch)
            if self._sends(stretch):
                self._sent.clear()
        start, before, known = len(self.moments), tuple(self.live), {*self._gradients, id(stretch.source)}
        once, sent = self._once, self._sent.bytes
        walk(stretch)
        self._place(start, stretch.count)
        if stretch.count == 1:
            self.offloaded += self._sent.bytes - sent
            return
        for key in self._gradients.keys() - known:  # each of the blocks leaves such a gradient to the first stretch
            self._gradients[key].size *= stretch.count
        change = [a - b for a, b in zip(self.live, before, strict=True)]
        change[GRADIENTS] -= self._once - once
        if self._sends(stretch):
            self.offloaded += (self._sent.bytes - sent) * stretch.count
        elif self.persistent.offloaded and stretch.name == "block":
            stays = self._held_bytes(stretch) if phase == "forward" else 0.0
            self.offloaded += max(0.0, change[ACTIVATIONS] - stays) * (stretch.count - 1)
            change[ACTIVATIONS] = stays
        self._shift(start, change, stretch.count)
        for i, c in enumerate(change):
            self.live[i] += c * (stretch.count - 1)

    def _sends(self, stretch: Stretch) -> bool:
        """Do saved tensors of this part go to the host one by one? Of a checkpointed block only the input does."""
        return self.persistent.offloaded and stretch.name == "block" and not stretch.checkpointed

    def _drop_sent(self, storage: Storage, used: bool) -> None:
        """A copy is on the host. used: later operations still read it, after which it goes."""
        key = id(storage)
        if used and self._saved.get(key, 0) == 1:
            self._saved.pop(key)
        else:
            self._drop_saved(storage)

    def _held_bytes(self, stretch: Stretch) -> float:
        """Activations of a block that variables of the forward hold on the device, saved copies of them elsewhere or not [bytes]."""
        storages = {id(t.storage): t.storage for t in (*stretch.held, *stretch.local)} | {id(s): s for s in self._attached(stretch)}
        return sum(rounded(s.bytes) for key, s in storages.items() if key in self._storages and s.category == "activations")

    def _place(self, start: int, count: int) -> None:
        """Say where in the step the moments of a block are."""
        one = self.moments[start:]
        self.moments[start:] = [m._replace(position=self._walked + i / len(one)) for i, m in enumerate(one)]
        self._walked += count

    def _shift(self, start: int, change: list[float], count: int) -> None:
        """Moments of equal blocks: those of the first, and what every block changes."""
        one = self.moments[start:]
        for repeat in _sampled(count):
            shifted = [
                Moment(phase, place, tuple(v + repeat * c for v, c in zip(parts, change, strict=True)), at + repeat)
                for phase, place, parts, at in one
            ]
            self.moments.extend(shifted)

    def _sum_gradients(self, stretch: Stretch) -> None:
        """Gradients that equal blocks add up in one place: of what they all take from an earlier part."""
        for tensor in stretch.borrowed:
            if tensor.requires_grad and id(tensor) not in self._gradients and stretch.count > 1:
                size, category = rounded(tensor.bytes), _INDEX[tensor.storage.category]
                self.live[category] += size
                self._gradients[id(tensor)] = _Buffer(size, category)

    def _note(self, phase: str, place: str, extra: float = 0.0) -> None:
        """Record the books. extra: temporaries of the running operation; those inside a fused kernel are workspace."""
        parts = list(self.live)
        parts[WORKSPACE if place == FUSED_ATTENTION else ACTIVATIONS] += extra
        self.moments.append(Moment(phase, place, tuple(parts)))

    # -- storages ----------------------------------------------------------------------------------------------------------------------------------

    def _allocate(self, storage: Storage) -> None:
        self._storages[id(storage)] = storage
        self.live[_INDEX[storage.category]] += rounded(storage.bytes)

    def _free(self, storage: Storage) -> None:
        if self._storages.pop(id(storage), None) is not None:
            self.live[_INDEX[storage.category]] -= rounded(storage.bytes)

    # -- forward -----------------------------------------------------------------------------------------------------------------------------------

    def _forward(self, stretch: Stretch) -> None:
        self._gather(stretch, +1)
        recomputed = stretch.checkpointed and stretch.needs_backward and stretch.source is not None
        attached = [] if recomputed and not self.workload.setting.stack.early_stop else self._attached(stretch)
        for storage in attached:
            self._hold_saved(storage)
        if recomputed and stretch.source is not None:
            self._hold_saved(stretch.source.storage)
            for operation in stretch.retained:
                for tensor in operation.outputs:
                    self._hold_saved(tensor.storage)
        self._operations(stretch, "forward", keep=not recomputed, stop=len(stretch.operations), keeps_output=True)
        self._remember(stretch, attached)
        self._gather(stretch, -1)

    def _operations(self, stretch: Stretch, phase: str, *, keep: bool, stop: int, keeps_output: bool) -> None:
        """Run operations forward. keep: tensors saved for backward stay alive."""
        if phase == "forward":
            for tensor in (*stretch.held, *stretch.local, *stretch.lasting, *stretch.handed):
                self._hold_saved(tensor.storage)
        last = self._last_uses(stretch)
        output = id(stretch.output.storage) if keeps_output else 0
        operations, sends = stretch.operations, self._sends(stretch)
        for position in range(stop):
            operation = operations[position]
            for tensor in operation.outputs:
                storage = tensor.storage
                if (
                    storage.category != "weights"
                    and id(storage) not in self._storages
                    and (storage.bytes or not operation.inputs)
                ):
                    self._allocate(storage)
            if keep and operation.grads and sends:
                self._sent.save(operation, position, last, stretch.output.storage)
            elif keep and operation.grads:
                for tensor in operation.saved:
                    if tensor.parameter is None:
                        self._hold_saved(tensor.storage)
            if operation.forward:
                self._note(phase, operation.name, operation.temporary[0])
            for tensor in (*operation.inputs, *operation.outputs):
                storage = tensor.storage
                key = id(storage)
                if (
                    last.get(key) == position
                    and key != output
                    and not self._saved.get(key)
                    and tensor.parameter is None
                ):
                    self._free(storage)
        if stop < len(operations):  # recomputation ended early: what later operations would have saved and freed
            for operation in operations[stop:]:
                if keep and operation.grads:
                    for tensor in operation.saved:
                        if tensor.parameter is None:
                            self._hold_saved(tensor.storage)
            for operation in operations[:stop]:
                for tensor in operation.outputs:
                    if not self._saved.get(id(tensor.storage)) and id(tensor.storage) != id(stretch.output.storage):
                        self._free(tensor.storage)

    def _hold_saved(self, storage: Storage) -> None:
        self._saved[id(storage)] = self._saved.get(id(storage), 0) + 1

    def _drop_saved(self, storage: Storage) -> None:
        key = id(storage)
        count = self._saved.get(key, 0) - 1
        if count > 0:
            self._saved[key] = count
        else:
            self._saved.pop(key, None)
            self._free(storage)

    def _last_uses(self, stretch: Stretch) -> dict[int, int]:
        known = self._last.get(id(stretch))
        if known is None:
            known = {}
            for position, operation in enumerate(stretch.operations):
                for tensor in (*operation.inputs, *operation.outputs):
                    known[id(tensor.storage)] = position
            self._last[id(stretch)] = known
        return known

    # -- backward ----------------------------------------------------------------------------------------------------------------------------------

    def _backward(self, stretch: Stretch) -> None:
        for tensor in stretch.handed:
            self._drop_saved(tensor.storage)
        if not any(operation.grads for operation in stretch.operations):
            return
        self._gather(stretch, +1)
        self._prefetch(stretch, +1)
        before = dict.fromkeys(self._accumulated)
        attached: list[Storage] = []
        waiting = [operation for operation in reversed(stretch.operations) if operation.grads]
        if stretch.checkpointed and stretch.source is not None:
            while waiting and not waiting[0].saved:  # only a saved tensor makes the checkpoint recompute
                self._differentiate(waiting.pop(0))
            stop = len(stretch.operations) - stretch.skipped
            attached = self._attached(stretch)
            for storage in attached:
                self._hold_saved(storage)
            self._operations(stretch, "recompute", keep=True, stop=stop, keeps_output=False)
            if self.workload.setting.stack.early_stop:  # the graph of this forward goes with it, only saved tensors are taken from it
                for storage in attached:
                    self._drop_saved(storage)
                attached = []
        for operation in waiting:
            self._differentiate(operation)
        for storage in attached:
            self._drop_saved(storage)
        if stretch.checkpointed and stretch.source is not None:
            self._drop_saved(stretch.source.storage)
            for operation in stretch.retained:
                for tensor in operation.outputs:
                    self._drop_saved(tensor.storage)
            if id(stretch.output.storage) not in self._saved:  # else the output of a whole tower
                self._free(stretch.output.storage)
        if self.persistent.sharded_gradients:
            self._reduce(stretch, set(self._accumulated) - set(before))
        self._prefetch(stretch, -1)
        self._gather(stretch, -1)

    def _differentiate(self, operation: Operation) -> None:
        """One node of autograd: allocate the gradients of its inputs, then free its saved tensors and its own gradient."""
        incoming = [b for t in operation.outputs if (b := self._gradients.pop(id(t), None)) is not None]
        if not incoming and operation.outputs:
            for tensor in self._sent.stayed(operation):
                self._drop_saved(tensor.storage)
            return
        if not operation.outputs:
            return
        passed = incoming[0]
        extra = operation.temporary[1] + sum(rounded(t.bytes) for t in self._sent.back(operation))
        for tensor in operation.inputs:
            if tensor.requires_grad:
                extra += self._give(tensor, passed if operation.alias else None)
        if operation.backward:
            self._note("backward", operation.name, extra)
        for tensor in self._sent.stayed(operation):
            self._drop_saved(tensor.storage)
        for buffer in incoming:
            self._unuse(buffer)
        self._settle()

    def _give(self, tensor: Tensor, passed: _Buffer | None) -> float:
        """Add a gradient of `tensor`: its own memory, or the incoming one passed on. Returns what lives only until it is added [bytes]."""
        if tensor.parameter is not None:
            self._give_parameter(tensor, passed)
            return 0.0
        size = rounded(tensor.bytes)
        same = passed is not None and passed.size == size
        have = self._gradients.get(id(tensor))
        category = _INDEX[tensor.storage.category]
        if have is None:
            if same:
                assert passed is not None
                passed.users += 1
                self._gradients[id(tensor)] = passed
            else:
                self.live[category] += size
                self._gradients[id(tensor)] = _Buffer(size, category)
            return 0.0
        # a second consumer: the new gradient is added into the first, in place when nobody else holds it
        temporary = 0.0 if same else size
        self.live[category] += temporary
        if have.users > 1:
            have.users -= 1
            self.live[category] += size
            self._gradients[id(tensor)] = _Buffer(size, category)
        if temporary:
            self._note("backward", "accumulate")
            self.live[category] -= temporary
        return temporary

    def _give_parameter(self, tensor: Tensor, passed: _Buffer | None) -> None:
        parameter = tensor.parameter
        assert parameter is not None
        size = rounded(parameter.numel * BYTES[tensor.dtype])
        kept = rounded(parameter.numel * self._gradient_bytes(tensor))
        fresh = parameter.name not in self._accumulated and not self.persistent.present
        if self.persistent.sharded_gradients:
            if parameter.name not in self._accumulated:
                self._accumulated.add(parameter.name)
                self.live[GRADIENTS] += size
            return
        self._accumulated.add(parameter.name)
        if fresh:
            self.live[GRADIENTS] += kept
            if parameter.shared:
                self._once += kept
            if passed is not None and passed.users == 1 and passed.size == size == kept:
                self.live[passed.category] -= passed.size  # autograd keeps the incoming gradient as it is
                passed.size = 0.0
            if kept != size:
                self._pending(size)
            return
        self._pending(size)

    def _pending(self, size: float) -> None:
        """A gradient that is added to a persistent one: its own memory lives until the operation is over."""
        self.live[GRADIENTS] += size
        self._transient += size

    def _settle(self) -> None:
        self.live[GRADIENTS] -= self._transient
        self._transient = 0.0

    def _gradient_bytes(self, tensor: Tensor) -> float:
        assert tensor.parameter is not None
        return (
            BYTES[tensor.dtype]
            if tensor.parameter.adapter
            else max(BYTES[tensor.dtype], self.persistent.gradient_bytes)
        )

    def _unuse(self, buffer: _Buffer) -> None:
        buffer.users -= 1
        if buffer.users == 0:
            self.live[buffer.category] -= buffer.size

    # -- data parallel -----------------------------------------------------------------------------------------------------------------------------

    def _gathered_bytes(self, stretch: Stretch) -> float:
        element = self.persistent.gathered
        assert element is not None
        return rounded(
            sum(p.numel * min(wire_bytes(p.dtype, element), element) for p in stretch.parameters if not p.buffer and not self._apart(p))
        )

    def _apart(self, p: Parameter) -> bool:
        """Whether a parameter is no part of full sharding."""
        return p.expert and self.workload.setting.stack.experts_apart

    def _gather_root(self, sign: int) -> None:
        """Embeddings and head belong to the outermost unit of FSDP, which stays gathered through forward and backward."""
        if self.persistent.gathered is None:
            return
        for stretch in self.workload.stretches:
            if stretch.name != "block":
                self.live[COMMUNICATION] += sign * self._gathered_bytes(stretch)

    def _gather(self, stretch: Stretch, sign: int) -> None:
        """A block's whole weights, and those of the next one prefetched beside."""
        if self.persistent.gathered is None or stretch.name != "block":
            return
        self.live[COMMUNICATION] += sign * self._gathered_bytes(stretch) * (1 + self.workload.setting.stack.prefetch)

    def _prefetch(self, stretch: Stretch, sign: int) -> None:
        """While the head goes backward the last block's weights are gathered already (FSDP, BackwardPrefetch.BACKWARD_PRE)."""
        stretches = self.workload.stretches
        if self.persistent.gathered is None or stretch is not stretches[-1] or stretch.name == "block":
            return
        last = next((s for s in reversed(stretches) if s.name == "block"), None)
        if last is not None:
            self.live[COMMUNICATION] += sign * self._gathered_bytes(last) * self.workload.setting.stack.prefetch

    def _reduce(self, stretch: Stretch, names: set[str]) -> None:
        """Gradients of a block are reduce-scattered when it is done: this rank keeps its share."""
        trained = [p for p in stretch.parameters if p.name in names]
        whole = sum(rounded(p.numel * BYTES[p.dtype]) for p in trained)
        share = sum(
            rounded(p.numel * self.persistent.gradient_bytes * (1.0 if self._apart(p) else self.persistent.gradient_share)) for p in trained
        )
        self.live[COMMUNICATION] += share
        self._note("backward", "reduce_scatter")
        self.live[COMMUNICATION] -= share
        self.live[GRADIENTS] -= whole
        if not self.persistent.present:
            self.live[GRADIENTS] += share


def _changed(before: Sequence[float], after: Sequence[float]) -> tuple[float, ...]:
    """Tensors of the graph that were kept between two moments, by component [bytes]."""
    return tuple(a - b if i in (ACTIVATIONS, LOGITS) else 0.0 for i, (b, a) in enumerate(zip(before, after, strict=True)))


def _sampled(count: int) -> list[int]:
    """Which repeats of a block are drawn: the last always, three between when there are many."""
    return sorted({round((count - 1) * f) for f in (0.5, 1.0)} - {0})
