"""Multi-head latent attention: keys and values are expanded from one narrow vector per token (DeepSeek-AI 2024, arXiv:2405.04434, sec. 2.1).

Source: transformers 5.24 `modeling_deepseek_v2.py`, `modeling_deepseek_v3.py`. Queries and keys are wider than values, which
flash kernels of torch's sdpa do not take (`sdp_utils`: equal head sizes), so that on CUDA the memory-efficient one runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from planner.workload.attention import complex_rotary, promoted
from planner.workload.context import arrive, check_kernel, depart
from planner.workload.graph import BYTES, FUSED_ATTENTION, Kernel, Tensor
from planner.workload.writer import Writer


@dataclass(frozen=True)
class LatentAttention:
    """Sizes are counts. query_rank: width of the queries' latent, 0 when they are projected at once · rank: width of
    that of keys and values · plain, rotary: parts of a query's head without and with positions · value: a value's head.

    rotation: `halves` as Llama does it, `pairs` on even and odd elements, `complex` as products of fp32 complex numbers.
    bias: of the projections down and out.
    """

    query_rank: int
    rank: int
    plain: int
    rotary: int
    value: int
    rotation: Literal["halves", "pairs", "complex"] = "pairs"
    bias: bool = False
    by_heads: ClassVar[bool] = True
    spans_context: ClassVar[bool] = True
    """Tensor parallelism divides it as it does other attention: by heads; the latent vectors stand whole on every rank."""

    @property
    def summary(self) -> str:
        """What the line about the model calls it."""
        return f"MLA (latent {self.rank})"

    @property
    def linears(self) -> tuple[str, ...]:
        """Its linear layers, relative to the block."""
        query = ("q_a_proj", "q_b_proj") if self.query_rank else ("q_proj",)
        return tuple(f"self_attn.{name}" for name in (*query, "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"))

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        """The branch's output [b, t, h]."""
        g, arch, b, t, heads = w.graph, w.arch, w.b, w.t, w.arch.heads
        width, path = self.plain + self.rotary, f"{layer}.self_attn"
        if self.query_rank:
            low = w.linear(f"{path}.q_a_proj", x, self.query_rank, bias=self.bias)
            low = w.rms_norm(f"{path}.q_a_layernorm", low, self.query_rank)
            q = w.linear(f"{path}.q_b_proj", low, heads * width)
        else:
            q = w.linear(f"{path}.q_proj", x, heads * width)
        q_plain, q_turned = g.split(q, [(b, heads, t, self.plain), (b, heads, t, self.rotary)])
        compressed = w.linear(f"{path}.kv_a_proj_with_mqa", x, self.rank + self.rotary, bias=self.bias)
        latent, k_turned = g.split(compressed, [(b, t, self.rank), (b, 1, t, self.rotary)])
        latent = w.rms_norm(f"{path}.kv_a_layernorm", latent, self.rank)
        q_turned, k_turned = self.rotate(w, q_turned, x.dtype), self.rotate(w, k_turned, x.dtype)
        queries = g.cat((q_plain, q_turned), (b, heads, t, width), name="query_cat")
        if arch.query_rescaled:
            queries = g.unary("query_scale", queries, save="none")
        both = w.linear(f"{path}.kv_b_proj", latent, heads * (self.plain + self.value))
        k_plain, v = g.split(both, [(b, heads, t, self.plain), (b, heads, t, self.value)])
        keys = self.join(w, k_plain, k_turned, (b, heads, t, width))
        y = depart(w, self.core(w, *arrive(w, queries, keys, v)))
        out = w.linear(f"{path}.o_proj", g.view(y, (b, t, heads * self.value)), arch.hidden, bias=self.bias)
        g.release(x, q, compressed, latent, q_turned, k_turned, queries, keys, v)
        return out

    def rotate(self, w: Writer, x: Tensor, dtype: str) -> Tensor:
        """Rotary positions of one part; keeps nothing but the shared tables."""
        g = w.graph
        if self.rotation == "complex" and w.s.eager:
            return complex_rotary(w, x)
        if self.rotation == "halves" and w.s.eager:
            cosine = promoted(w, "rotary_cos", x, dtype)
            half = g.unary("rotate_half", x, save="none", kernels=2)
            return g.add(cosine, promoted(w, "rotary_sin", half, dtype), name="rotary_add")
        wide = max(dtype, x.dtype, key=BYTES.__getitem__)
        y = g.new(x.shape, wide if w.s.eager else x.dtype, x.requires_grad, "rotary")
        moved = (Kernel("elementwise", x.bytes + y.bytes),) * (7 if w.s.eager else 1)
        # half-sized products forward, full-sized gradients of the slices backward
        extra = (1.5 * y.bytes, 2.5 * y.bytes) if w.s.eager else (0.0, 0.0)
        g.add_operation("rotary", "elementwise", (x,), (y,), (), moved, moved, temporary=extra)
        return y

    def join(self, w: Writer, plain: Tensor, turned: Tensor, shape: tuple[float, ...]) -> Tensor:
        """Keys of every head beside the one with positions that all share: written into a new tensor in two copies, each of which
        clones the gradient in backward (autograd CopySlices)."""
        g = w.graph
        y = g.new(shape, plain.dtype, plain.requires_grad or turned.requires_grad, "keys")
        moved = (Kernel("elementwise", 2 * y.bytes),)
        back = (Kernel("elementwise", 2 * y.bytes),) * 4
        g.add_operation("key_copy", "elementwise", (plain, turned), (y,), (), moved, back, temporary=(0.0, 2 * y.bytes))
        return y

    def core(self, w: Writer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """softmax(q kᵀ) v with values of their own head size."""
        g, arch = w.graph, w.arch
        b, a, t, d, e = w.b, arch.heads, w.t, self.plain + self.rotary, self.value
        if w.s.attention != "eager":
            return self.fused(w, q, k, v)
        check_kernel(w, fused=False)
        q, k = g.lower(q), g.lower(k)
        v = g.copy(g.lower(v))
        weights = g.unary(
            "attention_scale", g.batched_matmul(q, k, t, t, d, b * a, (b, a, t, t), "scores"), save="none"
        )
        weights = g.unary("mask_add", weights, save="none")
        probabilities = g.cast(g.softmax(weights, "fp32"), q.dtype)
        probabilities = g.dropout(probabilities, w.active(arch.attention_dropout))
        out = g.copy(g.batched_matmul(probabilities, v, t, e, t, b * a, (b, a, t, e), "context"))
        w.kept = (*w.kept, probabilities)
        return out

    def fused(self, w: Writer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The memory-efficient kernel: keeps q, k, v, the output and one fp32 log-sum-exp per query.

        FLOP, of the whole square as torch's FlopCounterMode counts it: forward 2·b·a·s²·(d + e), backward 2·b·a·s²·(3d + 2e),
        d and e: head sizes of keys and values. Timed as a kernel of the mean head size.
        """
        g, b, a, t, d, e = w.graph, w.b, q.shape[1], q.shape[2], self.plain + self.rotary, self.value
        spread = 1 if w.s.split.by_heads else w.s.split.cp
        q, k, v = g.lower(q), g.lower(k), g.lower(v)
        needs = q.requires_grad or k.requires_grad or v.requires_grad
        out = g.new((b, a, t, e), q.dtype, needs, "attention_output")
        lse = g.new((b, a, t), "fp32", False, "log_sum_exp")
        geometry = {
            "batch": b / spread, "heads": a, "kv_heads": a, "q_len": t * spread, "kv_len": t * spread, "head_dim": (d + e) / 2,
            "causal": w.arch.causal, "window": None,
        }  # fmt: skip
        product = g.compute if q.dtype == "fp32" and g.compute in ("fp32", "tf32") else q.dtype
        square = 2.0 * b * a * t * t * spread
        forward = (Kernel("attention", 0.0, square * (d + e), dtype=product, layout="forward", extra=geometry),)
        backward = (
            Kernel("attention", 0.0, square * (3 * d + 2 * e), dtype=product, layout="backward", extra=geometry),
        )
        saved = (q, k, v, out, lse) if needs else ()
        scratch = 4.0 * b * a * t * (d + 1)
        g.add_operation(
            FUSED_ATTENTION, "attention", (q, k, v), (out, lse), saved, forward, backward, temporary=(0.0, scratch)
        )
        # with equal head sizes flash runs, whose output has the layout of q, so that the transpose back needs a copy
        return g.copy(out) if d == e and w.s.eager and out.dtype != "fp32" else out
