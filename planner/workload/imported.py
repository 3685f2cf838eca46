"""A model of unknown code, rebuilt from its modules: exact parameters, products in the order of their widths.

Which layer feeds which is not known. It is read from the widths: layers of one branch that take the branch's input take
it side by side (queries, keys and values; gate and up), others take the latest result of their width, with an activation
or a gate's product before. Around each branch stand the norms in the order in which they were registered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from planner.workload.attention import core
from planner.workload.embeddings import lookup
from planner.workload.graph import Kernel, Tensor, matmul_kernel
from planner.workload.heads import cross_entropy, scalar_loss
from planner.workload.moe import glu
from planner.workload.projector import unused

if TYPE_CHECKING:
    from planner.run import Batch
    from planner.workload.architecture import Architecture
    from planner.workload.writer import Writer

ItemKind = Literal["linear", "norm", "embedding", "weight"]


@dataclass(frozen=True)
class Item:
    """One module with parameters of its own, or a bare parameter.

    path: relative to its part · shape: of its weight, as torch stores a linear layer: (out, in) · bias: has one of `out`
    (a norm: of its width) · used: fraction of it that one token uses (active of all experts) · tied: its weight is
    another module's.
    """

    kind: ItemKind
    path: str
    shape: tuple[int, ...]
    bias: bool = False
    used: float = 1.0
    tied: str = ""


@dataclass(frozen=True)
class Branch:
    """Layers of one direct child of a block. attention: scores stand between its first layers and its last."""

    items: tuple[Item, ...]
    attention: bool = False


@dataclass(frozen=True)
class ImportedBlock:
    """A block: norms of the block itself, then its branches."""

    norms: tuple[Item, ...]
    branches: tuple[Branch, ...]

    @property
    def items(self) -> tuple[Item, ...]:
        """Everything with parameters."""
        return (*self.norms, *(item for branch in self.branches for item in branch.items))

    @property
    def linears(self) -> tuple[str, ...]:
        return tuple(item.path for item in self.items if item.kind == "linear")

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        """Norm, branch, sum; norms beyond one a branch stand behind the branches."""
        norms = list(self.norms)
        for branch in self.branches:
            entry = _write(w, layer, norms.pop(0), x) if norms else x
            y = _branch(w, layer, index, branch, entry)
            if len(norms) > len(self.branches):
                y = _write(w, layer, norms.pop(0), y)
            y = w.graph.dropout(_resized(w, y, x.shape[-1]), w.active(w.arch.hidden_dropout))
            x = w.graph.add(y, x, name="residual")
        for norm in norms:
            x = _write(w, layer, norm, x)
        return x


@dataclass(frozen=True)
class ImportedFront:
    """Embeddings, and what follows them before the first block."""

    items: tuple[Item, ...]
    hidden: int

    @property
    def fields(self) -> tuple[str, ...]:
        return ("seq_len",)

    def resolve(self, batch: Batch) -> Batch:
        """Tokens of the user, 512 when left out."""
        return batch if batch.seq_len is not None else batch.model_copy(update={"seq_len": 512})

    def tokens(self, batch: Batch) -> int:
        """One position a token."""
        return batch.seq_len or 0

    def sequences(self, batch: Batch) -> int:
        """One a sample."""
        return batch.micro

    def counted(self, batch: Batch) -> int:
        """All of them."""
        return batch.seq_len or 0

    def write(self, w: Writer, require_grad: bool) -> Tensor:
        """Tables are looked up and added; layers follow in their order."""
        looked_up = [
            lookup(w, i.path, i.shape[0], i.shape[1], w.t, tied=True) for i in self.items if i.kind == "embedding"
        ]
        if looked_up:
            x, *others = looked_up
        else:
            x, others = w.graph.new((w.b, w.t, self.hidden), w.s.formats.graph, False, "input"), []
        for other in others:
            x = w.graph.add(x, other) if other.shape == x.shape else x
        for item in self.items:
            x = _write(w, "", item, x)  # embeddings pass
        x = _resized(w, x, self.hidden)
        return w.graph.leaf(x) if require_grad and not x.requires_grad else x


@dataclass(frozen=True)
class ImportedOutput:
    """Everything behind the last block, and the loss that its kind has."""

    kind: str
    items: tuple[Item, ...]

    @property
    def linears(self) -> tuple[str, ...]:
        return tuple(item.path for item in self.items if item.kind == "linear")

    def write(self, w: Writer, x: Tensor) -> Tensor:
        """The items in their order, then the loss over the last one's results."""
        for item in self.items:
            if item is self.items[-1]:
                w.graph.category = "logits"
            if "pooler" in item.path and self.kind != "sequence-classification" and item.kind == "linear":
                _aside(w, item)
                continue
            x = _write(w, "", item, x)
        return cross_entropy(w, x) if self.kind in ("causal-lm", "masked-lm") else scalar_loss(w, x)


