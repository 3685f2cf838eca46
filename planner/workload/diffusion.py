"""Diffusion transformers: latents in patches in front, the predicted noise and its mean squared error at the end.

Latents come precomputed from a frozen VAE outside of the step, and so do the states of the text encoders: that is how the training scripts of
diffusers 0.42 run them. Source: its `models/embeddings.py` (PatchEmbed) and the ends of `transformer_*.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.errors import PlanError
from planner.run import Batch
from planner.workload.conditioning import bare_norm, given, linear, modulate, placed, signals, table_rows
from planner.workload.graph import Kernel, Tensor
from planner.workload.writer import Writer

COMPRESSION = 8
"""Pixels a side of a latent: that of the VAEs of all models covered."""
CONDITIONING = "conditioning"
"""Key under which the front hands the conditioning [b, h] to the blocks."""
TEXT = "text"


@dataclass(frozen=True)
class Latents:
    """Fields of the batch that a diffusion transformer reads.

    channels: of a latent · patch: latents a side of a token · size: default image [pixel a side] · grid: most tokens a side, 0 for any ·
    text: default tokens of the text states, 0 where there are none.
    """

    channels: int
    patch: int
    size: int
    grid: int = 0
    text: int = 0

    @property
    def note(self) -> str:
        return "Latents and the text's states are precomputed: VAE and text encoders run outside of the step."

    @property
    def fields(self) -> tuple[str, ...]:
        return ("image_size", "seq_len") if self.text else ("image_size",)

    def resolve(self, batch: Batch) -> Batch:
        size, step = batch.image_size or self.size, COMPRESSION * self.patch
        if size % step:
            raise PlanError(
                "batch.image_size", size, f"is no whole number of patches of {step} pixels", f"Use a multiple of {step}."
            )
        if self.grid and size // step > self.grid:
            raise PlanError(
                "batch.image_size", size, f"is more than the {self.grid} × {self.grid} positions of the model", f"Use at most {self.grid * step}."
            )
        filled = {"image_size": size} | ({"seq_len": batch.seq_len or self.text} if self.text else {})
        return batch.model_copy(update=filled)

    @property
    def positions(self) -> int:
        """Rows of the table of positions that comes with the model."""
        return (self.grid or self.size // (COMPRESSION * self.patch)) ** 2

    def sequences(self, batch: Batch) -> int:
        return batch.micro

    def image_tokens(self, batch: Batch) -> int:
        """Patches of one image."""
        assert batch.image_size is not None
        return (batch.image_size // (COMPRESSION * self.patch)) ** 2

    def tokens(self, batch: Batch) -> int:
        return self.image_tokens(batch)

    def counted(self, batch: Batch) -> int:
        return self.image_tokens(batch)

    def patches(self, w: Writer, positions: float, cropped: bool = False) -> Tensor:
        """A convolution whose stride is its width makes tokens of the latents; a fixed table of positions is added.

        cropped: the middle of a larger table is taken, which copies it.
        """
        g, h = w.graph, w.arch.hidden
        n, inner = self.image_tokens(w.s.given), self.channels * self.patch**2
        x = given(w, w.b, n, inner, name="latents")
        weight = w.weight("pos_embed.proj.weight", (h, inner))
        y = g.linear(x, weight, w.weight("pos_embed.proj.bias", (h,)), name="patches")
        table = table_rows(w, "pos_embed.pos_embed", positions, h)
        if cropped:
            part = g.new((1, n, h), table.dtype, False, "cropped_positions")
            g.add_operation("crop", "elementwise", (), (part,), (), (Kernel("elementwise", 2 * part.bytes),), ())
        y = placed(w, y, table)
        return g.copy(y) if cropped and w.s.eager else y


@dataclass(frozen=True)
class Denoising:
    """The last modulated norm, the projection to patches, and the mean squared error of the noise or velocity.

    norm: path of the linear layer that makes scale and shift · projection: path of the output layer · width: values of a token ·
    learned: share of them that the loss takes (half where a variance is predicted beside) · patched: tokens are put back into an image.
    """

    norm: str
    projection: str
    width: int
    learned: float = 1.0
    patched: bool = True
    kind: str = "denoising"

    @property
    def linears(self) -> tuple[str, ...]:
        return (self.norm, self.projection)

    def write(self, w: Writer, x: Tensor) -> Tensor:
        x = image_part(w, x)
        first, second = signals(w, self.norm, self.conditioning(w), 2, w.arch.hidden)
        return self.loss(w, linear(w, self.projection, modulate(w, bare_norm(w, x), first, second), self.width))

    def conditioning(self, w: Writer) -> Tensor:
        """What scale and shift are made of."""
        return w.carried[CONDITIONING]

    def loss(self, w: Writer, y: Tensor) -> Tensor:
        """Patches put back into an image; both sides of the error in fp32."""
        g = w.graph
        if self.patched:
            y = g.copy(y, name="unpatchify")
        taken = (w.b, y.numel / w.b * self.learned)
        if self.learned != 1.0:
            y = g.split(y, [taken])[0]
        target = given(w, *taken, name="target")
        y, target = g.cast(y, "fp32"), g.cast(target, "fp32")
        loss = g.new((1,), "fp32", y.requires_grad, "loss")
        saved = (y, target) if y.requires_grad else ()
        moved = (Kernel("reduction", 2 * y.bytes),)
        g.add_operation("mse_loss", "loss", (y, target), (loss,), saved, moved, moved)
        return loss


def image_part(w: Writer, x: Tensor) -> Tensor:
    """The image's tokens of what the last block returned."""
    front = w.arch.front
    n = front.counted(w.s.given) if front is not None else x.shape[1]
    return x if x.shape[1] == n else w.graph.split(x, [(w.b, n, w.arch.hidden)])[0]
