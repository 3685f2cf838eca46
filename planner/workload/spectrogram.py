"""Audio spectrogram transformer: overlapping patches of a mel spectrogram in place of those of an image.

Gong et al. 2021, arXiv:2104.01778. Source: transformers 5.24 `modeling_audio_spectrogram_transformer.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.run import Batch
from planner.workload.graph import Tensor
from planner.workload.heads import scalar_loss
from planner.workload.patches import Patches
from planner.workload.vision_heads import class_loss
from planner.workload.writer import Writer


@dataclass(frozen=True)
class Spectrogram(Patches):
    """`image`: mel bins and frames, of a fixed length · stride: between patches, which overlap [bins and frames]."""

    stride: tuple[int, int] = (10, 10)

    @property
    def note(self) -> str:
        return f"Every clip is padded or cut to {self.image[1]} frames, as the model's extractor does."

    @property
    def fields(self) -> tuple[str, ...]:
        return ()

    def resolve(self, batch: Batch) -> Batch:
        return batch

    def size(self, batch: Batch) -> tuple[int, int]:
        return self.image

    def grid(self, batch: Batch) -> tuple[int, int]:
        bins, frames = ((length - patch) // step + 1 for length, patch, step in zip(self.image, self.patch, self.stride, strict=True))
        return bins, frames

    def _rows(self) -> int:
        bins, frames = self.grid(Batch())
        return bins * frames + sum(n for _, n in self.before)


@dataclass(frozen=True)
class ClipHead:
    """The mean of the two learned tokens, then (as a classifier) a norm and a linear layer. labels: 0 for the model without a head."""

    labels: int
    kind: str = "audio-classification"

    @property
    def linears(self) -> tuple[str, ...]:
        return ("classifier.dense",) if self.labels else ()

    def write(self, w: Writer, x: Tensor) -> Tensor:
        g, h = w.graph, w.arch.hidden
        x = w.norm(w.names.final_norm, x, h)
        if not self.labels:
            return scalar_loss(w, x)
        w.held = (*w.held, x)
        first, second = g.split(x, [(w.b, h), (w.b, h)])
        pooled = g.unary("half", g.add(first, second, name="pool"), save="none")
        pooled = w.norm("classifier.layernorm", pooled, h)
        return class_loss(w, w.linear("classifier.dense", pooled, self.labels, bias=True, base=False))
