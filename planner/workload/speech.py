"""Fronts and heads of speech models: Whisper's mel window, wav2vec 2.0's convolutions over the wave, and what stands on top.

Radford et al. 2022, arXiv:2212.04356 (sec. 2.2); Baevski et al. 2020, arXiv:2006.11477 (sec. 2).
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.errors import PlanError
from planner.run import Batch
from planner.workload.graph import Kernel, Tensor
from planner.workload.writer import Writer

RATE = 16_000
"""Samples of sound in a second."""
SECONDS = 10.0
"""Length of a recording when the run does not say."""


@dataclass(frozen=True)
class MelWindow:
    """Whisper's encoder input: a log-mel spectrogram of a fixed window, two frames a position, through two convolutions."""

    mels: int
    positions: int
    path: str = "model.encoder"
    fields: tuple[str, ...] = ()
    main_input: bool = True
    """transformers makes token embeddings require a gradient for checkpoints only where tokens are the main input."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Beginnings of its parameters' paths."""
        return f"{self.path}.conv", f"{self.path}.embed_positions"

    def resolve(self, batch: Batch) -> Batch:
        return batch

    def tokens(self, batch: Batch) -> int:
        return self.positions

    def sequences(self, batch: Batch) -> int:
        return batch.micro

    def counted(self, batch: Batch) -> int:
        return 0

    def write(self, w: Writer, require_grad: bool) -> Tensor:
        g, h, frames = w.graph, w.arch.hidden, 2 * self.positions
        x = g.input((w.b, self.mels, frames), w.s.formats.graph, "mel")
        for name, channels, length in (("conv1", self.mels, frames), ("conv2", h, self.positions)):
            x = convolution(w, f"{self.path}.{name}", x, channels, h, 3, length, bias=True)
            x = g.unary("gelu", x)
        x = g.view(x, (w.b, self.positions, h))
        w.held = (*w.held, x)  # `inputs_embeds`
        x = g.add(x, w.fixed(f"{self.path}.embed_positions.weight", (float(self.positions), float(h))))
        return g.dropout(x, w.active(w.arch.embedding_dropout))


def convolution(
    w: Writer,
    path: str,
    x: Tensor,
    channels: float,
    out: float,
    kernel: float,
    length: float,
    *,
    bias: bool,
) -> Tensor:
    """A one-dimensional convolution of the base model to `length` positions."""
    weight = w.weight(f"{path}.weight", (out, channels, kernel))
    offset = w.weight(f"{path}.bias", (out,)) if bias else None
    return w.graph.convolution(x, weight, offset, (w.b, out, length))


