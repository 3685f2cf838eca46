"""Training steps as transformers' Trainer runs them, with the clock read between the phases of each."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from planner.probe.formats import Format
from planner.probe.optimizers import Engine
from planner.probe.tracker import StorageTracker

PHASES = ("forward", "backward", "optimizer")


@dataclass
class Loop:
    """A model with its optimizer and one batch on a device.

    accumulation: micro steps before an update · losses: of the last micro step of each step, to see that training is real.
    """

    model: nn.Module
    engine: Engine
    data: Mapping[str, Any]
    format: Format
    device: torch.device
    accumulation: int = 1
    losses: list[torch.Tensor] = field(default_factory=list)
    tracker: StorageTracker | None = None

    def run(self, steps: int) -> list[dict[str, float]]:
        """`steps` optimizer steps, one after the other; seconds of each whole step (``step``) and of its phases.

        On a GPU steps follow each other without waiting for the device, as in training: a step lasts until the next one begins in the
        stream.
        """
        clock = _Events() if self.device.type == "cuda" else _Clock(self.device)
        for _ in range(steps):
            self._step(clock)
        return clock.read()

    def _step(self, clock: _Events | _Clock) -> None:
        loss: torch.Tensor | None = None
        clock.begin()
        for _ in range(self.accumulation):
            self._phase(clock, "forward")
            with self.format.casts(self.device):
                loss = self.model(**self.data).loss / self.accumulation
            self._phase(clock, "backward")
            assert loss is not None
            self.engine.backward(loss)
            loss = loss.detach()
        self._phase(clock, "optimizer")
        self.engine.clip()
        self.engine.step()
        update = getattr(self.model, "update_and_allocate", None)
        if callable(update):
            update(len(self.losses))  # what peft asks of an AdaLoRA training loop
        assert loss is not None
        if self.tracker is None:
            self.losses.append(loss * self.accumulation)

    def _phase(self, clock: _Events | _Clock, name: str) -> None:
        clock.mark(name)
        if self.tracker is not None:
            self.tracker.phase = name

    def tracked(self) -> dict[str, Any]:
        """Bytes alive over one step, storage by storage: ``peak``, its ``phase``, ``operation`` and ``module``, and what is alive between
        steps (``static``), all [bytes] and unrounded. Slow: every operation is seen."""
        tracker = StorageTracker()
        for tensors in (self.model.parameters(), self.model.buffers(), _tensors(self.data), self.engine.states()):
            for tensor in tensors:
                if tensor.device.type == self.device.type and tensor.numel() > 1:
                    tracker.add(tensor, "static", "")
        gc.collect()
        static = tracker.raw
        tracker.follow_running(self.model)
        self.tracker = tracker
        try:
            with tracker:
                self.run(1)
        finally:
            self.tracker = None
            tracker.unfollow()
        peak = max(tracker.peaks.values(), key=lambda p: p.raw)
        by_phase = {name: tracker.peaks[name].raw for name in PHASES if name in tracker.peaks}
        return {
            "static": static,
            "peak": max(peak.raw, static),
            "phase": peak.phase,
            "operation": peak.op,
            "module": peak.module,
            "by_phase": by_phase,
        }


def _tensors(data: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(dict(data)) if isinstance(leaf, torch.Tensor)]


def _durations(steps: list[list[tuple[str, float]]]) -> list[dict[str, float]]:
    """Seconds by phase from marks (phase, seconds) of each step; the last mark of a step is its end."""
    found = []
    for marks in steps:
        phases = dict.fromkeys(PHASES, 0.0)
        for (name, start), (_, end) in zip(marks, marks[1:], strict=False):
            phases[name] += end - start
        found.append({**phases, "step": marks[-1][1] - marks[0][1]})
    return found


class _Clock:
    """Wall clock between phases, for devices that work where they are asked or can only be waited for."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.steps: list[list[tuple[str, float]]] = []

    def begin(self) -> None:
        """A step begins, and the one before ends."""
        self._end()
        self.steps.append([])

    def mark(self, name: str) -> None:
        """A phase begins."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        self.steps[-1].append((name, time.perf_counter()))

    def read(self) -> list[dict[str, float]]:
        """Seconds by phase and of each step."""
        self._end()
        return _durations(self.steps)

    def _end(self) -> None:
        if self.steps:
            self.mark("")


class _Events:
    """Events on the stream between phases: the device is waited for at the end only."""

    def __init__(self) -> None:
        torch.cuda.synchronize()
        self.make: Any = torch.cuda.Event
        self.steps: list[list[tuple[str, Any]]] = []

    def begin(self) -> None:
        """A step begins, and the one before ends."""
        self._end()
        self.steps.append([])

    def mark(self, name: str) -> None:
        """A phase begins in the stream."""
        event = self.make(enable_timing=True)
        event.record()
        self.steps[-1].append((name, event))

    def read(self) -> list[dict[str, float]]:
        """Seconds by phase and of each step."""
        self._end()
        torch.cuda.synchronize()
        first = self.steps[0][0][1]
        return _durations([[(name, first.elapsed_time(event) / 1e3) for name, event in marks] for marks in self.steps])

    def _end(self) -> None:
        if self.steps:
            self.mark("")
