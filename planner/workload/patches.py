"""Images and videos as sequences: a convolution over patches, learned tokens and positions (Dosovitskiy et al. 2020, arXiv:2010.11929).

Source of the orders: transformers 5.24, the embeddings of `modeling_vit.py` and its relatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from planner.errors import PlanError
from planner.run import Batch
from planner.workload.embeddings import positions
from planner.workload.graph import BATCH, Kernel, Tensor
from planner.workload.vision_attention import SHARED_BIAS, relative_bias
from planner.workload.writer import Writer

Token = tuple[str, int]
"""Path of a learned parameter, and how many tokens it holds."""


@dataclass(frozen=True)
class Patches:
    """Patch embeddings. Sizes are (height, width) [pixel] and counts.

    path: of the convolution · before, after: learned tokens around the patches · registers: learned tokens put behind
    the first one when positions have been added · positions: parameter of its own, an embedding that is looked up,
    a constant table, or none · rows: of the position table · sizes: whether other image sizes are possible: positions
    are interpolated when asked for, always (which costs even at the config's size), or cannot be (fixed); free: no
    positions here · frames, tubelet: of a video · norm: path of a norm · norm_first: it stands before the positions ·
    unused: parameters that take no part, with their sizes · keeps_cast: the model's forward keeps the cast pixels ·
    given_cast: pixels must come in the model's type ·
    mid_positions: positions that are added behind the blocks, so many sets of them, carried by their path ·
    shared_bias: table of relative positions, its rows, whose bias all blocks add. rotary positions are two tables that
    the blocks receive · width: of the embeddings, where the stack ends with another · padded: images are padded to whole
    patches · buffers: sizes of the model's buffers that are large enough to count [bytes].
    """

    image: tuple[int, int]
    patch: tuple[int, int]
    channels: int
    path: str
    bias: bool = True
    before: tuple[Token, ...] = ()
    after: tuple[Token, ...] = ()
    registers: Token | None = None
    positions: Literal["parameter", "embedding", "constant", "rotary", "none"] = "parameter"
    positions_path: str = ""
    sizes: Literal["asked", "always", "fixed", "free"] = "asked"
    wide_interpolation: bool = False
    frames: int = 0
    tubelet: int = 1
    norm: str = ""
    norm_first: bool = False
    dropout: float = 0.0
    unused: tuple[Token, ...] = ()
    keeps_cast: bool = True
    given_cast: bool = False
    mid_positions: Token | None = None
    shared_bias: Token | None = None
    width: int = 0
    padded: bool = False
    buffers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.padded and (self.patch[0] > self.image[0] or self.patch[1] > self.image[1]):
            raise PlanError("model.patch_size", max(self.patch), f"is larger than an image of {min(self.image)}", "Use a smaller patch, or a larger image.")

    @property
    def fields(self) -> tuple[str, ...]:
        return ("image_size",)

    def size(self, batch: Batch) -> tuple[int, int]:
        """Height and width of an image [pixel]."""
        return self.image if batch.image_size is None else (batch.image_size, batch.image_size)

    def grid(self, batch: Batch) -> tuple[int, int]:
        """Rows and columns of patches."""
        height, width = self.size(batch)
        more = (self.patch[0] - 1, self.patch[1] - 1) if self.padded else (0, 0)
        return (height + more[0]) // self.patch[0], (width + more[1]) // self.patch[1]

    def resolve(self, batch: Batch) -> Batch:
        size = batch.image_size
        if size is None:
            return batch.model_copy(update={"image_size": self.image[0]}) if self.image[0] == self.image[1] else batch
        if size < max(self.patch):
            raise PlanError("batch.image_size", size, f"is less than one patch of {max(self.patch)}", "Use more.")
        if self.sizes == "fixed" and (size, size) != self.image:
            shown = str(self.image[0]) if self.image[0] == self.image[1] else f"{self.image[0]} × {self.image[1]}"
            raise PlanError(
                "batch.image_size", size, f"is not the {shown} of the model's positions", "Leave it out: they are fixed."
            )
        return batch

    def _times(self) -> int:
        return self.frames // self.tubelet if self.frames else 1

    def patches(self, batch: Batch) -> int:
        """Patches (or tubelets) of one image (or video)."""
        rows, columns = self.grid(batch)
        return rows * columns * self._times()

    def tokens(self, batch: Batch) -> int:
        extra = (*self.before, *self.after, *((self.registers,) if self.registers else ()))
        return self.patches(batch) + sum(int(count) for _, count in extra)

    def sequences(self, batch: Batch) -> int:
        return batch.micro

    def counted(self, batch: Batch) -> int:
        return self.tokens(batch)

    def write(self, w: Writer, require_grad: bool) -> Tensor:
        """pixels → convolution → [b, patches, h], tokens joined, positions added."""
        g, arch, given, h = w.graph, w.arch, w.s.given, self._width(w)
        for path, numel in self.unused:
            w.weight(path, (numel,))
        for size in self.buffers:
            buffer = g.new((size,), "int8", False, BATCH)
            g.add_operation("buffer", "embedding", (), (buffer,), (), (), ())
            w.arguments = (*w.arguments, buffer)
        x = self._project(w, given)
        if require_grad and w.s.arch.vocab and not x.requires_grad:  # transformers asks it of models of tokens only
            x = g.leaf(x)
        count = self.patches(given)
        if self.before or self.after:
            count += sum(n for _, n in (*self.before, *self.after))
            parts = [self._token(w, t) for t in self.before] + [x] + [self._token(w, t) for t in self.after]
            x = g.cat(parts, (w.b, count, h))
        if self.norm and self.norm_first:
            x = w.norm(self.norm, x, h)
        if self.positions == "rotary":
            self._tables(w)
        elif self.positions != "none":
            x = g.add(x, self._positions(w, count), name="positions_add")
        if self.registers:
            x = g.cat([x, self._token(w, self.registers)], (w.b, w.t, h))
        if self.norm and not self.norm_first:
            x = w.norm(self.norm, x, h)
        x = g.dropout(x, w.active(self.dropout))
        if self.mid_positions:
            name, sets = self.mid_positions
            extra = sum(n for _, n in (*self.before, *self.after))
            rows = extra + self.image[0] * self.image[1] // (self.patch[0] * self.patch[1])  # rounded down once, not a side
            table = w.weight(name, (sets, 1, rows, h))
            w.carried[name] = interpolate(w, table, (sets, 1, w.t, h))
            w.held = (*w.held, w.carried[name])
        w.held = (*w.held, x)  # `embedding_output`
        if self.shared_bias:
            path, rows = self.shared_bias
            bias = relative_bias(w, path, rows, arch.heads, w.t, interpolated=True)
            w.carried[SHARED_BIAS] = bias
            w.arguments = (*w.arguments, bias)
        return x

    def _tables(self, w: Writer) -> None:
        """Cosine and sine of every patch, made in fp32 and handed to all blocks."""
        g, shape = w.graph, (self.patches(w.s.given), w.arch.head_dim)
        tables = [g.new(shape, w.s.formats.graph, False, name) for name in ("cosine", "sine")]
        moved = (Kernel("elementwise", 4.0 * sum(t.bytes for t in tables)),)
        g.add_operation("rotary_tables", "elementwise", (), tables, (), moved, ())
        w.arguments = (*w.arguments, *tables)

    def _width(self, w: Writer) -> int:
        return self.width or w.arch.hidden

    def _token(self, w: Writer, token: Token) -> Tensor:
        """A learned token, expanded over the batch (which moves nothing)."""
        path, count = token
        return w.weight(path, (1, count, self._width(w)))

    def _project(self, w: Writer, given: Batch) -> Tensor:
        g, (height, width) = w.graph, self.size(given)
        frames = (self.frames,) if self.frames else ()
        stored = w.s.formats.stored
        dtype = stored if self.given_cast and stored in ("bf16", "fp16") else "fp32"
        pixels = g.new((w.b, *frames, self.channels, height, width), dtype, False, BATCH)
        g.add_operation("pixels", "embedding", (), (pixels,), (), (), ())
        w.arguments = (*w.arguments, pixels)
        x = pixels if self.given_cast else g.cast(pixels, w.s.formats.graph, name="pixels_cast")
        if self.keeps_cast and x is not pixels:
            w.held = (*w.held, x)
        kernel = (*((self.tubelet,) if self.frames else ()), *self.patch)
        grid = (*((self._times(),) if self.frames else ()), *self.grid(given))
        h = self._width(w)
        weight = w.weight(self.path + ".weight", (h, self.channels, *kernel))
        y = g.convolution(x, weight, w.weight(self.path + ".bias", (h,)) if self.bias else None, (w.b, h, *grid))
        return g.view(y, (w.b, self.patches(given), self._width(w)))

    def _rows(self) -> int:
        """Positions of the config's image."""
        extra = sum(n for _, n in (*self.before, *self.after))
        return extra + self._times() * (self.image[0] // self.patch[0]) * (self.image[1] // self.patch[1])

    def _positions(self, w: Writer, count: int) -> Tensor:
        g, h = w.graph, self._width(w)
        rows = self._rows()
        if self.positions == "constant":
            table = g.new((1, rows, h), w.s.formats.graph, False, "positions")
            g.add_operation("positions", "embedding", (), (table,), (), (Kernel("elementwise", table.bytes),), ())
            return table
        same = self.sizes != "always" and self.size(w.s.given) == self.image
        if self.positions == "embedding" and same:
            return positions(w, self.positions_path, rows, h)
        name = self.positions_path + (".weight" if self.positions == "embedding" else "")
        table = w.weight(name, (1, rows, h))
        return table if same else interpolate(w, table, (1, count, h), wide=self.wide_interpolation)


def interpolate(w: Writer, table: Tensor, shape: tuple[float, ...], *, wide: bool = False) -> Tensor:
    """Bicubic interpolation of positions to another grid; nothing is kept. wide: it is done in fp32 and cast back."""
    g = w.graph
    dtype = table.dtype
    if wide:
        table = g.cast(table, "fp32", name="positions_cast")
    y = g.new(shape, table.dtype, table.requires_grad, "positions")
    moved = (Kernel("elementwise", table.bytes + 16 * y.bytes),)
    g.add_operation("interpolate", "elementwise", (table,), (y,), (), moved, moved)
    return g.cast(y, dtype, name="positions_cast")
