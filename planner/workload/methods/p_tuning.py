"""P-tuning: virtual tokens before the input, made by a small trained network.

Liu et al. 2021, arXiv:2103.10385, as peft's PromptEncoder runs it: a table of p · h, then an MLP of three linear layers (default) or a two-layer
bidirectional LSTM and an MLP of two. The encoder runs once for the whole batch, on p tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import BYTES, Kernel, matmul_kernel
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.virtual_tokens import (
    DEFAULT_TOKENS,
    ENCODER,
    check_source,
    check_width,
    dense,
    prepend,
    rows,
    table,
)

if TYPE_CHECKING:
    from planner.workload.graph import Tensor
    from planner.workload.writer import Writer

LSTM_LAYERS = 2
"""peft's default `encoder_num_layers`."""


def _bind(method: Method, arch: Architecture) -> Adaptation:
    check_width(arch, method.name)
    check_source(arch, method.name)
    tokens, encoder = method.virtual_tokens or DEFAULT_TOKENS, method.encoder or "mlp"
    hidden = method.encoder_hidden or arch.hidden

    def prompt(w: Writer, x: Tensor) -> Tensor:
        g = w.graph
        y = table(w, 1, rows(arch, tokens), arch.hidden)
        if encoder == "lstm":
            y = g.unary("relu", dense(w, "mlp_head.0", lstm(w, y, hidden), 2 * hidden), save="output")
            return prepend(w, dense(w, "mlp_head.2", y, arch.hidden), x)
        for name in ("mlp_head.0", "mlp_head.2"):
            y = g.unary("relu", dense(w, name, y, hidden), save="output")
        return prepend(w, dense(w, "mlp_head.4", y, arch.hidden), x)

    return Adaptation(
        method.name,
        trains=lambda path: False,
        peft=True,
        resolved={"virtual_tokens": tokens, "encoder": encoder, "encoder_hidden": hidden},
        adapter_dtype=method.adapter_dtype,
        formula=f"p · h + {encoder.upper()} encoder with p = {rows(arch, tokens)}, e = {hidden}",
        virtual_tokens=tokens,
        prompt=prompt,
    )


def lstm(w: Writer, x: Tensor, hidden: float) -> Tensor:
    """A bidirectional LSTM [1, p, in] to [1, p, 2·hidden]: per layer and direction 4·hidden·(in + hidden + 2) parameters, input products of all
    steps at once and one recurrent product a step; keeps its input and, per step, four gates and two states."""
    g = w.graph
    tokens = x.shape[1]
    for layer in range(LSTM_LAYERS):
        forward: list[Kernel] = []
        backward: list[Kernel] = []
        weights = []
        for end in ("", "_reverse"):
            name = f"{ENCODER}.lstm_head.{{}}_l{layer}{end}"
            weights.append(w.adapter(name.format("weight_ih"), (4 * hidden, x.shape[-1])))
            weights.append(w.adapter(name.format("weight_hh"), (4 * hidden, hidden)))
            weights.append(w.adapter(name.format("bias_ih"), (4 * hidden,)))
            weights.append(w.adapter(name.format("bias_hh"), (4 * hidden,)))
            whole, step = (4 * hidden, x.shape[-1]), (4 * hidden, hidden)
            forward += [matmul_kernel(tokens, *whole, x.dtype), *[matmul_kernel(1, *step, x.dtype)] * int(tokens)]
            backward += [
                matmul_kernel(tokens, x.shape[-1], 4 * hidden, x.dtype, layout="dgrad"),
                matmul_kernel(4 * hidden, x.shape[-1], tokens, x.dtype, layout="wgrad"),
                *[matmul_kernel(1, hidden, 4 * hidden, x.dtype, layout="dgrad")] * int(tokens),
                matmul_kernel(4 * hidden, hidden, tokens, x.dtype, layout="wgrad"),
            ]
        y = g.new((1, tokens, 2 * hidden), x.dtype, True, "lstm")
        reserve = g.new((1, tokens, 2 * 6 * hidden), x.dtype, False, "lstm_reserve")
        moved = y.numel * BYTES[x.dtype]
        g.add_operation(
            "lstm",
            "matmul",
            (x, *weights),
            (y, reserve),
            (x, y, reserve),
            (*forward, Kernel("elementwise", 8 * moved)),
            (*backward, Kernel("elementwise", 16 * moved)),
        )
        x = y
    return x


register(
    MethodKind(
        "p_tuning",
        "P-tuning",
        "Trains virtual tokens before the input and the network that makes them.",
        ("virtual_tokens", "encoder", "encoder_hidden", "adapter_dtype"),
        "Liu et al. 2021, arXiv:2103.10385",
        _bind,
    )
)
