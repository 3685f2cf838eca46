"""Mamba-2's state space, whose decay is one number a head: the scan becomes products over chunks of tokens.

Dao & Gu 2024, arXiv:2405.21060 (sec. 6: diagonal blocks as masked attention inside a chunk, low-rank blocks through the states at chunk ends).
As separate operators in fp32: transformers 5.24 `mamba2_chunk_scan`. Fused: state-spaces/mamba `ssd_combined.py`,
`MambaSplitConv1dScanCombinedFn`, which keeps the input projection's result, the scan's result and one statistic a norm group, and recomputes the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from planner.errors import PlanError
from planner.workload.graph import BYTES, Kernel, Tensor, matmul_kernel
from planner.workload.pointwise import (
    apply,
    exponential,
    normalized,
    outer,
    padded,
    part,
    plus,
    repeated,
    softplus,
)
from planner.workload.short_convolution import short_convolution
from planner.workload.writer import Writer


class Sizes(NamedTuple):
    """Sizes of one scan: batch, padded tokens, chunks, tokens of a chunk, heads, head size, state."""

    b: float
    padded: float
    chunks: float
    chunk: float
    heads: float
    head: float
    state: float

    @property
    def batch(self) -> float:
        """Independent products: sequences × chunks × heads."""
        return self.b * self.chunks * self.heads


@dataclass(frozen=True)
class StateSpaceDual:
    """Mamba-2's mixer. Sizes are counts.

    heads × head: channels · state: n of each head · groups: heads share B and C by group · chunk: tokens of a chunk.
    gate: the result is multiplied with the gate and normed over each group (`normed`), normed first (`norm-first`), or only multiplied (`plain`).
    out_bias: of the output projection, where it differs from the input's · wide_norm: the norm's weight multiplies before the cast (Falcon-H1).
    scaled: the input and the projection's parts are multiplied by constants (Falcon-H1).
    """

    heads: int
    head: int
    state: int
    groups: int
    kernel: int
    chunk: int
    bias: bool
    convolution_bias: bool
    activation: str
    gate: Literal["normed", "norm-first", "plain"] = "normed"
    scaled: bool = False
    out_bias: bool | None = None
    wide_norm: bool = False
    path: str = "mixer"

    def divided(self, tp: int) -> StateSpaceDual:
        """Heads and groups of one tensor-parallel rank; B and C of a group that several ranks need are on each of them (Megatron-Core
        MambaMixer, which asks for at least as many groups as ranks)."""
        if self.heads % tp:
            raise PlanError("parallel.tp", tp, f"does not divide the {self.heads} state-space heads", "Use a divisor.")
        if self.groups % tp and tp % self.groups:
            raise PlanError("parallel.tp", tp, f"neither divides the {self.groups} state-space groups nor is a multiple of them", "Use a divisor.")
        return replace(self, heads=self.heads // tp, groups=max(1, self.groups // tp))

    @property
    def kernels(self) -> str:
        """Packages of the fused path."""
        return "mamba-ssm and causal-conv1d"

    @property
    def label(self) -> str:
        """What it is, in the model's summary."""
        return f"Mamba-2 {self.heads} × {self.head}, state {self.state}"

    @property
    def inner(self) -> int:
        """Channels d."""
        return self.heads * self.head

    @property
    def mixed(self) -> int:
        """Channels of the convolution: input, B and C."""
        return self.inner + 2 * self.groups * self.state

    @property
    def closing_bias(self) -> bool:
        """Whether the output projection has a bias."""
        return self.bias if self.out_bias is None else self.out_bias

    @property
    def linears(self) -> tuple[str, ...]:
        return (f"{self.path}.in_proj", f"{self.path}.out_proj")

    def sizes(self, w: Writer) -> Sizes:
        """Sizes of this run's scan."""
        chunks = -(-w.t // self.chunk)
        return Sizes(w.b, chunks * self.chunk, chunks, self.chunk, self.heads, self.head, self.state)

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        g, p, d = w.graph, f"{layer}.{self.path}", self.inner
        given = x.dtype
        if self.scaled:
            x = g.unary("input_scale", x, save="none")
        projected = w.linear(f"{p}.in_proj", x, d + self.mixed + self.heads, bias=self.bias)
        if self.scaled:
            kind = w.s.formats.graph  # the constants are a buffer of the weights' type
            kind = kind if BYTES[kind] > BYTES[projected.dtype] else projected.dtype
            projected = apply(g, "projection_scale", (projected,), projected.shape, kind)
        decay = g.unary("neg", exponential(g, g.cast(w.weight(f"{p}.A_log", (self.heads,)), "fp32")), save="none")
        offset, skip = w.weight(f"{p}.dt_bias", (self.heads,)), w.weight(f"{p}.D", (self.heads,))
        if w.s.fused_mixers:
            return self._fused(w, p, projected, (decay, offset, skip))
        gate, mixed, delta = g.split(projected, [(w.b, w.t, d), (w.b, self.mixed, w.t), (w.b, w.t, self.heads)])
        mixed = short_convolution(
            w, f"{p}.conv1d", mixed, self.mixed, self.kernel, bias=self.convolution_bias, activation=self.activation
        )
        wide = self.groups * self.state
        signal, b, c = g.split(mixed, [(w.b, w.t, d), (w.b, w.t, wide), (w.b, w.t, wide)])
        y = chunked(w, self.sizes(w), signal, delta, b, c, decay, offset, skip)
        y = self._gated(w, f"{p}.norm", g.view(y, (w.b, w.t, d)), gate)
        out = w.linear(f"{p}.out_proj", g.cast(y, given), w.arch.hidden, bias=self.closing_bias)
        g.release(projected, mixed, delta, y, gate)
        return out

    def _gated(self, w: Writer, path: str, y: Tensor, gate: Tensor) -> Tensor:
        """The gate, and the norm over each group where there is one."""
        g, d, rows = w.graph, self.inner, w.b * w.t * self.groups
        if self.gate == "plain":
            return g.mul(y, g.unary("silu", gate))
        given = y.dtype
        weight = w.weight(f"{path}.weight", (d,))
        y = g.cast(y, "fp32")
        if self.gate == "normed":
            y = g.mul(y, g.unary("silu", g.cast(gate, "fp32")))
        normed = g.view(normalized(g, g.view(y, (w.b, w.t, self.groups, d / self.groups)), rows), y.shape)
        y = g.mul(weight, normed if self.wide_norm else g.cast(normed, given))
        if self.gate == "norm-first":
            y = g.mul(y, g.unary("silu", g.cast(gate, "fp32")))
        return g.cast(y, given) if self.wide_norm else y

    def _fused(self, w: Writer, p: str, projected: Tensor, fixed: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """One function from the input projection's result to the block's output."""
        g, d, h, z = w.graph, self.inner, w.arch.hidden, self.sizes(w)
        rows = w.b * w.t
        taps = w.weight(f"{p}.conv1d.weight", (self.mixed, 1, self.kernel))
        weights = [taps, *([w.weight(f"{p}.conv1d.bias", (self.mixed,))] if self.convolution_bias else [])]
        if self.gate != "plain":
            weights.append(w.weight(f"{p}.norm.weight", (d,)))
        apart = w.s.adaptation.adapts(f"{p}.out_proj")  # an adapted projection is a module of its own
        closing = [] if apart else [g.lower(w.weight(f"{p}.out_proj.weight", (h, d), base=True))]
        if closing and self.closing_bias:
            closing.append(g.lower(w.weight(f"{p}.out_proj.bias", (h,))))
        weights += closing
        inputs = (projected, *weights, *fixed)
        needs = any(t.requires_grad for t in inputs)
        kind = projected.dtype
        y = g.new((w.b, w.t, d if apart else h), kind, needs, "state_space_dual")
        out = g.new((w.b, w.t, d), kind, False, "scan")
        statistics = g.new((rows, self.groups), "fp32", False, "statistics")
        mixed, states = rows * self.mixed * (out.bytes / out.numel), 4.0 * z.b * z.chunks * z.heads * z.head * z.state
        scores = 4.0 * z.b * z.chunks * self.groups * z.chunk**2
        convolution = Kernel("elementwise", 2 * mixed, 2.0 * rows * self.mixed * self.kernel)
        norm = Kernel("reduction", 3 * out.bytes)
        inside = (z.chunk, z.head, z.chunk)
        ends = (z.head, z.state, z.chunk)
        grouped = (z.chunk, z.chunk, z.state)
        per_group = z.b * z.chunks * self.groups
        scan = [
            matmul_kernel(*grouped, kind, batch=per_group),
            *(matmul_kernel(*ends, kind, batch=z.batch) for _ in range(2)),
            matmul_kernel(*inside, kind, batch=z.batch),
            Kernel("elementwise", 3 * states),
        ]
        forward = [convolution, *scan, norm]
        # recomputed: convolution, scores and states; then gradients of scores, states, x, B, C and of the decay
        backward = [convolution, scan[0], scan[1], scan[4], norm, norm]
        backward += [matmul_kernel(*ends, kind, batch=z.batch)] * 4 + [matmul_kernel(*inside, kind, batch=z.batch)] * 3
        backward += [matmul_kernel(*grouped, kind, batch=per_group)] * 2 + [Kernel("elementwise", 6 * states)]
        backward.append(Kernel("elementwise", 3 * mixed, 4.0 * rows * self.mixed * self.kernel))
        if closing:
            forward.append(matmul_kernel(rows, h, d, kind))
            backward.append(matmul_kernel(rows, d, h, kind, layout="dgrad"))
            if closing[0].requires_grad:
                backward.append(matmul_kernel(h, d, rows, kind, layout="wgrad"))
        saved = (projected, *weights, *fixed, out, statistics) if needs else ()
        g.add_operation(
            "state_space_dual", "matmul", inputs, (y, out, statistics), saved, forward, backward,
            temporary=(mixed + states + scores + out.bytes, 2 * mixed + 3 * states + 2 * scores + 2 * out.bytes),
        )  # fmt: skip
        return w.linear(f"{p}.out_proj", y, h, bias=self.closing_bias) if apart else y


def chunked(
    w: Writer,
    z: Sizes,
    signal: Tensor,
    delta: Tensor,
    b: Tensor,
    c: Tensor,
    decay: Tensor,
    offset: Tensor,
    skip: Tensor,
) -> Tensor:
    """The scan as separate operators; every intermediate of a chunk [b, h, chunks, l, l] exists at once."""
    g = w.graph
    heads = (w.b, w.t, z.heads)
    delta = softplus(g, plus(g, delta, g.cast(offset, delta.dtype), heads))
    delta = g.unary("clamp", delta)
    whole = g.cast(signal, "fp32")
    b, c = (repeated(g, g.cast(t, "fp32"), (w.b, w.t, z.heads, z.state)) for t in (b, c))
    skipped = outer(g, skip, padded(g, whole, (w.b, z.padded, z.heads, z.head)), (w.b, z.padded, z.heads, z.head))
    x = outer(g, whole, g.cast(delta, "fp32"), (w.b, w.t, z.heads, z.head), "discretize")
    a = outer(g, decay, g.cast(delta, "fp32"), heads, "decay")
    before = (x, a, b, c)
    x, a, b, c = (
        padded(g, t, (w.b, z.padded, z.heads, *((last,) if last else ())))
        for t, last in ((x, z.head), (a, 0.0), (b, z.state), (c, z.state))
    )
    g.release(*before)
    total = apply(g, "cumsum", (a,), a.shape, "fp32")
    mask = exponential(g, segments(w, a, (w.b, z.heads, z.chunks, z.chunk, z.chunk)))
    scores = _product(w, c, b, z.chunk, z.chunk, z.state, z.batch)
    weights = g.mul(scores, mask)
    inside = _product(w, weights, x, z.chunk, z.head, z.chunk, z.batch, copies=(False, True))
    left = exponential(g, apply(g, "decay_left", (total,), total.shape, "fp32"))
    decayed = outer(g, b, left, b.shape, "decayed_b")
    states = _product(w, x, decayed, z.head, z.state, z.chunk, z.batch)
    ends = (w.b, z.chunks + 1, z.heads, z.head, z.state)
    zeros = g.new((w.b, 1, z.heads, z.head, z.state), states.dtype, False, "zeros")
    states = g.cat((zeros, states), ends, "states")
    last = part(g, total, (w.b, z.heads, z.chunks))
    passing = exponential(g, segments(w, last, (w.b, z.heads, z.chunks + 1, z.chunks + 1)))
    known = g.batched_matmul(
        passing, g.copy(states), z.chunks + 1, z.head * z.state, z.chunks + 1, w.b * z.heads, ends, "passed_states"
    )
    outward = exponential(g, total)
    read = _product(w, c, part(g, known, (z.batch, z.state, z.head)), z.chunk, z.head, z.state, z.batch)
    off = outer(g, read, outward, read.shape, "decayed_read")
    y = g.copy(g.add(inside, off))
    y = g.add(g.view(y, skipped.shape), skipped)
    g.release(x, b, c, mask, scores, weights, inside, decayed, known, read, off, skipped)
    return part(g, y, (w.b, w.t, z.heads, z.head))


def segments(w: Writer, x: Tensor, shape: tuple[float, ...]) -> Tensor:
    """`segment_sum`: masked cumulative sums over every stretch of a chunk; three tensors of its size on the way."""
    g = w.graph
    masks = [g.new(shape[-2:], "bool", False, "mask") for _ in range(2)]
    g.add_operation("masks", "elementwise", (), masks, (), (Kernel("elementwise", 2 * masks[0].bytes),) * 2, ())
    first = apply(g, "masked_fill", (x,), shape, "fp32", keeps=(masks[0],), spread=4.0 * _numel(shape))
    total = apply(g, "cumsum", (first,), shape, "fp32", spread=8.0 * _numel(shape))
    y = apply(g, "masked_fill", (total,), shape, "fp32", keeps=(masks[1],))
    g.release(first)
    return y


def _numel(shape: tuple[float, ...]) -> float:
    count = 1.0
    for size in shape:
        count *= size
    return count


def _product(
    w: Writer,
    a: Tensor,
    b: Tensor,
    m: float,
    n: float,
    k: float,
    batch: float,
    copies: tuple[bool, bool] = (True, True),
) -> Tensor:
    """`torch.einsum` of two operands: permuted copies, then `batch` products [m, k] × [k, n]."""
    g = w.graph
    a, b = (g.copy(t) if copied else t for t, copied in zip((a, b), copies, strict=True))
    return g.batched_matmul(a, b, m, n, k, batch, (batch, m, n), "chunk_product")
