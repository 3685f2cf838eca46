"""What stands in a stack where the usual parts do not: interfaces of the components that write themselves to the graph.

A component is a frozen dataclass of sizes. It is one idea in one file: what it is, what linear layers it has (for target
selection), and the operations that it takes. `Architecture` holds it, and the tracer calls it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from planner.run import Batch
    from planner.workload.graph import Tensor
    from planner.workload.writer import Writer


class Front(Protocol):
    """What makes the first hidden states of a stack: patches, sound, latents, or tokens of another length."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields of the run's batch that it reads, beside micro."""

    def resolve(self, batch: Batch) -> Batch:
        """The batch with the fields that were left out; raises `PlanError` for what cannot be."""

    def tokens(self, batch: Batch) -> int:
        """Positions of one sequence in this stack."""

    def sequences(self, batch: Batch) -> int:
        """Sequences of one micro step in this stack."""

    def counted(self, batch: Batch) -> int:
        """Tokens that one sample adds to the run's tokens per second; 0 for a tower whose tokens another stack counts."""

    def write(self, w: Writer, require_grad: bool) -> Tensor:
        """Hidden states [b, t, h]. require_grad: they must require a gradient (checkpointed blocks under peft)."""


class Mixer(Protocol):
    """What mixes positions in place of self-attention. linears: its linear layers, relative to the block."""

    @property
    def linears(self) -> tuple[str, ...]: ...

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        """The branch's output [b, t, h]."""


class FeedForward(Protocol):
    """What stands in place of the MLP. linears: its linear layers, relative to the block."""

    @property
    def linears(self) -> tuple[str, ...]: ...

    def write(self, w: Writer, layer: str, x: Tensor) -> Tensor:
        """The branch's output [b, t, h]."""


class Layout(Protocol):
    """A whole block whose parts stand in an order of its own. linears: its linear layers, relative to the block."""

    @property
    def linears(self) -> tuple[str, ...]: ...

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        """The block's output [b, t, h]."""


class Behind(Protocol):
    """What a stack does with a block's output before the next one takes it, outside the block's checkpoint. linears: whole paths."""

    @property
    def linears(self) -> tuple[str, ...]: ...

    def write(self, w: Writer, x: Tensor) -> Tensor:
        """What the next block takes."""


class Tail(Protocol):
    """What ends a tower: norm, pooling, projection. linears: its linear layers, whole paths."""

    @property
    def linears(self) -> tuple[str, ...]: ...

    def write(self, w: Writer, x: Tensor) -> Tensor:
        """What the later stacks take."""


class Merge(Protocol):
    """What puts a tower's output among the embeddings of the tokens."""

    def check(self, batch: Batch) -> None:
        """Raise `PlanError` when the sequence cannot hold it."""

    def write(self, w: Writer, x: Tensor) -> Tensor:
        """Embeddings [b, t, h] with the output in its places."""


class Output(Protocol):
    """An output head with its loss, where the usual ones do not fit. kind: the run's name of it."""

    @property
    def kind(self) -> str: ...

    @property
    def linears(self) -> tuple[str, ...]:
        """Its linear layers that target selection can name, whole paths."""

    def write(self, w: Writer, x: Tensor) -> Tensor:
        """The loss [1]. x: what the last block returned."""
