"""Self-attention whose output is multiplied with a sigmoid gate from the query projection (Qwen3-Next).

Source: Qiu et al. 2025, arXiv:2505.06708; transformers 5.24 `Qwen3NextAttention`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from planner.workload.attention import core, qk_norm, rotate
from planner.workload.graph import Tensor
from planner.workload.writer import Writer


@dataclass(frozen=True)
class GatedAttention:
    """The query projection is twice as wide: queries and gates, head by head."""

    by_heads: ClassVar[bool] = True
    path: str = "self_attn"

    @property
    def linears(self) -> tuple[str, ...]:
        return tuple(f"{self.path}.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj"))

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        arch, g, n = w.arch, w.graph, w.names
        heads, kv, d, b, t = arch.heads, arch.kv_heads, arch.head_dim, w.b, w.t
        wide = w.linear(f"{layer}.{n.query}", x, 2 * heads * d, bias=arch.qkv_bias)
        q, gate = g.split(wide, [(b, t, heads * d), (b, t, heads * d)])
        gate = g.copy(gate)
        q = g.view(qk_norm(w, f"{layer}.{n.qk_norms[0]}", q, heads), (b, heads, t, d))
        k = qk_norm(w, f"{layer}.{n.qk_norms[1]}", w.linear(f"{layer}.{n.key}", x, kv * d, bias=arch.qkv_bias), kv)
        k = g.view(k, (b, kv, t, d))
        v = g.view(w.linear(f"{layer}.{n.value}", x, kv * d, bias=arch.qkv_bias), (b, kv, t, d))
        if arch.rotary_dim:
            q, k = rotate(w, q, heads, x.dtype), rotate(w, k, kv, x.dtype)
        k, v = w.s.adaptation.prefix(w, index, k, v)
        y = g.view(core(w, q, k, v, index), (b, t, heads * d))
        y = g.mul(y, g.unary("sigmoid", gate, save="output"))
        out = w.linear(f"{layer}.{n.out}", y, arch.hidden, bias=arch.out_bias)
        g.release(x, q, k, v, gate)
        return out
