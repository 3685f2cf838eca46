"""A detector as a transformer over the features of a convolutional network (Carion et al. 2020, arXiv:2005.12872).

Positions are added to queries and keys (never to values) in every layer; the decoder's tokens are learned object queries. Source: transformers
5.24 `modeling_detr.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.errors import PlanError
from planner.run import Batch
from planner.workload.attention import core
from planner.workload.graph import BATCH, Kernel, Tensor
from planner.workload.mlp import mlp
from planner.workload.resnet import ResNet
from planner.workload.writer import Writer

PLACES, QUERIES = "places", "object queries"
DEFAULT_SIZE = 800
"""Side of an image when the run does not say [pixel]: the shorter side that DETR's image processor resizes to."""
LEARNED_ROWS = 50


@dataclass(frozen=True)
class FeatureMap:
    """The encoder's front: a backbone, a 1 × 1 convolution to the width of the blocks, and the positions that all blocks add.

    learned: positions are two tables, of rows and of columns, else sines.
    """

    backbone: ResNet
    prefix: str
    learned: bool
    fields: tuple[str, ...] = ("image_size",)
    main_input: bool = True

    @property
    def note(self) -> str:
        return "All images are squares of batch.image_size; matching of boxes runs on the CPU and is not in the time."

    @property
    def paths(self) -> tuple[str, ...]:
        """Beginnings of its parameters' paths."""
        return tuple(f"{self.prefix}.{name}" for name in ("backbone", "input_projection", "position_embedding"))

    def resolve(self, batch: Batch) -> Batch:
        size = batch.image_size or DEFAULT_SIZE
        side = self.backbone.side(size)
        if self.learned and side > LEARNED_ROWS:
            raise PlanError(
                "batch.image_size", size, f"gives {side} rows of features, while {LEARNED_ROWS} have a position", "Use a smaller image."
            )
        return batch.model_copy(update={"image_size": size})

    def side(self, batch: Batch) -> int:
        """Rows (and columns) of the feature map."""
        return self.backbone.side(batch.image_size or DEFAULT_SIZE)

    def tokens(self, batch: Batch) -> int:
        return self.side(batch) ** 2

    def sequences(self, batch: Batch) -> int:
        return batch.micro

    def counted(self, batch: Batch) -> int:
        return self.tokens(batch)

    def write(self, w: Writer, require_grad: bool) -> Tensor:
        g, h, given = w.graph, w.arch.hidden, w.s.given
        size, side = given.image_size or DEFAULT_SIZE, self.side(given)
        stored = w.s.formats.stored
        dtype = stored if stored in ("bf16", "fp16") else "fp32"
        pixels = g.new((w.b, self.backbone.channels, size, size), dtype, False, BATCH)
        whole = g.new((w.b, size, size), "fp32", False, "pixel_mask")
        g.add_operation("pixels", "embedding", (), (pixels, whole), (), (), ())
        w.arguments = (*w.arguments, pixels)
        features = self.backbone.write(w, pixels)
        weight = w.weight(f"{self.prefix}.input_projection.weight", (h, features.shape[1], 1, 1))
        bias = w.weight(f"{self.prefix}.input_projection.bias", (h,))
        x = g.view(g.convolution(features, weight, bias, (w.b, h, side, side)), (w.b, w.t, h))
        w.outer = (whole, features, x)
        places = self._learned(w) if self.learned else self._sines(w, dtype)
        w.carried[PLACES] = places
        w.arguments = (*w.arguments, places)
        return g.dropout(x, w.active(w.arch.embedding_dropout))

    def _sines(self, w: Writer, dtype: str) -> Tensor:
        """Made anew for each batch, whose padding they follow; in the type of the pixels."""
        g = w.graph
        places = g.new((w.b, w.t, w.arch.hidden), dtype, False, PLACES)
        moved = (Kernel("elementwise", places.bytes),) * 6
        g.add_operation(PLACES, "elementwise", (), (places,), (), moved, ())
        return places

    def _learned(self, w: Writer) -> Tensor:
        g, half = w.graph, w.arch.hidden // 2
        tables = [
            w.weight(f"{self.prefix}.position_embedding.{name}_embeddings.weight", (LEARNED_ROWS, half)) for name in ("row", "column")
        ]
        needs = any(t.requires_grad for t in tables)
        one = g.new((1, w.t, w.arch.hidden), tables[0].dtype, needs, "places_of_one")
        moved = (Kernel("elementwise", 2 * one.bytes),)
        g.add_operation("embedding", "embedding", tables, (one,), (), moved, moved)
        return g.copy(one, (w.b, w.t, w.arch.hidden), name="repeat")


