"""LLaMA-Adapter: in the last layers, the queries also attend to a trained prompt, through a gate that starts at zero.

Zhang et al. 2023, arXiv:2303.16199 (eq. 1-8), as peft's AdaptionPrompt runs it: keys and values of the prompt come from the layer's own frozen
projections, the queries are computed a second time, and the result passes through the output projection (not in GPT-2) before it is added.
Below the lowest such layer there is no backward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Parameter, Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.freeze import layer_index

if TYPE_CHECKING:
    from planner.workload.writer import Writer

SUPPORTED = ("llama", "mistral", "gpt2")
DEFAULT_LENGTH = 10
"""Of the paper, as is leaving out the two lowest layers."""


def _bind(method: Method, arch: Architecture) -> Adaptation:
    if arch.model_type not in SUPPORTED:
        raise PlanError(
            "method.name",
            method.name,
            f"is not offered by peft for {arch.model_type}",
            f"It works on {', '.join(SUPPORTED)}.",
        )
    length = method.virtual_tokens or DEFAULT_LENGTH
    layers = method.adapter_layers or max(1, arch.layers - 2)
    if layers > arch.layers:
        raise PlanError(
            "method.adapter_layers",
            layers,
            f"is more than the model's {arch.layers} layers",
            f"Use at most {arch.layers}.",
        )

    def adapted(path: str) -> int:
        layer = layer_index(path, arch)
        return int(layer is not None and layer >= arch.layers - layers)

    def after(w: Writer, layer: str, branch: str, x: Tensor, y: Tensor) -> Tensor:
        if branch != "attention" or not adapted(layer + "."):
            return y
        return attend(w, layer, x, y, length)

    return Adaptation(
        method.name,
        trains=lambda path: False,
        adapts=adapted,
        per_layer=True,
        peft=True,
        resolved={"virtual_tokens": length, "adapter_layers": layers},
        formula=f"{layers} · (p · h + 1) with p = {length}",
        after=after,
    )


def attend(w: Writer, layer: str, x: Tensor, y: Tensor, length: float) -> Tensor:
    """y + gate · softmax(q kᵀ / √d) v over the prompt, with the queries of x."""
    from planner.workload.attention import rotate  # it imports the writer, which imports this package

    arch, n, g = w.arch, w.names, w.graph
    heads, kv, d, b, t = arch.heads, arch.kv_heads, arch.head_dim, w.b, w.t
    dtype = "fp32" if w.s.formats.base else w.s.formats.graph
    prompt = g.parameter(Parameter(f"{layer}.adaption_prompt", (1, length, arch.hidden), dtype, True, adapter=True))
    gate = g.parameter(Parameter(f"{layer}.adaption_gate", (1,), dtype, True, adapter=True))
    every, shape = (b, kv, length, d), (b, heads, length, d)
    if arch.fused_qkv:
        total = (heads + 2 * kv) * d
        _, k, v = g.split(
            w.linear(f"{layer}.{n.fused}", prompt, total, bias=arch.qkv_bias), [(1, length, heads * d)] * 3
        )
        k, v = g.copy(k, every, name="repeat_prompt"), g.copy(v, every, name="repeat_prompt")
        again = w.linear(f"{layer}.{n.fused}", x, total, bias=arch.qkv_bias)
        q = g.split(again, [(b, heads, t, d), (b, kv, t, d), (b, kv, t, d)])[0]
    else:
        k = w.linear(f"{layer}.{n.key}", prompt, kv * d, bias=arch.qkv_bias)
        v = w.linear(f"{layer}.{n.value}", prompt, kv * d, bias=arch.qkv_bias)
        k, v = g.copy(k, every, name="repeat_prompt"), g.copy(v, every, name="repeat_prompt")
        k, v = g.copy(k, shape, name="repeat_kv"), g.copy(v, shape, name="repeat_kv")
        q = g.view(w.linear(f"{layer}.{n.query}", x, heads * d, bias=arch.qkv_bias), (b, heads, t, d))
        unused = Tensor(x.shape, x.dtype, x.storage, False)  # values that are computed again and left
        w.linear(f"{layer}.{n.value}", unused, kv * d, bias=arch.qkv_bias)
        q = rotate(w, q, heads, x.dtype)
    rows, k_wide, values = q, g.cast(k, q.dtype), v
    if arch.fused_qkv:  # transposed views: batched products copy them
        rows, k_wide, values = g.copy(g.lower(q)), g.copy(g.lower(k_wide)), g.copy(g.lower(v))
    scores = g.batched_matmul(rows, k_wide, t, length, d, b * heads, (b, heads, t, length), "scores")
    scaled = g.unary("attention_scale", scores, save="none")
    weights = g.mul(gate, g.cast(g.softmax(scaled, "fp32"), q.dtype), name="gate")
    attended = g.batched_matmul(weights, values, t, d, length, b * heads, (b, heads, t, d), "context")
    out = g.view(g.copy(attended), (b, t, heads * d))
    if not arch.fused_qkv:
        out = w.linear(f"{layer}.{n.out}", out, arch.hidden, bias=arch.out_bias)
    result = g.cast(g.add(y, out, name="adapter_add"), q.dtype)
    g.release(x, y, q, k, v, scaled, weights, out)  # local variables of the adapted attention's forward
    return result


register(
    MethodKind(
        "adaption_prompt",
        "LLaMA-Adapter",
        "Trains a gated prompt that the attention of the last layers sees.",
        ("virtual_tokens", "adapter_layers"),
        "Zhang et al. 2023, arXiv:2303.16199",
        _bind,
    )
)
