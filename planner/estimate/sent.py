"""Saved tensors that go to the host in forward and come back in backward, tensor by tensor (torchtune OffloadActivations, from which TRL's is derived).

What an operation of a block saves leaves as a copy of its own, also where several operations save one storage. The last few stay on the device until
further ones are saved, so that copies have time; in backward a tensor is on the device while its node runs. Parameters and what is under 1 KiB stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from planner.workload.graph import Operation, Storage, Tensor

LEAST = 1024
"""Smallest tensor that is sent [bytes] (min_offload_size)."""
STASH = 5
"""Tensors that stay until further ones are saved (max_fwd_stash_size)."""


@dataclass
class Sent:
    """hold, drop: of the walk's books: one more or one fewer reason that a storage lives, drop(storage, still used by later operations).

    bytes: what was sent so far [bytes].
    """

    hold: Callable[[Storage], None]
    drop: Callable[[Storage, bool], None]
    bytes: float = 0.0
    _stash: list[Storage] = field(default_factory=list)
    _gone: set[tuple[int, int]] = field(default_factory=set)

    def save(self, operation: Operation, position: int, last: Mapping[int, int], output: Storage) -> None:
        """Forward: everything that the operation saves is sent, or kept where it is small."""
        for i, tensor in enumerate(operation.saved):
            if tensor.parameter is not None:
                continue
            self.hold(tensor.storage)
            if tensor.bytes < LEAST:
                continue
            self.bytes += tensor.bytes
            self._gone.add((id(operation), i))
            self._stash.append(tensor.storage)
            if len(self._stash) > STASH:
                oldest = self._stash.pop(0)
                self.drop(oldest, last.get(id(oldest), -1) > position or oldest is output)

    def clear(self) -> None:
        """Backward begins: all copies are done."""
        for storage in self._stash:
            self.drop(storage, False)
        self._stash.clear()

    def back(self, operation: Operation) -> list[Tensor]:
        """What comes back for the operation's node."""
        return [t for i, t in enumerate(operation.saved) if (id(operation), i) in self._gone]

    def stayed(self, operation: Operation) -> list[Tensor]:
        """What the operation saved on the device."""
        return [t for i, t in enumerate(operation.saved) if t.parameter is None and (id(operation), i) not in self._gone]
