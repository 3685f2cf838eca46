"""Vision towers that take images of any size as one row of patches: attention inside each image or window, and a merger of squares.

Wang et al. 2024, arXiv:2409.12191 (Qwen2-VL); Bai et al. 2025, arXiv:2502.13923 (windows). Source: transformers 5.24
`modeling_qwen2_vl.py`, `modeling_qwen2_5_vl.py`, `vision_utils.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.errors import PlanError
from planner.run import Batch
from planner.workload.attention import core
from planner.workload.graph import BATCH, FUSED_ATTENTION, Kernel, Tensor
from planner.workload.merging import with_images
from planner.workload.modules import layer_linears
from planner.workload.writer import Writer

DEEP = "deep features "
"""What features for a layer of the language model are carried as, before their number."""
DEFAULT_SIZE = 448
"""Image size when neither run nor config says one [pixel]: such towers have none of their own."""


@dataclass(frozen=True)
class RowOfImages:
    """The patches of all images, which are equal squares, in one row.

    patch: pixels a side · merge: patches a side that become one token of the language model · path: of what projects a patch ·
    size: of an image when the run does not say [pixel].
    """

    patch: int
    merge: int
    channels: int
    path: str
    size: int = DEFAULT_SIZE

    @property
    def note(self) -> str:
        return "All images are squares of batch.image_size."

    @property
    def fields(self) -> tuple[str, ...]:
        return ("images", "image_size")

    def resolve(self, batch: Batch) -> Batch:
        batch, step = with_images(batch), self.patch * self.merge
        size = batch.image_size or self.size // step * step
        if not size or size % step:
            raise PlanError(
                "batch.image_size", size, f"is no multiple of {step}, to which images are resized",
                f"Use {max(1, round(size / step)) * step}.",
            )  # fmt: skip
        return batch.model_copy(update={"image_size": size})

    def side(self, batch: Batch) -> int:
        """Patches a side of an image."""
        return (batch.image_size or self.size) // self.patch

    def images(self, batch: Batch) -> int:
        return batch.micro * (batch.images or 1)

    def tokens(self, batch: Batch) -> int:
        return self.images(batch) * self.side(batch) ** 2

    def sequences(self, batch: Batch) -> int:
        return 1

    def counted(self, batch: Batch) -> int:
        return 0

    def features(self, batch: Batch) -> int:
        return (self.side(batch) // self.merge) ** 2


@dataclass(frozen=True, kw_only=True)
class PackedPatches(RowOfImages):
    """Qwen's row, in which a linear layer projects each patch.

    frames: that a patch spans (an image is repeated) · window: patches a side of a window, 0 where the tower has none ·
    head_dim: that positions rotate · bias: the projection has one · table: path and rows of learned positions, interpolated to each image's grid ·
    exposed: transformers finds the projection when it asks a frozen model's first hidden states for a gradient.
    """

    frames: int
    head_dim: int
    window: int = 0
    bias: bool = False
    table: tuple[str, int] | None = None
    exposed: bool = True

    @property
    def note(self) -> str:
        return "All images are squares of batch.image_size, which are cut into patches as they are."

    def spans(self, batch: Batch, windowed: bool) -> list[tuple[int, int]]:
        """(patches, how many) of the pieces inside which patches see each other: images, or windows cut off at the edges."""
        side, count = self.side(batch), self.images(batch)
        if not windowed:
            return [(side**2, count)]
        whole, rest = divmod(side, self.window)
        edges = [(self.window, whole), *([(rest, 1)] if rest else [])]
        found: dict[int, int] = {}
        for height, rows in edges:
            for width, columns in edges:
                if rows * columns:
                    found[height * width] = found.get(height * width, 0) + rows * columns * count
        return list(found.items())

    def write(self, w: Writer, require_grad: bool) -> Tensor:
        g, h, inner = w.graph, w.arch.hidden, self.channels * self.frames * self.patch**2
        pixels = g.new((1, w.t, inner), "fp32", False, BATCH)
        g.add_operation("pixels", "embedding", (), (pixels,), (), (), ())
        w.arguments = (*w.arguments, pixels)
        x = g.cast(pixels, w.s.formats.graph, name="pixels_cast")
        offset = w.weight(self.path + ".bias", (h,)) if self.bias else None
        x = g.linear(x, w.weight(self.path + ".weight", (h, inner)), offset, name="patches")
        if self.table is not None:
            x = g.add(x, self._positions(w, *self.table), name="positions_add")
        if require_grad and self.exposed and not x.requires_grad:
            x = g.leaf(x)
        if self.window:
            x = reordered(w, x)
        tables = [g.new((w.t, self.head_dim), "fp32", False, name) for name in ("cosine", "sine")]
        moved = (Kernel("elementwise", 2 * tables[0].bytes),) * (8 if self.window else 6)
        g.add_operation("rotary_tables", "elementwise", (), tables, (), moved, ())
        if x.requires_grad or trained(w):
            w.arguments = (*w.arguments, *tables)  # else no block saves them, and they go with the tower's forward
        return x

    def _positions(self, w: Writer, path: str, rows: int) -> Tensor:
        """Four rows of the table for each patch, weighed in fp32 and summed: `(table[indices] * weights).sum(1)`, cast back."""
        g, h, n = w.graph, w.arch.hidden, w.t
        table = w.weight(path + ".weight", (rows, h))
        needs = table.requires_grad
        index, weights = g.new((n, 4), "int64", False, "indices"), g.new((n, 4), "fp32", False, "interpolation")
        corners = g.new((n, 4, h), table.dtype, needs, "corners")
        moved = (Kernel("elementwise", 2 * corners.bytes),)
        back = (Kernel("elementwise", 2 * corners.bytes + table.bytes),)
        g.add_operation("embedding", "embedding", (table,), (corners, index), (index,) if needs else (), moved, back)
        weighed = g.new(corners.shape, "fp32", needs, "weighed")
        moved = (Kernel("elementwise", corners.bytes + weighed.bytes),)
        g.add_operation("interpolate", "elementwise", (corners,), (weighed, weights), (weights,) if needs else (), moved, moved)
        y = g.new((n, h), "fp32", needs, "positions")
        g.add_operation("sum", "elementwise", (weighed,), (y,), (), (Kernel("reduction", weighed.bytes),), (Kernel("elementwise", weighed.bytes),))
        w.local = (*w.local, index, weights, y)  # variables of the tower's forward
        return g.cast(y, w.s.formats.graph, name="positions_cast")


def trained(w: Writer) -> bool:
    """Whether a block of this stack has a weight that is trained or adapted."""
    does = w.s.adaptation
    paths = (path for i in range(w.arch.layers) for path in layer_linears(w.arch, i))
    return any(does.adapts(path) or does.trains(path + ".weight") for path in paths)


def reordered(w: Writer, x: Tensor) -> Tensor:
    """`x[index]`: rows in another order; backward adds them up in a zeroed gradient."""
    g = w.graph
    y = g.new(x.shape, x.dtype, x.requires_grad, "reorder")
    moved = Kernel("elementwise", 2 * x.bytes)
    g.add_operation("reorder", "elementwise", (x,), (y,), (), (moved,), (moved, moved))
    return y


@dataclass(frozen=True)
class PackedAttention:
    """Self-attention inside each image or each window of one row of patches, positions rotated in fp32."""

    windowed: bool = False

    @property
    def linears(self) -> tuple[str, ...]:
        return ("attn.qkv", "attn.proj")

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        g, arch = w.graph, w.arch
        front, d, inner = arch.front, arch.head_dim, arch.heads * arch.head_dim
        assert isinstance(front, PackedPatches)
        fused = w.linear(f"{layer}.attn.qkv", x, 3 * inner, bias=True)
        q, k, v = g.split(fused, [(1, w.t, inner)] * 3)
        q, k = (rotated_halves(w, t) for t in (q, k))
        spans = front.spans(w.s.given, self.windowed)
        shapes = [(count, arch.heads, length, d) for length, count in spans]
        pieces = zip(*(g.split(t, shapes) for t in (q, k, v)), strict=True)
        whole, outs = (w.b, w.t, w.keys), []
        for (length, count), piece in zip(spans, pieces, strict=True):
            w.b, w.t, w.keys = count, length, length
            outs.append(unfused(w, *piece) if w.s.attention == "eager" else core(w, piece[0], piece[1], piece[2], index))
            if w.s.eager and g.operations[-1].name == FUSED_ATTENTION:
                one_by_one(w, count)
        w.b, w.t, w.keys = whole
        y = w.linear(f"{layer}.attn.proj", g.cat(outs, (1, w.t, inner)), arch.hidden, bias=True)
        g.release(x, q, k, v)
        return y


def unfused(w: Writer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of one piece as separate operators; a single sequence's heads need no copies, and nothing is handed out."""
    g, b, a, t, d = w.graph, w.b, w.arch.heads, w.t, w.arch.head_dim
    scores = g.batched_matmul(q, k, t, t, d, b * a, (b, a, t, t), "scores")
    weights = g.softmax(g.unary("attention_scale", scores, save="none"), "fp32")
    return g.copy(g.batched_matmul(g.cast(weights, q.dtype), v, t, d, t, b * a, (b, a, t, d), "context"))