def _aside(w: Writer, item: Item) -> None:
    """A pooler sees one token, and heads over all tokens do not see what it returns."""
    start = len(w.graph.operations)
    w.linear(item.path, w.graph.new((w.b, item.shape[1]), w.s.formats.graph, False, "first_token"), item.shape[0], bias=item.bias)
    unused(w, start)


def guessed_share(arch: Architecture) -> float:
    """Share of an imported model's parameters that are matrices outside of linear layers, embeddings and norms: what multiplies them is a guess."""
    blocks = [kind.layout for kind in (arch.at(i) for i in range(arch.layers))]
    groups = [b.items for b in blocks if isinstance(b, ImportedBlock)]
    groups += [part.items for part in (arch.front, *arch.outputs) if isinstance(part, ImportedFront | ImportedOutput)]
    sizes = [(math.prod(item.shape), item.kind == "weight" and len(item.shape) > 1) for items in groups for item in items]
    return sum(size for size, guess in sizes if guess) / max(1, sum(size for size, _ in sizes))


def _write(w: Writer, layer: str, item: Item, x: Tensor) -> Tensor:
    path = f"{layer}.{item.path}" if layer else item.path
    if item.kind == "norm":
        return _norm(w, path, item, x)
    if item.kind == "linear":
        out, inner = item.shape
        weight = w.weight(item.tied + ".weight", (out, inner)) if item.tied else None
        return w.linear(path, _resized(w, x, inner), out, bias=item.bias, weight=weight)
    if item.kind == "weight":
        return _bare(w, path, item, x)
    return x


