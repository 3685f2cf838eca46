"""Whether the system took the processor away from a measurement: then it timed another program's turn, not the operator."""

from __future__ import annotations

from dataclasses import dataclass

try:
    import resource
except ImportError:  # not a Unix
    resource = None  # type: ignore[assignment]


@dataclass
class Preemption:
    """Counts involuntary switches of all threads of this process (getrusage(2), ru_nivcsw). Where nothing counts them, none is seen."""

    seen: int = 0

    def begin(self) -> None:
        """A repetition starts."""
        self.seen = self._now()

    def happened(self) -> bool:
        """Whether any thread was interrupted since `begin` to let another program run."""
        return self._now() > self.seen

    @staticmethod
    def _now() -> int:
        return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