def one_by_one(w: Writer, count: int) -> None:
    """Eager code calls the kernel for each piece."""
    operation = w.graph.operations[-1]

    def single(kernel: Kernel) -> Kernel:
        return kernel._replace(flops=kernel.flops / count, extra={**kernel.extra, "batch": 1})

    if w.s.attention == "sdpa":
        operation.forward = tuple(single(k) for k in operation.forward) * count
        operation.backward = tuple(single(k) for k in operation.backward) * count
        operation.temporary = (0.0, operation.temporary[1] / count)


def rotated_halves(w: Writer, x: Tensor) -> Tensor:
    """`q.float() · cos + rotate_half(q.float()) · sin`, cast back (apply_rotary_pos_emb_vision)."""
    g = w.graph
    if not w.s.eager:
        y = g.new(x.shape, x.dtype, x.requires_grad, "rotary")
        moved = (Kernel("elementwise", 2 * x.bytes),)
        g.add_operation("rotary", "elementwise", (x,), (y,), (), moved, moved)
        return y
    wide = g.cast(x, "fp32")
    first = g.unary("rotary_cos", wide, save="none")
    half = g.unary("rotate_half", wide, save="none", kernels=2)
    g.release(wide)
    return g.cast(g.add(first, g.unary("rotary_sin", half, save="none"), name="rotary_add"), x.dtype)