def _norm(w: Writer, path: str, item: Item, x: Tensor) -> Tensor:
    """A LayerNorm where there is a bias, else an RMS norm in the stack's manner; a width of a head sees heads apart."""
    width = item.shape[-1]
    if x.shape[-1] % width:
        w.weight(path + ".weight", (width,))
        if item.bias:
            w.weight(path + ".bias", (width,))
        return x
    seen = x if x.shape[-1] == width else w.graph.view(x, (*x.shape[:-1], x.shape[-1] // width, width))
    if item.bias:
        y = w.graph.layer_norm(seen, w.weight(path + ".weight", (width,)), w.weight(path + ".bias", (width,)))
    else:
        y = w.rms_norm(path, seen, width)
    return y if seen is x else w.graph.view(y, x.shape)


def _bare(w: Writer, path: str, item: Item, x: Tensor) -> Tensor:
    """A parameter outside of any known module: stacked matrices multiply their share of the rows, others scale or shift."""
    g = w.graph
    weight = w.weight(path, tuple(float(size) for size in item.shape))
    if item.bias:
        w.weight(path + ".bias", (item.shape[0],))
    needs = x.requires_grad or weight.requires_grad
    if len(item.shape) < 3:
        y = g.new(x.shape, x.dtype, needs, "imported")
        moved = (Kernel("elementwise", x.bytes + y.bytes + weight.bytes),)
        g.add_operation("imported", "elementwise", (x, weight), (y,), (x,) if needs else (), moved, moved)
        return y
    count, inner, out = item.shape[-3], item.shape[-2], item.shape[-1]
    if x.shape[-1] != inner and x.shape[-1] == out:
        inner, out = out, inner
    x = _resized(w, x, inner)
    rows = x.numel / inner * item.used  # spread over `count` matrices
    y = g.new((*x.shape[:-1], out * item.used), x.dtype, needs, "imported_experts")
    each = rows / count
    backward = []
    if x.requires_grad:
        backward.append(matmul_kernel(each, inner, out, x.dtype, batch=count, layout="dgrad"))
    if weight.requires_grad:
        backward.append(matmul_kernel(inner, out, each, x.dtype, batch=count, layout="wgrad"))
    saved = ((x,) if weight.requires_grad else ()) + ((weight,) if x.requires_grad else ())
    forward = (matmul_kernel(each, out, inner, x.dtype, batch=count),)
    g.add_operation("imported_experts", "matmul", (x, weight), (y,), saved, forward, backward)
    return y


def _branch(w: Writer, layer: str, index: int, branch: Branch, x: Tensor) -> Tensor:
    """Layers of a branch, wired by their widths."""
    width = x.shape[-1]
    products = [item for item in branch.items if item.kind == "linear" or len(item.shape) >= 3]
    made: list[Tensor] = []
    latest = x
    for item in branch.items:
        if item.kind == "norm":
            latest = _write(w, layer, item, latest)
            if made:
                made[-1] = latest
            continue
        if item not in products:
            latest = _write(w, layer, item, latest)
            continue
        inner = item.shape[1] if item.kind == "linear" else item.shape[-2]
        last = item is products[-1]
        if branch.attention and last and len(products) > 1:
            y = _attend(w, index, made, inner)
        elif inner == width and not (last and made):
            y = x
        else:
            y = _join(w, made, latest, inner)
        latest = _write(w, layer, item, y)
        made.append(latest)
    return latest


def _attend(w: Writer, index: int, made: list[Tensor], width: float) -> Tensor:
    """Scores between the projections and the output layer: heads of the config, values as wide as the output layer takes."""
    g, heads, kv = w.graph, w.arch.heads, w.arch.kv_heads
    d = max(1, round(width / heads))
    source = made[-1]
    needs = any(t.requires_grad for t in made)
    parts = []
    for number in (heads, kv, kv):
        part = g.new((w.b, number, w.t, d), source.dtype, needs, "imported_projection")
        part.storage.bytes = 0.0  # a view of what the projections made
        parts.append(part)
    g.add_operation("imported_split", "view", made, parts, (), (), (), alias=False)
    q, k, v = parts
    out = core(w, q, k, v, index)
    return g.view(out, (w.b, w.t, width))


def _join(w: Writer, made: list[Tensor], latest: Tensor, width: float) -> Tensor:
    """What a later layer takes: the product of the two latest results of its width (a gate), or the activation of one."""
    g = w.graph
    fitting = [t for t in made if t.shape[-1] == width]
    if len(fitting) >= 2:
        gate, up = fitting[-2:]
        return glu(w, gate, up) if not w.s.eager else g.mul(w.activation(gate), up)
    if fitting:
        return w.activation(fitting[-1])
    if made and made[-1].shape[-1] == 2 * width:  # gate and up in one layer
        half = (*made[-1].shape[:-1], width)
        gate, up = g.split(made[-1], [half, half])
        return glu(w, gate, up) if not w.s.eager else g.mul(w.activation(gate), up)
    return _resized(w, latest, width)


def _resized(w: Writer, x: Tensor, width: float) -> Tensor:
    """A tensor of another width in place of what unknown code would do: one copy."""
    if x.shape[-1] == width:
        return x
    g = w.graph
    y = g.new((*x.shape[:-1], width), x.dtype, x.requires_grad, "imported_resize")
    moved = (Kernel("elementwise", x.bytes + y.bytes),)
    g.add_operation("imported_resize", "elementwise", (x,), (y,), (), moved, moved)
    return y