@dataclass(frozen=True)
class ObjectQueries:
    """The decoder's front: zeros, and a learned row for each query that every block adds."""

    count: int
    path: str
    fields: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """Beginnings of its parameters' paths."""
        return (self.path,)

    def resolve(self, batch: Batch) -> Batch:
        return batch

    def tokens(self, batch: Batch) -> int:
        return self.count

    def sequences(self, batch: Batch) -> int:
        return batch.micro

    def counted(self, batch: Batch) -> int:
        return 0

    def write(self, w: Writer, require_grad: bool) -> Tensor:
        g, shape = w.graph, (w.b, w.t, w.arch.hidden)
        table = w.weight(f"{self.path}.weight", (w.t, w.arch.hidden))
        places = g.copy(table, shape, name="repeat")
        w.carried[QUERIES] = places
        w.arguments = (*w.arguments, places)
        queries = g.new(shape, table.dtype, False, "queries")
        g.add_operation("zeros", "elementwise", (), (queries,), (), (Kernel("elementwise", queries.bytes),), ())
        w.held = (*w.held, queries)
        return queries


@dataclass(frozen=True)
class DetectorBlock:
    """Self-attention, in the decoder attention over the encoder's output, and an MLP; a norm behind each sum.

    own: what this stack's queries and keys are moved by · source: tower whose output is attended, empty in the encoder.
    """

    own: str
    source: str = ""

    @property
    def linears(self) -> tuple[str, ...]:
        attentions = ("self_attn", "encoder_attn") if self.source else ("self_attn",)
        return (*(f"{a}.{p}_proj" for a in attentions for p in "kvqo"), "mlp.fc1", "mlp.fc2")

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        g, h, p = w.graph, w.arch.hidden, w.active(w.arch.hidden_dropout)
        moved = g.add(x, w.carried[self.own], name="placed")
        y = self._attend(w, f"{layer}.self_attn", index, moved, moved, x)
        x = self._summed(w, f"{layer}.self_attn_layer_norm", g.dropout(y, p), x, h)
        if self.source:
            source = w.carried[self.source]
            moved, keys = g.add(x, w.carried[self.own], name="placed"), g.add(source, w.carried[PLACES], name="placed")
            y = self._attend(w, f"{layer}.encoder_attn", index, moved, keys, source)
            x = self._summed(w, f"{layer}.encoder_attn_layer_norm", g.dropout(y, p), x, h)
        y = g.dropout(mlp(w, layer, x), p)
        return self._summed(w, f"{layer}.final_layer_norm", y, x, h)

    @staticmethod
    def _summed(w: Writer, norm: str, y: Tensor, x: Tensor, width: int) -> Tensor:
        total = w.norm(norm, w.graph.add(x, y, name="residual"), width)
        w.graph.release(x)
        return total

    @staticmethod
    def _attend(w: Writer, path: str, index: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        g, arch = w.graph, w.arch
        shape = (w.b, arch.heads, arch.head_dim)
        q, k, v = (
            g.view(w.linear(f"{path}.{name}_proj", t, arch.hidden, bias=True), (*shape[:2], t.shape[1], shape[2]))
            for name, t in (("q", queries), ("k", keys), ("v", values))
        )
        y = core(w, q, k, v, index, cross=keys is not queries)
        y = w.linear(f"{path}.o_proj", g.view(y, (w.b, w.t, arch.hidden)), arch.hidden, bias=True)
        g.release(queries, keys, q, k, v)
        return y