@dataclass(frozen=True)
class PatchMerger:
    """A norm, then an MLP over squares of patches, as wide as all of them.

    path: of the merger · squared: patches of a square · reorders: tokens are put back in reading order · norm, parts: names of
    its layers · late: the norm stands behind the joining of squares.
    """

    path: str
    width: int
    squared: int
    reorders: bool = False
    norm: str = "ln_q"
    parts: tuple[str, str] = ("mlp.0", "mlp.2")
    late: bool = False

    @property
    def linears(self) -> tuple[str, ...]:
        return tuple(f"{self.path}.{part}" for part in self.parts)

    def write(self, w: Writer, x: Tensor) -> Tensor:
        w.held = (*w.held, x)
        y = self.merged(w, x)
        return reordered(w, y) if self.reorders else y

    def merged(self, w: Writer, x: Tensor) -> Tensor:
        """One token of the language model for each square."""
        g, h, norm = w.graph, w.arch.hidden, f"{self.path}.{self.norm}"
        inner = self.squared * h
        y = x if self.late else w.norm(norm, x, h)
        y = g.view(y, (1, x.shape[1] / self.squared, inner))
        y = w.norm(norm, y, inner) if self.late else y
        y = g.unary("gelu", w.linear(self.linears[0], y, inner, bias=True, base=False))
        return w.linear(self.linears[1], y, self.width, bias=True, base=False)


@dataclass(frozen=True)
class DeepTap:
    """Behind a block of the tower: features for a layer of the language model (DeepStack, Meng et al. 2024, arXiv:2406.04334)."""

    merger: PatchMerger
    number: int

    @property
    def linears(self) -> tuple[str, ...]:
        return self.merger.linears

    def write(self, w: Writer, x: Tensor) -> Tensor:
        made = self.merger.merged(w, x)
        joined = w.graph.copy(made, name="cat")
        w.carried[f"{DEEP}{self.number}"] = joined
        w.outer = (*w.outer, made, joined)
        return x


@dataclass(frozen=True)
class DeepAdd:
    """Behind a layer of the language model: the tower's features are added to the hidden states of image tokens, in a copy of them."""

    number: int

    @property
    def linears(self) -> tuple[str, ...]:
        return ()

    def write(self, w: Writer, x: Tensor) -> Tensor:
        g, features = w.graph, w.carried.get(f"{DEEP}{self.number}")
        if features is None:
            raise PlanError(
                "parallel.pp", None, f"puts layer {self.number + 1}, which takes features of the vision tower, behind the first stage",
                "Use fewer stages.",
            )  # fmt: skip
        features = g.cast(features, x.dtype)
        count = features.numel / features.shape[-1]
        taken, put = (g.new((count, 2), "int64", False, name) for name in ("taken", "put"))
        needs = x.requires_grad or features.requires_grad
        y = g.new(x.shape, x.dtype, needs, "deep_features")
        moved = tuple(Kernel("elementwise", 2 * b) for b in (x.bytes, features.bytes, features.bytes, features.bytes))
        back = (*moved[1:], *(Kernel("elementwise", 2 * x.bytes),) * 3)
        scratch = (2 * features.bytes, 2 * x.bytes + features.bytes)
        g.add_operation(
            "deep_features", "elementwise", (x, features), (y, taken, put), (taken, put) if needs else (), moved, back, temporary=scratch
        )
        return y
