"""LoReFT: a trained low-rank edit of the hidden states that blocks return, at the first and last positions of a sequence.

Wu et al. 2024, arXiv:2404.03592 (eq. 2): h + Rᵀ(W h + b − R h), as pyreft 0.1 runs it: R stays orthogonal by torch's parametrization, which keeps a
square fp32 matrix of the model's width with every edited layer and forms R twice; W is in the model's type. One edit a layer serves all positions.
A classification head is trained.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Kernel, Parameter, Tensor, matmul_kernel
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.freeze import layer_index, one_stack
from planner.workload.methods.pieces import made, product

if TYPE_CHECKING:
    from planner.workload.writer import Writer

DEFAULT_RANK, DEFAULT_POSITIONS = 8, "f7+l7"
"""Of the paper's commonsense reasoning runs."""
_PART = re.compile(r"([fl])(\d{1,5})")


def positions(text: str) -> int:
    """How many tokens `f7+l7` names. Raises `PlanError` for another form."""
    parts = [_PART.fullmatch(part) for part in text.split("+")]
    ends = [part.group(1) for part in parts if part is not None]
    count = sum(int(part.group(2)) for part in parts if part is not None)
    if None in parts or len(set(ends)) != len(ends) or not count:
        raise PlanError(
            "method.positions", text, "does not name first and last tokens", "Write for example f7+l7, f1 or l1."
        )
    return count


def _bind(method: Method, arch: Architecture) -> Adaptation:
    one_stack(method.name, arch)
    rank, where = method.rank or DEFAULT_RANK, method.positions or DEFAULT_POSITIONS
    count = positions(where)
    chosen = (
        None if method.layers is None else {method.layers} if isinstance(method.layers, int) else set(method.layers)
    )
    for layer in chosen or ():
        if layer >= arch.layers:
            raise PlanError(
                "method.layers",
                layer,
                f"is not one of the model's {arch.layers} layers",
                f"Use 0 to {arch.layers - 1}.",
            )
    if rank >= arch.hidden:
        raise PlanError("method.rank", rank, f"is not less than the width {arch.hidden}", "Use a small rank such as 8.")

    def edited(path: str) -> int:
        layer = layer_index(path, arch)
        return int(layer is not None and (chosen is None or layer in chosen))

    def follow(w: Writer, layer: str, y: Tensor) -> Tensor:
        if not edited(layer + "."):
            return y
        if count > w.t:
            raise PlanError("method.positions", where, f"are more than the {w.t:.0f} tokens of a sequence", "Use fewer.")
        return edit(w, layer, y, float(rank), count)

    return Adaptation(
        "reft",
        trains=lambda path: path.startswith(arch.names.classifier + "."),
        adapts=edited,
        per_layer=chosen is not None,
        resolved={"rank": rank, "positions": where},
        follow=follow,
        formula="sum over edited layers of 2 · h · r + r",
    )


def edit(w: Writer, layer: str, y: Tensor, rank: float, count: int) -> Tensor:
    """The intervention after one block, written into its output."""
    g, width = w.graph, w.arch.hidden
    path = f"{layer}.reft"

    def parameter(name: str, shape: tuple[float, ...], dtype: str, *, buffer: bool = False) -> Tensor:
        return g.parameter(Parameter(f"{path}.{name}", shape, dtype, not buffer, adapter=True, buffer=buffer))

    x = parameter("rotate.original", (width, rank), "fp32")
    square = parameter("rotate.base", (width, width), "fp32", buffer=True)
    source, bias = (
        parameter("source.weight", (rank, width), w.s.formats.graph),
        parameter("source.bias", (rank,), w.s.formats.graph),
    )

    def rotation(runs: int = 1) -> Tensor:
        """Householder reflections, times the square matrix. runs: how often it is formed; asking for its type forms it too."""
        lower = made(w, "tril", (x,), x.shape, "fp32")
        reflected = g.new(x.shape, "fp32", True, "householder")
        moved = (Kernel("elementwise", 3 * reflected.bytes),) * 6
        # backward makes a square matrix and reflects it on both sides, one column after the other
        each = [matmul_kernel(width, width - i, 1, "fp32", layout="wgrad") for i in range(int(rank))]
        undo = [matmul_kernel(width, width, rank, "fp32", layout="dgrad"), *each * 4][:-1]
        scratch = (0.0, 2 * square.bytes)
        g.add_operation(
            "householder", "matmul", (lower,), (reflected,), (lower, reflected), moved, undo, temporary=scratch
        )
        signed = made(w, "householder_sign", (reflected,), x.shape, "fp32")
        kind = g.autocast or "fp32"
        left, right = g.cast(square, kind), g.cast(signed, kind)
        r = g.new(x.shape, kind, True, "rotation")
        forward, backward = (
            matmul_kernel(width, rank, width, kind),
            matmul_kernel(width, rank, width, kind, layout="wgrad"),
        )
        g.add_operation("rotation", "matmul", (left, right), (r,), (left,), (forward,) * runs, (backward,))
        return r

    index = g.new((count,), "int64", False, "positions")
    h = made(w, "read_positions", (y, index), (w.b, count, width), y.dtype, (index,))
    first = rotation(2)
    wide = g.cast(h, "fp32")
    rows = w.b * count
    rotated = product(w, "rotate", wide, first, rows, rank, width, (w.b, count, rank))
    difference = g.add(g.linear(h, source, bias, name="reft_source"), rotated, name="reft_difference")
    second = rotation()
    update = product(w, "rotate_back", difference, second, rows, width, rank, (w.b, count, width))
    new = g.cast(g.add(h, update, name="reft_add"), h.dtype)
    z = Tensor(y.shape, y.dtype, y.storage, True)
    moved = (Kernel("elementwise", 2 * new.bytes),)
    back = (Kernel("elementwise", 2 * y.bytes), Kernel("elementwise", 2 * new.bytes))
    g.add_operation("write_positions", "elementwise", (y, new), (z,), (index,), moved, back)
    g.release(h, difference, rotated)
    return z


register(
    MethodKind(
        "reft",
        "LoReFT",
        "Trains low-rank edits of hidden states at first and last tokens.",
        ("rank", "positions", "layers"),
        "Wu et al. 2024, arXiv:2404.03592",
        _bind,
    )
)
