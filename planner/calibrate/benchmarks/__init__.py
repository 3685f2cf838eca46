"""Microbenchmarks, one a file. Each registers itself with a name and yields its cases, the most telling first."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from planner.calibrate.hardware import Hardware


@dataclass(frozen=True)
class Case:
    """Something to time.

    shape: what the fit needs to know · prepare: makes the data and returns the work · least_budget: not measured within less [s], for what takes
    long to prepare · unthrottled: repetitions with the clock held down do not count.
    """

    shape: dict[str, float | str]
    prepare: Callable[[], Callable[[], Any]]
    least_budget: float = 0.0
    unthrottled: bool = True


@dataclass(frozen=True)
class Benchmark:
    """A family of cases. share: part of the budget that it gets."""

    name: str
    label: str
    share: float
    cases: Callable[[Hardware], Iterator[Case]]


_FOUND: dict[str, Benchmark] = {}


def benchmark(name: str, label: str, share: float) -> Callable[[Callable[[Hardware], Iterator[Case]]], Benchmark]:
    """Register a generator of cases."""

    def register(cases: Callable[[Hardware], Iterator[Case]]) -> Benchmark:
        made = _FOUND[name] = Benchmark(name, label, share, cases)
        return made

    return register


def benchmarks() -> tuple[Benchmark, ...]:
    """All of them, by name."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return tuple(_FOUND[name] for name in sorted(_FOUND))
