"""Two towers, images and text, trained to agree (Radford et al. 2021, arXiv:2103.00020; Zhai et al. 2023, arXiv:2303.15343).

Source: transformers 5.24, `CLIPModel` and `SiglipModel`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from planner.workload.graph import Kernel, Tensor
from planner.workload.heads import scalar_loss
from planner.workload.vision_heads import pool
from planner.workload.writer import Writer


@dataclass(frozen=True)
class PooledTower:
    """The end of an image tower: norm, pooling and projection, in the orders of CLIP and SigLIP.

    norm: path, over the pooled token (first) or over all of them · attention: path of an attention pooling head ·
    projection: path of a linear layer without bias, and its width.
    """

    norm: str
    pooled_first: bool
    attention: PoolingHead | None = None
    projection: str = ""
    width: int = 0

    @property
    def linears(self) -> tuple[str, ...]:
        head = self.attention.linears if self.attention is not None else ()
        return (*head, *((self.projection,) if self.projection else ()))

    def write(self, w: Writer, x: Tensor) -> Tensor:
        h = w.arch.hidden
        if not self.pooled_first:
            x = w.norm(self.norm, x, h)
        w.held = (*w.held, x)  # `last_hidden_state` of the tower's output
        if self.pooled_first:
            x = w.norm(self.norm, pool(w, x, "first", 1), h)
        if self.attention is not None:
            x = self.attention.write(w, x)
        return w.linear(self.projection, x, self.width, base=False) if self.projection else x


@dataclass(frozen=True)
class PoolingHead:
    """SigLIP's attention pooling: one learned query over all tokens, then an MLP with a residual sum.

    path: of the head · heads, ffn: sizes. torch's `MultiheadAttention` keeps its scores, since it also returns them.
    """

    path: str
    heads: int
    ffn: int

    @property
    def linears(self) -> tuple[str, ...]:
        return tuple(f"{self.path}.{name}" for name in ("attention.out_proj", "mlp.fc1", "mlp.fc2"))

    def write(self, w: Writer, x: Tensor) -> Tensor:
        g, h, b, t, p, heads = w.graph, w.arch.hidden, w.b, w.t, self.path, self.heads
        d = h // heads
        probe = g.copy(w.weight(f"{p}.probe", (1, 1, h)), (b, 1, h), name="repeat")
        packed, offset = w.weight(f"{p}.attention.in_proj_weight", (3 * h, h)), w.weight(f"{p}.attention.in_proj_bias", (3 * h,))
        weight_q, weight_kv = g.split(packed, [(h, h), (2 * h, h)])
        bias_q, bias_kv = g.split(offset, [(h,), (2 * h,)])
        q = g.linear(probe, weight_q, bias_q)
        both = g.linear(x, weight_kv, bias_kv)
        k, v = g.split(g.copy(both), [(b, heads, t, d), (b, heads, t, d)])
        q = g.unary("query_scale", q, save="none")
        scores = g.batched_matmul(q, k, 1, t, d, b * heads, (b, heads, 1, t), "scores")
        weights = g.softmax(g.raise_(scores))
        y = g.view(g.copy(g.batched_matmul(weights, v, 1, d, t, b * heads, (b, heads, 1, d), "context")), (b, 1, h))
        if w.s.adaptation.adapts(f"{p}.attention.out_proj") and w.s.adaptation.beside is not None:
            # torch's attention reads the wrapped layer's weight and goes around what stands beside it
            w.s.adaptation.beside(w, f"{p}.attention.out_proj", g.new(y.shape, y.dtype, False), h, lambda z: z)
        y = g.linear(
            y, w.weight(f"{p}.attention.out_proj.weight", (h, h)), w.weight(f"{p}.attention.out_proj.bias", (h,))
        )
        residual = y
        y = w.activation(w.linear(f"{p}.mlp.fc1", w.norm(f"{p}.layernorm", y, h), self.ffn, bias=True, base=False))
        y = w.linear(f"{p}.mlp.fc2", y, h, bias=True, base=False)
        return g.split(g.add(residual, y, name="residual"), [(b, h)])[0]


@dataclass(frozen=True)
class TowerFeatures:
    """An image tower by itself, without a loss of its own: the mean stands in."""

    tail: PooledTower
    kind: str = "none"

    @property
    def linears(self) -> tuple[str, ...]:
        return self.tail.linears

    def write(self, w: Writer, x: Tensor) -> Tensor:
        return scalar_loss(w, self.tail.write(w, x))


@dataclass(frozen=True)
class Contrastive:
    """Similarities of all images and texts of the batch, and their loss.

    loss: softmax over rows and columns (CLIP) or a sigmoid of every pair (SigLIP) · images: name of the image tower ·
    projection: path of the text's linear layer · width: of the shared space · bias: it has one ·
    beside: the towers stand beside each other, so that the layers of each are counted from its own first.
    """

    projection: str
    width: int
    bias: bool
    loss: Literal["softmax", "sigmoid"]
    images: str = "vision"
    kind: str = "contrastive"
    beside: bool = True

    @property
    def linears(self) -> tuple[str, ...]:
        return (self.projection,)

    def write(self, w: Writer, x: Tensor) -> Tensor:
        g, b = w.graph, w.b
        if w.arch.final_norm:
            x = w.norm(w.names.final_norm, x, w.arch.hidden)
        w.held = (*w.held, x)
        pooled = g.split(x, [(b, w.arch.hidden)])[0]
        if self.loss == "softmax":  # picked by index, which copies; SigLIP takes the last token, a view
            pooled = g.unary("index", pooled, save="none")
        text = w.linear(self.projection, pooled, self.width, bias=self.bias, base=False)
        image = self._unit(w, w.carried[self.images])
        text = self._unit(w, text)
        logits = g.batched_matmul(text, image, b, b, self.width, 1, (b, b), "similarity")
        scale = g.unary("exp", g.raise_(w.weight("logit_scale", (1,))), save="output")
        logits = g.mul(logits, scale, name="logit_scale")
        if self.loss == "sigmoid":
            logits = g.add(logits, w.weight("logit_bias", (1,)))
            signs = g.new((b, b), logits.dtype, False, "signs")
            g.add_operation("signs", "elementwise", (), (signs,), (), (Kernel("elementwise", signs.bytes),), ())
            return self._mean(w, g.unary("logsigmoid", g.mul(signs, logits)))
        parts = [g.softmax(logits, "fp32" if g.autocast else None, name="log_softmax") for _ in range(2)]
        return g.add(self._mean(w, parts[0]), self._mean(w, parts[1]))

    @staticmethod
    def _unit(w: Writer, x: Tensor) -> Tensor:
        """x divided by its length."""
        g = w.graph
        square = g.unary("pow", g.raise_(x), scratch=2.0)
        length = g.new((*x.shape[:-1], 1), square.dtype, x.requires_grad, "length")
        moved = (Kernel("reduction", square.bytes),)
        g.add_operation("sum", "norm", (square,), (length,), (), moved, moved)
        return g.mul(x, g.unary("reciprocal", g.unary("pow", length), save="output"), name="normalize")

    @staticmethod
    def _mean(w: Writer, x: Tensor) -> Tensor:
        g = w.graph
        loss = g.new((1,), "fp32", x.requires_grad, "loss")
        moved = (Kernel("reduction", x.bytes),)
        g.add_operation("loss", "loss", (x,), (loss,), (), moved, moved)
        return loss
