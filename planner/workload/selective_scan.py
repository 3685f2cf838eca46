"""Mamba's selective state space: `h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t x_t`, `y_t = C_t h_t + D x_t`, with Δ, B, C made from the input.

Gu & Dao 2023, arXiv:2312.00752 (eq. 2, alg. 2). As separate operators it is a loop over tokens that keeps every state [b, d, n] in fp32
(transformers 5.24 `mamba_selective_scan`); the fused kernels keep the states at ends of chunks of 2048 tokens and recompute the others (sec. 3.3.2;
state-spaces/mamba `selective_scan_interface.py`, `MambaInnerFn` with checkpoint_lvl 1 also recomputes convolution and Δ).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from planner.workload.graph import Kernel, Tensor, matmul_kernel
from planner.workload.pointwise import exponential, normalized, outer, plus, softplus
from planner.workload.short_convolution import short_convolution
from planner.workload.writer import Writer, idle_adapters

CHUNK = 2048
"""Tokens between kept states of the fused scan (csrc/selective_scan/selective_scan.cpp)."""


@dataclass(frozen=True)
class SelectiveScan:
    """Mamba's mixer. Sizes are counts.

    inner: channels d · state: n of each · kernel: taps of the convolution · rank: of Δ's projection.
    norms: of Δ, B and C: none, without weights (Falcon Mamba) or with (Jamba).
    whole: the fused path is one function from the input projection on (`mamba_inner_fn`).
    """

    inner: int
    state: int
    kernel: int
    rank: int
    bias: bool
    convolution_bias: bool
    activation: str
    norms: Literal["none", "plain", "affine"] = "none"
    whole: bool = True
    path: str = "mixer"

    @property
    def kernels(self) -> str:
        """Packages of the fused path."""
        return "mamba-ssm and causal-conv1d"

    @property
    def label(self) -> str:
        """What it is, in the model's summary."""
        return f"Mamba {self.inner} × {self.state}"

    @property
    def linears(self) -> tuple[str, ...]:
        return tuple(f"{self.path}.{name}" for name in ("in_proj", "x_proj", "dt_proj", "out_proj"))

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        g, p, d = w.graph, f"{layer}.{self.path}", self.inner
        given, shape = x.dtype, (w.b, d, w.t)
        projected = w.linear(f"{p}.in_proj", x, 2 * d, bias=self.bias)
        decay = g.unary("neg", exponential(g, g.cast(w.weight(f"{p}.A_log", (d, self.state)), "fp32")), save="none")
        skip = g.cast(w.weight(f"{p}.D", (d,)), "fp32")
        offset = g.cast(w.weight(f"{p}.dt_proj.bias", (d,)), "fp32")
        adapts = w.s.adaptation.adapts
        if w.s.fused_mixers and self.whole and not any(adapts(f"{layer}.{name}") for name in self.linears[1:]):
            return self._inner(w, p, projected, (decay, skip, offset))
        signal, gate = g.split(projected, [shape, shape])
        signal = short_convolution(
            w, f"{p}.conv1d", signal, d, self.kernel, bias=self.convolution_bias, activation=self.activation
        )
        delta, b, c = self._selection(w, p, signal)
        scan = _fused if w.s.fused_mixers else _looped
        y = scan(w, signal, delta, decay, b, c, skip, gate, offset)
        flat = g.view(g.cast(y, given), (w.b, w.t, d))
        out = w.linear(f"{p}.out_proj", g.copy(g.lower(flat)), w.arch.hidden, bias=self.bias)
        g.release(signal, gate, delta, b, c, decay, y)
        return out

    def _selection(self, w: Writer, p: str, signal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Δ before its bias [b, d, t], B and C [b, t, n]."""
        g, r, n = w.graph, self.rank, self.state
        flat = g.copy(g.lower(g.view(signal, (w.b, w.t, self.inner))))
        made = w.linear(f"{p}.x_proj", flat, r + 2 * n)
        delta, b, c = g.split(made, [(w.b, w.t, r), (w.b, w.t, n), (w.b, w.t, n)])
        if self.norms != "none":
            delta, b, c = (
                self._norm(w, f"{p}.{name}_layernorm", t, width)
                for name, t, width in (("dt", delta, r), ("b", b, n), ("c", c, n))
            )
        weight = w.weight(f"{p}.dt_proj.weight", (self.inner, r), base=True)
        if w.s.adaptation.adapts(f"{p}.dt_proj"):
            idle_adapters(
                w, f"{p}.dt_proj", delta, self.inner
            )  # the model reads the weight and does not call the module
        delta = g.batched_matmul(weight, delta, self.inner, w.t, r, w.b, (w.b, self.inner, w.t), "delta")
        return delta, b, c

    def _norm(self, w: Writer, path: str, x: Tensor, width: int) -> Tensor:
        if self.norms == "affine":
            return w.rms_norm(path, x, width)
        g = w.graph
        if not w.s.eager:
            return g.layer_norm(x, None, None, fused_dtype=x.dtype, name="rms_norm")
        return g.cast(normalized(g, g.cast(x, "fp32"), w.b * w.t), x.dtype)

    def _inner(self, w: Writer, p: str, projected: Tensor, fixed: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """`MambaInnerFn`: keeps xz, x_proj's result, B, C, the states at chunk ends and the scan's result; recomputes convolution and Δ."""
        g, d, n, r, t = w.graph, self.inner, self.state, self.rank, w.t
        rows, h = w.b * t, w.arch.hidden
        xz = g.copy(projected, name="contiguous")  # from rows of tokens to rows of channels
        taps = w.weight(f"{p}.conv1d.weight", (d, 1, self.kernel))
        weights = [
            taps,
            *([w.weight(f"{p}.conv1d.bias", (d,))] if self.convolution_bias else []),
            *(g.lower(w.weight(f"{p}.{name}.weight", shape)) for name, shape in (("x_proj", (r + 2 * n, d)), ("dt_proj", (d, r)), ("out_proj", (h, d)))),
            *([g.lower(w.weight(f"{p}.out_proj.bias", (h,)))] if self.bias else []),
        ]  # fmt: skip
        inputs = (xz, *weights, *fixed)
        needs = any(v.requires_grad for v in inputs)
        kind = xz.dtype
        y = g.new((w.b, t, h), kind, needs, "mamba_inner")
        made = g.new((rows, r + 2 * n), kind, False, "x_dbl")
        chosen = g.new((w.b, 2 * n, t), kind, False, "B_C")
        states = g.new((w.b, d, math.ceil(t / CHUNK), 2 * n), "fp32", False, "chunk_states")
        out = g.new((w.b, d, t), kind, False, "scan")
        one, products = out.bytes, ((rows, r + 2 * n, d), (d, rows, r), (rows, h, d))
        convolution = Kernel("elementwise", 2 * one, 2.0 * rows * d * self.kernel)
        scan = Kernel("elementwise", 5 * one + states.bytes, 9.0 * rows * d * n)
        forward = [convolution, *(matmul_kernel(m, o, k, kind) for m, o, k in products), scan]
        rows_of, width_of, depth_of = products[1]
        backward = [convolution, matmul_kernel(rows_of, width_of, depth_of, kind)]  # recomputed
        backward.append(Kernel("elementwise", 9 * one + states.bytes, 18.0 * rows * d * n))
        for m, o, k in products:
            backward.append(matmul_kernel(m, k, o, kind, layout="dgrad"))
            if taps.requires_grad:  # the function forms the gradients of all its weights or of none
                backward.append(matmul_kernel(o, k, m, kind, layout="wgrad"))
        backward.append(Kernel("elementwise", 3 * one, 4.0 * rows * d * self.kernel))
        saved = (xz, *weights, *fixed, made, chosen, states, out) if needs else ()
        # forward: convolution, Δ and the gated result · backward: those recomputed, and the gradients of Δ, convolution and result
        g.add_operation(
            "mamba_inner", "matmul", inputs, (y, made, chosen, states, out), saved, forward, backward,
            temporary=(3 * one, 6 * one),
        )  # fmt: skip
        return y


def _looped(
    w: Writer,
    signal: Tensor,
    delta: Tensor,
    decay: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor,
    gate: Tensor,
    offset: Tensor,
) -> Tensor:
    """The scan as separate operators, one token after the other."""
    g, given = w.graph, signal.dtype
    _, d, t = signal.shape
    n = decay.shape[-1]
    full = (w.b, d, t, n)
    step = softplus(g, plus(g, delta, g.cast(offset, delta.dtype), delta.shape))
    kept = exponential(g, outer(g, decay, step, full))
    inward = outer(g, step, g.cast(b, "fp32"), full)
    update = outer(g, inward, g.cast(signal, "fp32"), full)
    y = _states(w, kept, update, c, given)
    y = plus(g, y, outer(g, signal, skip, signal.shape), signal.shape)
    y = g.mul(y, g.unary("silu", gate))
    g.release(kept, inward, update, step)
    return y


def _states(w: Writer, kept: Tensor, update: Tensor, c: Tensor, dtype: str) -> Tensor:
    """The loop: every state is kept twice, in fp32 and as the operand of its product with C.

    Backward writes, for every token, a gradient of the size of all tokens (a slice's gradient is padded with zeros) and adds it up.
    """
    g, (_, d, t, n) = w.graph, kept.shape
    needs = kept.requires_grad or update.requires_grad or c.requires_grad
    y = g.new((w.b, d, t), g.autocast or dtype, needs, "scan")
    slices = g.new((w.b, d, t), y.dtype, False, "scan_slices")
    states = g.new((t, w.b, d, n), "fp32", False, "states")
    operands = g.new((t, w.b, d, n), y.dtype, False, "state_operands")
    saved = [kept] if kept.requires_grad or update.requires_grad else []
    saved += [states] if kept.requires_grad else []
    saved += [operands] if c.requires_grad and y.dtype != "fp32" else []
    saved += [c] if kept.requires_grad or update.requires_grad else []
    one = states.bytes / t
    product = matmul_kernel(d, 1, n, y.dtype, batch=w.b)
    forward = (
        Kernel("elementwise", 3 * one),
        Kernel("elementwise", 3 * one),
        Kernel("elementwise", 1.5 * one),
        product,
    )
    backward: tuple[Kernel, ...] = ()
    if c.requires_grad:
        backward += (matmul_kernel(n, 1, d, y.dtype, batch=w.b, layout="wgrad"), Kernel("elementwise", 3 * c.bytes))
    if kept.requires_grad or update.requires_grad:
        backward += (matmul_kernel(d, n, 1, y.dtype, batch=w.b, layout="dgrad"), Kernel("elementwise", 6 * one))
        backward += (Kernel("elementwise", 4 * kept.bytes),) * (kept.requires_grad + update.requires_grad)
    outputs = (y, slices, states) if y.dtype == "fp32" else (y, slices, states, operands)
    loop, back = ([k._replace(times=t) for k in kernels] for kernels in (forward, backward))
    g.add_operation(
        "scan", "attention", (kept, update, c), outputs, tuple(saved) if needs else (), loop, back,
        temporary=(0.0, kept.bytes),
    )  # fmt: skip
    g.release(slices)
    return y


def _fused(
    w: Writer,
    signal: Tensor,
    delta: Tensor,
    decay: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor,
    gate: Tensor,
    offset: Tensor,
) -> Tensor:
    """`selective_scan_fn`: keeps contiguous inputs, the result before the gate, and the states at chunk ends.

    Counted as 9·b·t·d·n FLOP forward (the authors' count), twice that backward.
    """
    g, n = w.graph, decay.shape[-1]
    signal, gate = g.copy(signal), g.copy(gate)
    b, c = (g.copy(t, name="contiguous") for t in (b, c))
    inputs = (signal, delta, decay, b, c, skip, gate, offset)
    needs = any(t.requires_grad for t in inputs)
    y = g.new(signal.shape, signal.dtype, needs, "scan")
    out = g.new(signal.shape, signal.dtype, False, "scan_before_gate")
    states = g.new((w.b, signal.shape[1], math.ceil(w.t / CHUNK), 2 * n), "fp32", False, "chunk_states")
    moved, flops = 5 * y.bytes + states.bytes, 9.0 * y.numel * n
    g.add_operation(
        "scan", "elementwise", inputs, (y, out, states), (*inputs, out, states) if needs else (),
        (Kernel("elementwise", moved, flops),), (Kernel("elementwise", moved + 3 * y.bytes, 2 * flops),),
    )  # fmt: skip
    return y
