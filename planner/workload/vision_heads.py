"""What stands on top of a vision transformer: pooling, classifier and loss, or pooled features.

Source: transformers 5.24, the `ForImageClassification` classes and their pooling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from planner.workload.graph import Kernel, Tensor
from planner.workload.heads import scalar_loss
from planner.workload.writer import Writer

Pooling = Literal["first", "mean", "patches", "first+patches"]


@dataclass(frozen=True)
class ImageClassifier:
    """One linear layer on pooled tokens, and cross entropy.

    skipped: tokens before the patches · norm: path of a norm of the pooled vector · unused: of a norm that takes no part.
    """

    classifier: str
    labels: int
    pooling: Pooling = "first"
    skipped: int = 1
    norm: str = ""
    unused: str = ""
    kind: str = "image-classification"

    @property
    def linears(self) -> tuple[str, ...]:
        return (self.classifier,)

    def write(self, w: Writer, x: Tensor) -> Tensor:
        if w.arch.final_norm:
            x = w.norm(w.names.final_norm, x, w.arch.hidden)
        if self.unused:
            w.weight(self.unused + ".weight", (w.arch.hidden,))
            w.weight(self.unused + ".bias", (w.arch.hidden,))
        x = pool(w, x, self.pooling, self.skipped)
        if self.norm:
            x = w.norm(self.norm, x, w.arch.hidden)
        return class_loss(w, w.linear(self.classifier, x, self.labels, bias=True, base=False))


@dataclass(frozen=True)
class Features:
    """Pooled features without a loss of their own: the mean stands in. dense: path of a layer with tanh on the first token."""

    dense: str = ""
    width: int = 0
    norm_pooled: str = ""
    pooling: Pooling | None = None
    skipped: int = 1
    kind: str = "none"

    @property
    def linears(self) -> tuple[str, ...]:
        return (self.dense,) if self.dense else ()

    def write(self, w: Writer, x: Tensor) -> Tensor:
        if w.arch.final_norm:
            x = w.norm(w.names.final_norm, x, w.arch.hidden)
        if self.pooling is not None:
            x = pool(w, x, self.pooling, self.skipped)
        if self.norm_pooled:
            x = w.norm(self.norm_pooled, x, w.arch.hidden)
        if self.dense:
            x = w.linear(self.dense, pool(w, x, "first", 1), self.width, bias=True, base=False)
            x = w.graph.unary("tanh", x, save="output")
        return scalar_loss(w, x)


@dataclass(frozen=True)
class Detector:
    """Class and box of each detection token (Fang et al. 2021, arXiv:2106.00666), or of each object query (Carion et al.
    2020, arXiv:2005.12872). The loss is a mean: Hungarian matching runs on the CPU and is not modelled.

    tokens: the last ones are taken, 0 for all · class_layers, box_layers: depth of the two heads · prefix: of their paths.
    """

    labels: int
    tokens: int = 0
    class_layers: int = 3
    box_layers: int = 3
    kind: str = "object-detection"

    @property
    def linears(self) -> tuple[str, ...]:
        return (*self._paths("class_labels_classifier", self.class_layers), *self._paths("bbox_predictor", self.box_layers))

    @staticmethod
    def _paths(name: str, depth: int) -> tuple[str, ...]:
        return (name,) if depth == 1 else tuple(f"{name}.layers.{i}" for i in range(depth))

    def write(self, w: Writer, x: Tensor) -> Tensor:
        g, h = w.graph, w.arch.hidden
        if w.arch.final_norm:
            x = w.norm(w.names.final_norm, x, h)
        if self.tokens:
            x = g.split(x, [(w.b, self.tokens, h)])[0]
        classes = self._mlp(w, x, "class_labels_classifier", self.class_layers, self.labels + 1)
        boxes = g.unary("sigmoid", self._mlp(w, x, "bbox_predictor", self.box_layers, 4), save="output")
        loss = g.add(scalar_loss(w, g.cast(classes, "fp32")), scalar_loss(w, g.cast(boxes, "fp32")))
        g.release(classes, boxes)
        return loss

    def _mlp(self, w: Writer, x: Tensor, name: str, depth: int, out: int) -> Tensor:
        g = w.graph
        for i, path in enumerate(self._paths(name, depth)):
            last = i == depth - 1
            if i == 0 and self.tokens:  # the linear layer copies what is not contiguous
                x = g.copy(x)
            x = w.linear(path, x, out if last else w.arch.hidden, bias=True, base=False)
            x = x if last else g.unary("relu", x, save="output")
        return x


def pool(w: Writer, x: Tensor, pooling: Pooling, skipped: int) -> Tensor:
    """[b, t, h] to one vector a sample: the first token (a view), the mean, or both joined."""
    g, h = w.graph, w.arch.hidden
    if pooling == "first":
        return g.split(x, [(w.b, h)])[0]
    if pooling == "mean":
        return mean(w, x)
    patches = w.t - skipped
    if pooling == "patches":
        return mean(w, g.split(x, [(w.b, patches, h)])[0])
    first, rest = g.split(x, [(w.b, h), (w.b, patches, h)])
    return g.cat([first, mean(w, rest)], (w.b, 2 * h))


def mean(w: Writer, x: Tensor) -> Tensor:
    """Mean over the tokens; keeps nothing."""
    g = w.graph
    y = g.new((x.shape[0], x.shape[-1]), x.dtype, x.requires_grad, "mean")
    moved = (Kernel("reduction", x.bytes),)
    g.add_operation("mean", "norm", (x,), (y,), (), moved, (Kernel("elementwise", x.bytes),))
    return y


def class_loss(w: Writer, logits: Tensor) -> Tensor:
    """Cross entropy of a few classes."""
    g = w.graph
    loss = g.new((1,), "fp32", logits.requires_grad, "loss")
    probabilities = g.softmax(logits, "fp32" if g.autocast else None, name="log_softmax")
    moved = (Kernel("reduction", logits.bytes),)
    g.add_operation("nll_loss", "loss", (probabilities,), (loss,), (), moved, (Kernel("elementwise", logits.bytes),))
    return loss
