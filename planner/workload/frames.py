"""Speech2Text's front: mel frames of any length through convolutions that halve them, each with a gate over channels.

Wang et al. 2020, arXiv:2010.05171. Source: transformers 5.24 `Conv1dSubsampler`, `Speech2TextEncoder`.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.errors import PlanError
from planner.run import Batch
from planner.workload.embeddings import sinusoids
from planner.workload.graph import Kernel, Tensor
from planner.workload.speech import SECONDS, convolution
from planner.workload.writer import Writer

FRAMES = 100
"""Mel frames in a second (a step of 10 ms)."""


@dataclass(frozen=True)
class FrameSubsampler:
    """bins: values of a frame · middle: channels between convolutions, twice what their gates leave · kernels: of each convolution ·
    longest: positions that the model has."""

    bins: int
    middle: int
    kernels: tuple[int, ...]
    longest: int
    path: str = "model.encoder"
    fields: tuple[str, ...] = ("audio_seconds",)
    main_input: bool = True

    @property
    def paths(self) -> tuple[str, ...]:
        """Beginnings of its parameters' paths."""
        return (f"{self.path}.conv", f"{self.path}.embed_positions")

    def lengths(self, batch: Batch) -> list[int]:
        """Frames before, between and behind the convolutions."""
        found = [round((batch.audio_seconds or SECONDS) * FRAMES)]
        for kernel in self.kernels:
            found.append((found[-1] + 2 * (kernel // 2) - kernel) // 2 + 1)
        return found

    def resolve(self, batch: Batch) -> Batch:
        batch = batch.model_copy(update={"audio_seconds": batch.audio_seconds or SECONDS})
        if self.lengths(batch)[-1] > self.longest:
            raise PlanError(
                "batch.audio_seconds", batch.audio_seconds, f"are more than the {self.longest} positions of the encoder", "Use shorter clips."
            )
        return batch

    def tokens(self, batch: Batch) -> int:
        return self.lengths(batch)[-1]

    def sequences(self, batch: Batch) -> int:
        return batch.micro

    def counted(self, batch: Batch) -> int:
        return 0

    def write(self, w: Writer, require_grad: bool) -> Tensor:
        g, h, lengths = w.graph, w.arch.hidden, self.lengths(w.s.given)
        frames = g.input((w.b, lengths[0], self.bins), w.s.formats.graph, "mel")
        x = g.copy(frames, (w.b, self.bins, lengths[0]))
        channels, last = self.bins, len(self.kernels) - 1
        for i, kernel in enumerate(self.kernels):
            out = 2 * h if i == last else self.middle
            y = convolution(w, f"{self.path}.conv.conv_layers.{i}", x, channels, out, kernel, lengths[i + 1], bias=True)
            channels = out // 2
            x = g.new((w.b, channels, lengths[i + 1]), y.dtype, y.requires_grad, "glu")
            moved = (Kernel("elementwise", y.bytes + x.bytes),)
            back = (Kernel("elementwise", 2 * y.bytes + x.bytes),)
            g.add_operation("glu", "elementwise", (y,), (x,), (y,) if y.requires_grad else (), moved, back)
        x = g.copy(x, (w.b, lengths[-1], h))
        if w.arch.embedding_scaled:
            x = g.unary("embedding_scale", x, save="none")
        w.local = (*w.local, x)  # `inputs_embeds`
        positions = sinusoids(w)
        w.local = (*w.local, positions)
        return g.dropout(g.add(x, positions), w.active(w.arch.embedding_dropout))