@dataclass(frozen=True)
class WaveEncoder:
    """wav2vec 2.0's front: convolutions over the wave, a projection, and positions from a grouped convolution.

    widths, kernels, strides: of each convolution · group_norm: after the first one (base), else a LayerNorm after each (large) ·
    bias: of the convolutions · position_kernel, position_groups: of the positional one · projection_norm: before the projection ·
    late_norm: the encoder's norm stands behind the blocks, not here · masked: a vector that replaces masked frames is a parameter.
    The wave itself requires a gradient (transformers sets it for checkpoints), whether the convolutions are trained or not.
    """

    path: str
    widths: tuple[int, ...]
    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    group_norm: bool
    bias: bool
    activation: str
    position_kernel: int
    position_groups: int
    projection_norm: bool
    projection_dropout: float
    late_norm: bool
    masked: bool
    fields: tuple[str, ...] = ("audio_seconds",)
    checkpoints: str = "none"

    @property
    def paths(self) -> tuple[str, ...]:
        """Beginnings of its parameters' paths."""
        return tuple(
            f"{self.path}.{name}"
            for name in ("feature_extractor", "feature_projection", "encoder.pos_conv_embed", "masked_spec_embed")
        )

    def resolve(self, batch: Batch) -> Batch:
        made = batch if batch.audio_seconds is not None else batch.model_copy(update={"audio_seconds": SECONDS})
        if self.tokens(made) < 1:
            raise PlanError(
                "batch.audio_seconds",
                made.audio_seconds,
                "is shorter than one frame of the model",
                "Give the length of a recording in seconds, for example 10.",
            )
        return made

    def tokens(self, batch: Batch) -> int:
        return self._lengths(batch)[-1]

    def _lengths(self, batch: Batch) -> list[int]:
        lengths = [round((batch.audio_seconds or 0.0) * RATE)]
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            lengths.append((lengths[-1] - kernel) // stride + 1)
        return lengths

    def sequences(self, batch: Batch) -> int:
        return batch.micro

    def counted(self, batch: Batch) -> int:
        return self.tokens(batch)

    def write(self, w: Writer, require_grad: bool) -> Tensor:
        g, h, p = w.graph, w.arch.hidden, self.path
        lengths = self._lengths(w.s.given)
        x = g.leaf(g.input((w.b, 1, lengths[0]), w.s.formats.graph, "wave"))
        for i, (width, kernel) in enumerate(zip(self.widths, self.kernels, strict=True)):
            layer = f"{p}.feature_extractor.conv_layers.{i}"
            x = convolution(w, f"{layer}.conv", x, x.shape[1], width, kernel, lengths[i + 1], bias=self.bias)
            if self.group_norm and i == 0:  # a group for every channel
                x = self._norm(w, f"{layer}.layer_norm", x, width)
            elif not self.group_norm:
                x = g.view(x, (w.b, lengths[i + 1], width))
                x = g.view(self._norm(w, f"{layer}.layer_norm", x, width), (w.b, width, lengths[i + 1]))
            x = g.unary(self.activation, x)
        x = g.view(x, (w.b, w.t, self.widths[-1]))
        if self.projection_norm:
            x = self._norm(w, f"{p}.feature_projection.layer_norm", x, self.widths[-1])
            w.held = (*w.held, x)  # `extract_features`
        x = w.linear(f"{p}.feature_projection.projection", x, h, bias=True, base=False)
        x = g.dropout(x, w.active(self.projection_dropout))
        if self.masked:
            w.weight(f"{p}.masked_spec_embed", (float(h),))
        x = g.add(x, g.view(self._positions(w, g.view(x, (w.b, h, w.t))), (w.b, w.t, h)))
        if not self.late_norm:
            x = self._norm(w, f"{p}.encoder.layer_norm", x, h)
        return g.dropout(x, w.active(w.arch.embedding_dropout))

    def _norm(self, w: Writer, path: str, x: Tensor, width: float) -> Tensor:
        weight, bias = w.weight(f"{path}.weight", (width,)), w.weight(f"{path}.bias", (width,))
        return w.graph.layer_norm(x, weight, bias, fused_dtype=None if w.s.eager else x.dtype)

    def _positions(self, w: Writer, x: Tensor) -> Tensor:
        """A convolution with a normed weight (Salimans & Kingma 2016, arXiv:1602.07868), cut to the sequence."""
        g, h, kernel = w.graph, w.arch.hidden, self.position_kernel
        path = f"{self.path}.encoder.pos_conv_embed.conv"
        size = w.weight(f"{path}.parametrizations.weight.original0", (1.0, 1.0, float(kernel)))
        direction = w.weight(
            f"{path}.parametrizations.weight.original1", (float(h), h / self.position_groups, float(kernel))
        )
        weight = g.new(direction.shape, direction.dtype, direction.requires_grad, "normed_weight")
        moved = (Kernel("reduction", 2 * weight.bytes), Kernel("elementwise", 2 * weight.bytes))
        g.add_operation("weight_norm", "norm", (size, direction), (weight,), (), moved, moved)
        bias = w.weight(f"{path}.bias", (float(h),))
        even = 1 - kernel % 2
        y = g.convolution(x, weight, bias, (w.b, h, w.t + even), groups=self.position_groups)
        if even:
            y = g.split(y, [(w.b, h, w.t)])[0]
        return g.unary(self.activation, y)


@dataclass(frozen=True)
class CharacterLoss:
    """Connectionist temporal classification over characters (Graves et al. 2006): a linear layer on every frame."""

    vocab: int
    dropout: float
    kind: str = "ctc"
    linears: tuple[str, ...] = ("lm_head",)

    def write(self, w: Writer, x: Tensor) -> Tensor:
        g = w.graph
        if w.arch.final_norm:
            x = w.norm(w.names.final_norm, x, w.arch.hidden)
        x = g.dropout(x, w.active(self.dropout))
        g.category = "logits"
        logits = w.linear("lm_head", x, self.vocab, bias=True, base=False)
        probabilities = g.softmax(g.cast(logits, "fp32", name="logits_upcast"), name="log_softmax")
        loss = g.new((1,), "fp32", probabilities.requires_grad, "loss")
        moved = (Kernel("reduction", 2 * probabilities.bytes),)
        saved = (probabilities,) if probabilities.requires_grad else ()
        g.add_operation("ctc_loss", "loss", (probabilities,), (loss,), saved, moved, moved)
        return loss


@dataclass(frozen=True)
class ClipClassifier:
    """A class for the whole recording: projection of every frame, mean, linear layer."""

    width: int
    labels: int
    kind: str = "audio-classification"
    linears: tuple[str, ...] = ("projector", "classifier")

    def write(self, w: Writer, x: Tensor) -> Tensor:
        g = w.graph
        if w.arch.final_norm:
            x = w.norm(w.names.final_norm, x, w.arch.hidden)
        x = w.linear("projector", x, self.width, bias=True, base=False)
        pooled = g.new((w.b, self.width), x.dtype, x.requires_grad, "mean")
        moved = (Kernel("reduction", x.bytes),)
        g.add_operation("mean", "elementwise", (x,), (pooled,), (), moved, (Kernel("elementwise", x.bytes),))
        logits = w.linear("classifier", pooled, self.labels, bias=True, base=False)
        loss = g.new((1,), "fp32", logits.requires_grad, "loss")
        probabilities = g.softmax(g.raise_(logits), name="log_softmax")
        moved = (Kernel("reduction", logits.bytes),)
        g.add_operation("nll_loss", "loss", (probabilities,), (loss,), (), moved, moved)
        return loss
