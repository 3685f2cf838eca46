"""The memory curve of a step, made into points when somebody looks at it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast, overload

from planner.estimate.memory import COMPONENTS, Moment
from planner.estimate.result import MemoryPoint, Phase


class StageView(NamedTuple):
    """What is shown of equal pipeline stages. indices: which ones · layers: of each of their chunks · curve: memory of one of their ranks."""

    indices: tuple[int, ...]
    layers: tuple[int, ...]
    curve: Curve

    @property
    def peak(self) -> float:
        """Allocated memory at most [bytes]."""
        return max(point.allocated for point in self.curve)


class Curve(Sequence[MemoryPoint]):
    """The memory curve, made into points when somebody looks at it."""

    def __init__(self, moments: list[Moment]) -> None:
        self._moments = moments
        self._end = moments[-1].position

    def __len__(self) -> int:
        return len(self._moments)

    @overload
    def __getitem__(self, index: int) -> MemoryPoint: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[MemoryPoint, ...]: ...
    def __getitem__(self, index: int | slice) -> MemoryPoint | tuple[MemoryPoint, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        position = index % len(self) if -len(self) <= index < len(self) else index
        m = self._moments[position]
        parts = {name: value for name, value in zip(COMPONENTS, m.parts, strict=True) if value}
        progress = m.position / self._end
        phase = cast(Phase, "backward" if m.phase == "recompute" else m.phase)
        return MemoryPoint.model_construct(
            moment=m.place, phase=phase, progress=progress, allocated=m.total, parts=parts
        )
