"""Images in a sequence of tokens: how many there are, and how their features take the place of placeholder tokens.

Source: transformers 5.24, `get_placeholder_mask` and `masked_scatter` in the `modeling_*.py` of vision-language models (Liu et al. 2023, arXiv:2304.08485).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from planner.errors import PlanError
from planner.run import Batch
from planner.workload.graph import Kernel, Tensor
from planner.workload.patches import Patches
from planner.workload.writer import Writer

VISION = "vision"


class Images(Protocol):
    """A front that says how many tokens of the language model an image takes."""

    def features(self, batch: Batch) -> int:
        """Tokens of one image among the text."""


def with_images(batch: Batch) -> Batch:
    """One image a sequence when the run does not say; a vision-language model without any is its text model."""
    if batch.images == 0:
        raise PlanError("batch.images", 0, "leaves the vision tower nothing to do", "Use 1 or more, or plan the text model.")
    return batch.model_copy(update={"images": batch.images or 1})


@dataclass(frozen=True)
class Pictures(Patches):
    """Patches of the images in each sequence. dropped: learned tokens that do not go to the language model · pooled: patches that become one of its tokens."""

    dropped: int = 0
    pooled: int = 1

    @property
    def fields(self) -> tuple[str, ...]:
        return ("images", "image_size")

    def resolve(self, batch: Batch) -> Batch:
        return super().resolve(with_images(batch))

    def sequences(self, batch: Batch) -> int:
        return batch.micro * (batch.images or 1)

    def counted(self, batch: Batch) -> int:
        return 0

    def features(self, batch: Batch) -> int:
        return (self.tokens(batch) - self.dropped) // self.pooled


@dataclass(frozen=True)
class MergeImages:
    """`embeddings.masked_scatter(placeholders, features)`: a new tensor; backward hands each side its part.

    images: front of the tower · listed: features come as one tensor an image and are joined first.
    """

    images: Images
    listed: bool = True
    tower: str = VISION

    def check(self, batch: Batch) -> None:
        taken = self.images.features(batch) * (batch.images or 1)
        if batch.seq_len is not None and taken > batch.seq_len:
            raise PlanError(
                "batch.seq_len", batch.seq_len, f"cannot hold {batch.images} images of {self.images.features(batch)} tokens",
                f"Use at least {taken} tokens, fewer images, or smaller ones.",
            )  # fmt: skip

    def write(self, w: Writer, x: Tensor) -> Tensor:
        g, features = w.graph, w.carried[self.tower]
        if self.listed:
            features = g.copy(features, name="cat")
        features = g.cast(features, x.dtype)
        w.held = (*w.held, features)
        mask = g.new((w.b, w.s.seq, 1), "bool", False, "placeholders")
        y = g.new(x.shape, x.dtype, x.requires_grad or features.requires_grad, "merge")
        moved = (Kernel("elementwise", 2 * y.bytes + features.bytes), Kernel("elementwise", 9 * y.numel))
        saved = (mask,) if y.requires_grad else ()
        g.add_operation("merge", "embedding", (x, features), (y, mask), saved, moved, moved)
        w.held = (*w.held, mask)
        return y
