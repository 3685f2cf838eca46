"""Samples of a measurement that is still running, one JSON line each: what is left when it is killed, and what it resumes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from planner.calibrate.result import MAX_BYTES, Sample
from planner.errors import PlanError


@dataclass(frozen=True)
class Partial:
    """The file beside a profile to be."""

    path: Path

    def read(self) -> tuple[Sample, ...]:
        """Samples so far; a last line that was cut off is left out. Raises `PlanError` for a file of another kind."""
        if not self.path.exists():
            return ()
        if self.path.stat().st_size > MAX_BYTES:
            raise PlanError("samples", str(self.path), "is larger than 64 MiB", "Remove it and calibrate without --resume.")
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        found = []
        for number, line in enumerate(lines):
            try:
                found.append(Sample.model_validate_json(line))
            except ValidationError:
                if number < len(lines) - 1:
                    raise PlanError(
                        "samples", str(self.path), f"holds no sample in line {number + 1}", "Remove it and calibrate without --resume."
                    ) from None
        return tuple(found)

    @contextmanager
    def open(self, *, fresh: bool) -> Iterator[Callable[[Sample], None]]:
        """Hand over samples; each is on disk before the next is measured."""
        kept = () if fresh else self.read()
        with self.path.open("w", encoding="utf-8") as handle:

            def keep(sample: Sample) -> None:
                handle.write(sample.model_dump_json() + "\n")
                handle.flush()

            for sample in kept:
                keep(sample)
            yield keep

    def remove(self) -> None:
        """The measurement is complete and written elsewhere."""
        self.path.unlink(missing_ok=True)
