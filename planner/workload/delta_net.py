"""Gated DeltaNet: linear attention whose state decays and is corrected towards each new value, computed over chunks of 64 tokens.

Yang, Kautz, Hatamizadeh 2024, arXiv:2412.06464 (eq. 10; chunks by the UT transform, sec. 3.3). As separate operators in fp32: transformers 5.24
`torch_chunk_gated_delta_rule`, a loop over chunks that keeps every state. Fused: fla-org/flash-linear-attention `ops/gated_delta_rule/chunk.py`,
which keeps normed queries and keys, values, decays and the solved chunk matrix [b, t, h, 64], and recomputes states and corrected values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.errors import PlanError
from planner.workload.graph import BYTES, Kernel, Tensor, matmul_kernel
from planner.workload.pointwise import apply, exponential, normalized, outer, padded, plus, repeated, softplus
from planner.workload.short_convolution import short_convolution
from planner.workload.writer import Writer

CHUNK = 64
"""Tokens of a chunk, in both paths."""


@dataclass(frozen=True)
class GatedDeltaNet:
    """The mixer of Qwen3-Next's linear layers. Sizes are counts.

    key_heads × key: queries and keys · value_heads × value: values, several of which may share a key head · kernel: taps of the convolution.
    grouped: one projection makes queries, keys, values and gates key head by key head, so that its slices are copied (Qwen3-Next).
    """

    key_heads: int
    value_heads: int
    key: int
    value: int
    kernel: int
    activation: str
    grouped: bool = True
    path: str = "linear_attn"

    def divided(self, tp: int) -> GatedDeltaNet:
        """Heads of one tensor-parallel rank."""
        for name, count in (("key", self.key_heads), ("value", self.value_heads)):
            if count % tp:
                raise PlanError("parallel.tp", tp, f"does not divide the {count} {name} heads of linear attention", "Use a divisor.")
        return replace(self, key_heads=self.key_heads // tp, value_heads=self.value_heads // tp)

    @property
    def kernels(self) -> str:
        """Packages of the fused path."""
        return "flash-linear-attention and causal-conv1d"

    @property
    def label(self) -> str:
        """What it is, in the model's summary."""
        return f"Gated DeltaNet {self.value_heads} × {self.value}"

    @property
    def widths(self) -> tuple[int, int, int]:
        """Width of queries (and of keys), of values, and of the convolution."""
        keys, values = self.key_heads * self.key, self.value_heads * self.value
        return keys, values, 2 * keys + values

    @property
    def linears(self) -> tuple[str, ...]:
        inputs = (
            ("in_proj_qkvz", "in_proj_ba") if self.grouped else ("in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a")
        )
        return tuple(f"{self.path}.{name}" for name in (*inputs, "out_proj"))

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        g, p, (_, values, mixed) = w.graph, f"{layer}.{self.path}", self.widths
        joined, gate, b, a, locals_ = self._projected(w, p, x)
        y = short_convolution(w, f"{p}.conv1d", joined, mixed, self.kernel, bias=False, activation=self.activation)
        g.release(*locals_)
        heads = (w.b, w.t, self.value_heads)
        beta = g.unary("sigmoid", b, save="output")
        rate = g.unary("neg", exponential(g, g.cast(w.weight(f"{p}.A_log", heads[-1:]), "fp32")), save="none")
        offset = w.weight(f"{p}.dt_bias", heads[-1:])
        decay = outer(g, rate, softplus(g, plus(g, g.cast(a, "fp32"), offset, heads)), heads, "decay")
        keys = (w.b, w.t, self.key_heads, self.key)
        q, k, v = g.split(y, [keys, keys, (w.b, w.t, self.value_heads, self.value)])
        fused = w.s.fused_mixers and q.dtype != "fp32"  # the kernels refuse single precision
        core = (self._fused if fused else self._chunked)(w, q, k, v, decay, beta)
        g.release(y, q, k, v, beta, decay)
        core = self._normed(w, f"{p}.norm.weight", core, gate)
        out = w.linear(f"{p}.out_proj", g.view(core, (w.b, w.t, values)), w.arch.hidden)
        g.release(gate, core, joined)
        return out

    def _projected(self, w: Writer, p: str, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
        """Input of the convolution, gate, b, a, and what local variables still hold while the convolution runs."""
        g, (keys, values, mixed), h = w.graph, self.widths, self.value_heads
        small = (w.b, w.t, h)
        if not self.grouped:
            joined = g.view(w.linear(f"{p}.in_proj_qkv", x, mixed), (w.b, mixed, w.t))
            gate = w.linear(f"{p}.in_proj_z", x, values)
            b, a = w.linear(f"{p}.in_proj_b", x, h), w.linear(f"{p}.in_proj_a", x, h)
            return joined, gate, b, a, ()
        wide = w.linear(f"{p}.in_proj_qkvz", x, mixed + values)
        both = w.linear(f"{p}.in_proj_ba", x, 2 * h)
        parts = g.split(wide, [(w.b, w.t, keys), (w.b, w.t, keys), (w.b, w.t, values), (w.b, w.t, values)])
        q, k, v, gate = (g.copy(part) for part in parts)
        b, a = (g.copy(part) for part in g.split(both, [small, small]))
        joined = g.view(g.cat((q, k, v), (w.b, w.t, mixed)), (w.b, mixed, w.t))
        return joined, gate, b, a, (wide, both, q, k, v)

    def _normed(self, w: Writer, path: str, x: Tensor, gate: Tensor) -> Tensor:
        """RMS norm of each head, then the gate in fp32."""
        g, given = w.graph, x.dtype
        rows = w.b * w.t * self.value_heads
        weight = w.weight(path, (self.value,))
        normed = g.cast(normalized(g, g.cast(g.view(x, (rows, self.value)), "fp32"), rows), given)
        gate = g.view(gate, (rows, self.value))
        y = g.mul(g.mul(weight, normed), g.unary("silu", g.cast(gate, "fp32")))
        return g.cast(y, given)

    # -- separate operators ------------------------------------------------------------------------------------------------------------------------

    def _chunked(self, w: Writer, q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor) -> Tensor:
        g, given, h = w.graph, q.dtype, self.value_heads
        chunks = -(-w.t // CHUNK)
        rows, batch = chunks * CHUNK, w.b * h * chunks
        if self.key_heads != h:
            q, k = (repeated(g, t, (w.b, w.t, h, self.key)) for t in (q, k))
        q, k, v, beta, decay = (g.cast(t, "fp32") for t in (q, k, v, beta, decay))
        q, k = self._unit(w, q), self._unit(w, k)
        q = g.unary("query_scale", q, save="none")
        before = (q, k, v)
        q, k, v = (padded(g, t, (w.b, h, rows, t.shape[-1])) for t in (q, k, v))
        g.release(*before)
        beta, decay = (padded(g, t, (w.b, h, rows)) for t in (beta, decay))
        v_beta, k_beta = outer(g, v, beta, v.shape, "v_beta"), outer(g, k, beta, k.shape, "k_beta")
        total = apply(g, "cumsum", (decay,), decay.shape, "fp32")
        square = (batch, CHUNK, CHUNK)
        mask = g.new((CHUNK, CHUNK), "bool", False, "mask")
        g.add_operation("mask", "elementwise", (), (mask,), (), (Kernel("elementwise", mask.bytes),), ())
        pairs = apply(g, "pairwise_decay", (total,), square, "fp32", spread=4.0 * batch * CHUNK**2)
        pairs = exponential(g, apply(g, "masked_fill", (pairs,), square, "fp32", keeps=(mask,)))
        system = g.mul(g.batched_matmul(k_beta, k, CHUNK, CHUNK, self.key, batch, square, "k_k"), pairs)
        intra = g.mul(g.batched_matmul(q, k, CHUNK, CHUNK, self.key, batch, square, "q_k"), pairs)
        decayed = outer(g, k_beta, exponential(g, total), k.shape, "decayed_k")
        values = self._solve(w, system, v_beta, batch)
        keys = self._solve(w, system, decayed, batch)
        q = outer(g, q, exponential(g, total), q.shape, "decayed_q")
        left = exponential(g, apply(g, "decay_left", (total,), total.shape, "fp32"))
        kd = outer(g, k, left, k.shape, "decayed_key")
        y = self._scan(w, values, keys, q, kd, intra, chunks)
        g.release(beta, decay, v_beta, k_beta, total, mask, pairs, system, intra, decayed, values, keys, q, kd, v)
        return (
            g.cast(g.split(y, [(w.b, w.t, h, self.value)])[0], given)
            if given != "fp32"
            else g.copy(g.split(y, [(w.b, w.t, h, self.value)])[0])
        )

    @staticmethod
    def _unit(w: Writer, x: Tensor) -> Tensor:
        """`l2norm`: x · rsqrt(Σ x² + ε)."""
        g = w.graph
        rows = (*x.shape[:-1], 1)
        square = apply(g, "square", (x,), x.shape, "fp32", keeps=(x,), spread=x.bytes)
        inverse = g.unary("rsqrt", apply(g, "sum", (square,), rows, "fp32"), save="output", kernels=2)
        return g.mul(x, inverse)

    @staticmethod
    def _solve(w: Writer, system: Tensor, right: Tensor, batch: float) -> Tensor:
        """`solve_triangular`: keeps the system and its solution. Its backward solves again, and multiplies once for the system's gradient."""
        g, n = w.graph, right.shape[-1]
        y = g.new(right.shape, "fp32", system.requires_grad or right.requires_grad, "solved")
        moved = system.bytes + 2 * right.bytes
        backward = [Kernel("elementwise", moved)]
        if system.requires_grad:
            backward.append(
                matmul_kernel(CHUNK, CHUNK, n, w.graph._product_type(g.autocast or "fp32"), batch=batch, layout="wgrad")
            )
        saved = (system, y) if y.requires_grad else ()
        spread = 2 * system.bytes if system.requires_grad else 0.0
        g.add_operation(
            "solve_triangular", "matmul", (system, right), (y,), saved, (Kernel("elementwise", moved),), backward, temporary=(0.0, spread)
        )  # fmt: skip
        return y

    def _scan(
        self, w: Writer, values: Tensor, keys: Tensor, q: Tensor, k: Tensor, intra: Tensor, chunks: float
    ) -> Tensor:
        """The loop over chunks: keeps each state and each chunk's corrected values, and under autocast the operands of its products."""
        g, h, dk, dv = w.graph, self.value_heads, self.key, self.value
        inputs = (values, keys, q, k, intra)
        needs = any(t.requires_grad for t in inputs)
        y = g.new((w.b, h, chunks * CHUNK, dv), "fp32", needs, "delta_scan")
        states = g.new((chunks + 1, w.b, h, dk, dv), "fp32", False, "states")
        corrected = g.new(y.shape, "fp32", False, "corrected_values")
        outputs, saved = [y, states, corrected], [states, corrected, keys, q, k, intra]
        if g.autocast is not None:  # every operand is cast anew: state and corrected values twice, the others once
            per = 2 * states.numel * chunks / (chunks + 1) + 2 * corrected.numel + sum(t.numel for t in inputs[1:])
            cast = g.new((per,), g.autocast, False, "operands")
            outputs, saved = [*outputs, cast], [states, cast]
        kind, batch = g._product_type(g.autocast or "fp32"), w.b * h
        read, inside, update = (CHUNK, dv, dk), (CHUNK, dv, CHUNK), (dk, dv, CHUNK)
        one = [matmul_kernel(*size, kind, batch=batch) for size in (read, read, inside, update)]
        small = 4.0 * batch * (6 * CHUNK * dv + 3 * dk * dv)
        forward = [k._replace(times=chunks) for k in (*one, *(Kernel("elementwise", small / 6) for _ in range(6)))]
        backward: list[Kernel] = []
        if needs:
            full = sum(t.bytes for t in inputs) + y.bytes  # slices' gradients are padded with zeros to all chunks
            for size, count in ((read, 4 * chunks - 2), (inside, 2 * chunks), (update, 2 * chunks - 2)):
                backward.append(matmul_kernel(*size, kind, batch=batch, layout="dgrad")._replace(times=count))
            backward.append(Kernel("elementwise", 3 * full / 6)._replace(times=6 * chunks))
        largest = max(t.bytes for t in inputs)
        g.add_operation(
            "delta_scan", "attention", inputs, outputs, saved if needs else (), forward, backward, temporary=(0.0, largest)
        )  # fmt: skip
        return y

    # -- fused -------------------------------------------------------------------------------------------------------------------------------------

    def _fused(self, w: Writer, q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor) -> Tensor:
        """`chunk_gated_delta_rule` with its norm of queries and keys inside; only half precision."""
        g, h, dk, dv = w.graph, self.value_heads, self.key, self.value
        q, k, v = (g.copy(t) for t in (q, k, v))
        inputs = (q, k, v, decay, beta)
        needs, kind = any(t.requires_grad for t in inputs), q.dtype
        y = g.new((w.b, w.t, h, dv), kind, needs, "delta_rule")
        normed = [g.new(q.shape, kind, False, "unit_queries"), g.new(k.shape, kind, False, "unit_keys")]
        rows = [g.new((w.b, w.t, self.key_heads), "fp32", False, "statistics") for _ in range(2)]
        total = g.new((w.b, w.t, h), "fp32", False, "decay_sums")
        solved = g.new((w.b, w.t, h, CHUNK), kind, False, "chunk_matrix")
        chunks = -(-w.t // CHUNK)
        batch, size = w.b * h * chunks, BYTES[kind]
        states = size * batch * dk * dv
        scores, weighted = (CHUNK, CHUNK, dk), (CHUNK, dk, CHUNK)
        valued, read, update = (CHUNK, dv, CHUNK), (CHUNK, dv, dk), (dk, dv, CHUNK)
        forward = [
            matmul_kernel(*s, kind, batch=batch) for s in (scores, weighted, valued, read, update, read, scores, valued)
        ]
        moved = [Kernel("elementwise", t.bytes * 2) for t in (q, k, solved, y)] + [Kernel("elementwise", 2 * states)]
        again = forward[1:5]
        backward = [*again, *(kernel for kernel in forward for _ in range(2)), *moved, *moved]
        wide = size * w.b * w.t * h * (dk + 2 * dv)  # w, u and the corrected values
        outputs = (y, *normed, *rows, total, solved)
        saved = (v, beta, *outputs[1:]) if needs else ()
        g.add_operation(
            "delta_rule", "attention", inputs, outputs, saved, [*forward, *moved], backward,
            temporary=(wide + states, 2 * (wide + states)),
        )  # fmt: skip
        return y
