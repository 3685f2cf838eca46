"""The parts of a transformer, written to a `Graph` operation by operation as transformers' eager code executes them, or as a stack's fused kernels do.

b: sequences · s: tokens per sequence · T = b·s. Sources: transformers 5.24 `modeling_*.py`; fused kernels:
Apex/Transformer Engine norms, Hsu et al. 2024 (Liger,
arXiv:2410.10989).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from planner.workload.architecture import Architecture
from planner.workload.graph import BYTES, Graph, Kernel, Operation, Parameter, Tensor, matmul_kernel
from planner.workload.methods.base import Adaptation
from planner.workload.precision import Formats
from planner.workload.stacks import Stack


@dataclass(frozen=True)
class Setting:
    """Everything that the layers need to know beside the graph they write to."""

    arch: Architecture
    adaptation: Adaptation
    formats: Formats
    stack: Stack
    batch: int
    seq: int
    attention: str
    recompute_attention: bool = False
    sharded: bool = False

    @property
    def eager(self) -> bool:
        return self.stack.fusion == "eager"

    @property
    def compiled(self) -> bool:
        return self.stack.fusion == "compiled"


class Writer:
    """Writes the layers of one stretch of the model; `path` prefixes come from the architecture's names."""

    def __init__(self, setting: Setting, graph: Graph, shared: dict[str, Parameter]) -> None:
        self.s, self.graph, self.shared = setting, graph, shared
        self.arch, self.names = setting.arch, setting.arch.names
        self.b, self.t = setting.batch, setting.seq
        self.kept: tuple[Tensor, ...] = ()
        """Local variables of the block's forward."""

    # -- parameters --------------------------------------------------------------------------------------------------------------------------------

    def weight(self, path: str, shape: tuple[float, ...], *, base: bool = False) -> Tensor:
        """A parameter of the base model. base: a linear weight of a block, which a quantized base stores in fewer bits."""
        known = self.shared.get(path)
        if known is not None:
            return self.graph.parameter(known)
        formats = self.s.formats
        dtype = formats.base if base and formats.base else formats.graph
        parameter = Parameter(path, shape, dtype, self.s.adaptation.trains(path))
        return self.graph.parameter(parameter)

    def share(self, path: str, shape: tuple[float, ...]) -> Tensor:
        """A parameter that a later stretch uses too (tied embeddings)."""
        tensor = self.weight(path, shape)
        if path not in self.shared and tensor.parameter is not None:
            original = tensor.parameter
            self.shared[path] = Parameter(path, shape, original.dtype, original.trainable, shared=True)
        return tensor

    # -- linear layers -----------------------------------------------------------------------------------------------------------------------------

    def linear(
        self, path: str, x: Tensor, out: float, *, bias: bool = False, base: bool = True, weight: Tensor | None = None
    ) -> Tensor:
        """A linear layer of the base model, with the low-rank update beside it where the method adapts it."""
        adaptation, g = self.s.adaptation, self.graph
        if adaptation.copies(path):
            self.weight(path + ".weight", (out, x.shape[-1]))
            copied = Parameter(path + ".copy.weight", (out, x.shape[-1]), self._adapter_type(), True, adapter=True)
            offset = (
                g.parameter(Parameter(path + ".copy.bias", (out,), self._adapter_type(), True, adapter=True))
                if bias
                else None
            )
            return g.linear(g.cast(x, copied.dtype) if g.autocast is None else x, g.parameter(copied), offset)
        shape = (out, x.shape[-1])
        w = weight if weight is not None else self.weight(path + ".weight", shape, base=base)
        offset = self.weight(path + ".bias", (out,)) if bias else None
        if w.parameter is not None and w.parameter.dtype in ("nf4", "nf4-dq", "int8"):
            y = self._quantized(x, w, offset)
        else:
            y = g.linear(x, w, offset)
        return self._low_rank(path, x, y, out) if adaptation.rank and adaptation.adapts(path) else y

    def _adapter_type(self) -> str:
        """peft upcasts half-precision adapters to fp32 (autocast_adapter_dtype); other stacks keep the model's type."""
        wanted = self.s.adaptation.adapter_dtype
        return wanted or ("fp32" if self.s.stack.name.startswith("hf") else self.s.formats.graph)

    def _low_rank(self, path: str, x: Tensor, y: Tensor, out: float) -> Tensor:
        """peft.tuners.lora.Linear.forward: `result + lora_B(lora_A(dropout(x.to(A.dtype)))) * scaling`, cast back to the base's type."""
        g, adaptation, dtype = self.graph, self.s.adaptation, self._adapter_type()
        rank = float(adaptation.rank)
        a = g.parameter(Parameter(path + ".lora_A.weight", (rank, x.shape[-1]), dtype, True, adapter=True))
        b = g.parameter(Parameter(path + ".lora_B.weight", (out, rank), dtype, True, adapter=True))
        adapted = g.dropout(g.cast(x, dtype, name="adapter_input"), adaptation.dropout)
        update = g.unary("adapter_scale", g.linear(g.linear(adapted, a, name="lora_A"), b, name="lora_B"), save="none")
        result = g.cast(g.add(y, update, name="adapter_add"), y.dtype, name="adapter_output")
        g.release(x, adapted)  # the module call's argument, and its local variable
        return result

    def _quantized(self, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        """bitsandbytes' MatMul4Bit: dequantizes the weight for forward and again for backward; keeps neither the
        copy nor, with a frozen weight, the input."""
        g, formats = self.graph, self.s.formats
        out, inner = w.shape
        assert w.parameter is not None
        compute = formats.compute
        x = g.cast(x, compute)
        y = g.new((*x.shape[:-1], out), compute, x.requires_grad, "quantized_linear")
        rows, full = x.numel / inner, w.numel * BYTES[compute]
        unpack = Kernel("dequantize", w.numel * (1.0 if w.parameter.dtype == "int8" else 0.53) + full)
        forward = [unpack, Kernel("matmul", 0.0, 2 * rows * out * inner, rows, out, inner, 1.0, compute)]
        backward = (
            [unpack, Kernel("matmul", 0.0, 2 * rows * out * inner, rows, inner, out, 1.0, compute, "dgrad")]
            if x.requires_grad
            else []
        )
        inputs = [x, w] if bias is None else [x, w, bias]
        g.add_operation("quantized_linear", "matmul", inputs, (y,), (), forward, backward, temporary=(full, full))
        return y

    # -- norms -------------------------------------------------------------------------------------------------------------------------------------

    def norm(self, path: str, x: Tensor, width: float) -> Tensor:
        """A norm over the last `width` features."""
        kind = self.arch.norm
        if kind == "layer":
            affine = self.arch.norm_affine
            weight = self.weight(path + ".weight", (width,)) if affine else None
            bias = self.weight(path + ".bias", (width,)) if affine and self.arch.norm_bias else None
            return self.graph.layer_norm(x, weight, bias, fused_dtype=None if self.s.eager else x.dtype)
        return self.rms_norm(path, x, width)

    def rms_norm(self, path: str, x: Tensor, width: float) -> Tensor:
        """RMS norm (Zhang & Sennrich 2019, arXiv:1910.07467), in the three orders of casts that the families use."""
        g, kind = self.graph, self.arch.norm
        weight = self.weight(path + ".weight", (width,))
        if not self.s.eager:
            return g.layer_norm(x, weight, None, fused_dtype=x.dtype, name="rms_norm")
        x32 = g.cast(x, "fp32", name="norm_upcast")
        square = g.unary("pow", x32)
        rows = x.numel / width
        mean = g.new((rows, 1), "fp32", x.requires_grad, "mean")
        back = Kernel("elementwise", square.bytes)
        g.add_operation("mean", "norm", (square,), (mean,), (), (Kernel("reduction", square.bytes),), (back,))
        inverse = g.unary("rsqrt", mean, save="output", kernels=2)
        normed = g.mul(x32, inverse, name="normalize")
        if kind == "rms":
            return g.mul(weight, g.cast(normed, x.dtype, name="norm_downcast"), name="norm_weight")
        if kind == "rms-offset":
            offset = g.unary("one_plus", g.cast(weight, "fp32"), save="none")
            return g.cast(g.mul(normed, offset, name="norm_weight"), x.dtype, name="norm_downcast")
        return g.cast(g.mul(g.cast(weight, "fp32"), normed, name="norm_weight"), x.dtype, name="norm_downcast")

    # -- activations -------------------------------------------------------------------------------------------------------------------------------

    def activation(self, x: Tensor) -> Tensor:
        """The activation function; `gelu_new` is eight operators in eager code (transformers NewGELUActivation), one in fused stacks."""
        g, name = self.graph, self.arch.activation
        if name in ("relu", "tanh"):
            return g.unary(name, x, save="output")
        if name not in ("gelu_new", "gelu_fast") or not self.s.eager:
            return g.unary(name, x)
        half = g.unary("half", x, save="none")
        cube = g.unary("scale", g.unary("pow", g.raise_(x)), save="none")
        inner = g.unary("scale", g.add(x, cube), save="none")
        tanh = g.unary("tanh", inner, save="output")
        y = g.mul(half, g.unary("one_plus", tanh, save="none"))
        g.release(x)
        return y

    # -- MLP ---------------------------------------------------------------------------------------------------------------------------------------

    def mlp(self, layer: str, x: Tensor) -> Tensor:
        """Plain (up, activation, down) or gated (Shazeer 2020, arXiv:2002.05202, eq. 6) MLP."""
        y = self._mlp(layer, x)
        self.graph.release(x)  # the caller's variable
        return y

    def _mlp(self, layer: str, x: Tensor) -> Tensor:
        arch, n, g = self.arch, self.names, self.graph
        if not arch.gated:
            hidden = self.activation(self.linear(f"{layer}.{n.up}", x, arch.ffn, bias=arch.mlp_bias))
            if arch.placement == "post" and not arch.causal:
                self.kept = (*self.kept, hidden)  # `intermediate_output`
            return self.linear(f"{layer}.{n.down}", hidden, arch.hidden, bias=arch.mlp_bias)
        if arch.fused_gate_up:
            both = self.linear(f"{layer}.{n.up}", x, 2 * arch.ffn, bias=arch.mlp_bias)
            half = (*both.shape[:-1], arch.ffn)
            gate, up = g.split(both, [half, half])
        else:
            gate = self.linear(f"{layer}.{n.gate}", x, arch.ffn, bias=arch.mlp_bias)
            if self.s.eager:
                gate = self.activation(gate)
            up = self.linear(f"{layer}.{n.up}", x, arch.ffn, bias=arch.mlp_bias)
        if not self.s.eager:
            product = self._glu(gate, up)
        elif arch.fused_gate_up:
            product = g.mul(up, self.activation(gate))
        else:
            product = g.mul(gate, up)
        return self.linear(f"{layer}.{n.down}", product, arch.hidden, bias=arch.mlp_bias)

    def _glu(self, gate: Tensor, up: Tensor) -> Tensor:
        """One fused kernel for activation(gate) · up; keeps both inputs."""
        g = self.graph
        y = g.new(gate.shape, gate.dtype, gate.requires_grad or up.requires_grad, "glu")
        saved = (gate, up) if y.requires_grad else ()
        moved = gate.bytes + up.bytes + y.bytes
        g.add_operation(
            "glu",
            "elementwise",
            (gate, up),
            (y,),
            saved,
            (Kernel("elementwise", moved),),
            (Kernel("elementwise", moved + 2 * y.bytes),),
        )
        return y

    # -- attention ---------------------------------------------------------------------------------------------------------------------------------

    def rotate(self, x: Tensor, heads: float, dtype: str) -> Tensor:
        """Rotary positions (Su et al. 2021, arXiv:2104.09864): `x·cos + rotate_half(x)·sin`, five kernels in eager code, one in fused stacks."""
        g, arch = self.graph, self.arch
        if not self.s.eager:
            y = g.new(x.shape, x.dtype, x.requires_grad, "rotary")
            g.add_operation(
                "rotary",
                "elementwise",
                (x,),
                (y,),
                (),
                (Kernel("elementwise", 2 * x.bytes),),
                (Kernel("elementwise", 2 * x.bytes),),
            )
            return y
        part = (
            x
            if arch.rotary_dim == arch.head_dim and not arch.fresh_rotary
            else g.view(x, (self.b, heads, self.t, arch.rotary_dim))
        )
        cosine = self._promoted("rotary_cos", part, dtype)
        half = g.unary("rotate_half", part, save="none", kernels=2)
        y = g.add(cosine, self._promoted("rotary_sin", half, dtype), name="rotary_add")
        if arch.fresh_rotary:  # torch.cat of the rotated part and the rest
            whole = g.new(x.shape, y.dtype, x.requires_grad, "rotary_cat")
            moved = x.bytes + whole.bytes
            g.add_operation(
                "rotary_cat",
                "elementwise",
                (y,),
                (whole,),
                (),
                (Kernel("elementwise", moved),),
                (Kernel("elementwise", moved),),
            )
            return whole
        return y

    def _promoted(self, name: str, x: Tensor, dtype: str) -> Tensor:
        """x times a constant of type `dtype`: the result has the wider of the two types."""
        g = self.graph
        wide = dtype if BYTES[dtype] > BYTES[x.dtype] else x.dtype
        y = g.new(x.shape, wide, x.requires_grad, name)
        moved = x.bytes + y.bytes
        g.add_operation(
            name, "elementwise", (x,), (y,), (), (Kernel("elementwise", moved),), (Kernel("elementwise", moved),)
        )
        return y

    def attention(self, layer: str, index: int, x: Tensor) -> Tensor:
        """Self-attention with grouped heads (Ainslie et al. 2023, arXiv:2305.13245)."""
        arch, n, g = self.arch, self.names, self.graph
        heads, kv, d, b, t = arch.heads, arch.kv_heads, arch.head_dim, self.b, self.t
        q_shape, kv_shape = (b, heads, t, d), (b, kv, t, d)
        if arch.fused_qkv:
            fused = self.linear(f"{layer}.{n.fused}", x, (heads + 2 * kv) * d, bias=arch.qkv_bias)
            q, k, v = g.split(fused, [q_shape, kv_shape, kv_shape])
        else:
            q = self.linear(f"{layer}.{n.query}", x, heads * d, bias=arch.qkv_bias)
            if arch.query_scaled:
                q = g.unary("query_scale", q, save="none")
            q = g.view(self._qk_norm(f"{layer}.{n.qk_norms[0]}", q, heads), q_shape)
            k = g.view(
                self._qk_norm(
                    f"{layer}.{n.qk_norms[1]}", self.linear(f"{layer}.{n.key}", x, kv * d, bias=arch.qkv_bias), kv
                ),
                kv_shape,
            )
            v = g.view(self.linear(f"{layer}.{n.value}", x, kv * d, bias=arch.qkv_bias), kv_shape)
        if arch.rotary_dim:
            q, k = self.rotate(q, heads, x.dtype), self.rotate(k, kv, x.dtype)
        y = self._core(q, k, v, index)
        out = self.linear(f"{layer}.{n.out}", g.view(y, (b, t, heads * d)), arch.hidden, bias=arch.out_bias)
        g.release(x, q, k, v)  # local variables of the module's forward and of its caller
        return out

    def _qk_norm(self, path: str, x: Tensor, heads: float) -> Tensor:
        kind, d = self.arch.qk_norm, self.arch.head_dim
        if kind == "none":
            return x
        return (
            self.rms_norm(path, self.graph.view(x, (self.b, self.t, heads, d)), d)
            if kind == "head"
            else self.rms_norm(path, x, heads * d)
        )

    def _core(self, q: Tensor, k: Tensor, v: Tensor, index: int) -> Tensor:
        """softmax(q kᵀ) v by the chosen kernel."""
        arch, g = self.arch, self.graph
        window = arch.window(index)
        unfused = self.s.attention == "eager" or (
            self.s.attention == "sdpa" and q.dtype == "fp32" and g.autocast is None and arch.heads != arch.kv_heads
        )
        if unfused or (arch.attention_softcap and self.s.attention == "sdpa"):
            return self._recomputed(q, k, v) if self.s.recompute_attention else self._eager(q, k, v)
        geometry = {
            "batch": self.b,
            "heads": arch.heads,
            "kv_heads": arch.kv_heads,
            "seq": self.t,
            "head_dim": arch.head_dim,
        }
        out = g.fused_attention(q, k, v, causal=arch.causal, window=window, **geometry)
        return g.copy(out) if arch.fresh_rotary and self.s.eager else out

    def _recomputed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The unfused core under a checkpoint (Korthikanti et al. 2022, sec. 4.2): keeps q, k, v only and runs forward again in backward."""
        inner = Writer(self.s, Graph(self.graph.autocast, self.graph.compute), self.shared)
        out = inner._eager(q, k, v)
        operations = inner.graph.operations
        kept = {id(t.storage): t.storage.bytes for o in operations for t in o.saved if t.parameter is None}
        scores = max(t.bytes for o in operations for t in o.outputs)
        forward = [kernel for o in operations for kernel in o.forward]
        backward = [*forward, *(kernel for o in reversed(operations) for kernel in o.backward)]
        y = self.graph.new(out.shape, out.dtype, out.requires_grad, "attention_core")
        saved = (q, k, v) if out.requires_grad else ()
        self.graph.add_operation(
            "attention_core",
            "attention",
            (q, k, v),
            (y,),
            saved,
            forward,
            backward,
            temporary=(2 * scores, sum(kept.values()) + scores),
        )
        return y

    def _eager(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention as separate operators; the score matrix [b, a, s, s] exists several times."""
        arch, g = self.arch, self.graph
        b, a, t, d = self.b, arch.heads, self.t, arch.head_dim
        full, scores = (b, a, t, d), (b, a, t, t)
        if not arch.fresh_rotary:
            q = g.copy(g.lower(q))
        if arch.kv_heads != a:
            k, v = g.copy(k, full, name="repeat_kv"), g.copy(v, full, name="repeat_kv")
        else:
            k, v = (g.lower(k) if arch.fresh_rotary else g.copy(g.lower(k))), g.copy(g.lower(v))
        weights = g.unary("attention_scale", g.batched_matmul(q, k, t, t, d, b * a, scores, "scores"), save="none")
        if arch.attention_softcap:
            weights = g.unary(
                "scale", g.unary("softcap", g.unary("scale", weights, save="none"), save="output"), save="none"
            )
        if arch.causal:
            weights = g.unary("mask_add", weights, save="none")
        wide = "fp32" if arch.softmax_upcast or g.autocast else None
        probabilities = g.softmax(
            weights if wide != "fp32" or g.autocast is None or arch.softmax_upcast else g.raise_(weights), wide
        )
        probabilities = g.dropout(
            g.cast(probabilities, v.dtype if g.autocast is None else (g.autocast or v.dtype)),
            self._p(arch.attention_dropout),
        )
        out = g.copy(g.batched_matmul(probabilities, v, t, d, t, b * a, full, "context"))
        if arch.kv_heads != a:
            g.release(k, v)  # the repeated heads
        self.kept = (*self.kept, probabilities)  # handed out of the attention module
        return out

    def _p(self, probability: float) -> float:
        return probability if self.s.stack.dropout else 0.0

    # -- blocks ------------------------------------------------------------------------------------------------------------------------------------

    def block(self, index: int, x: Tensor) -> Tensor:
        """One transformer block."""
        arch, g = self.arch, self.graph
        layer = self.names.layer.replace("{i}", str(index))
        norms = [f"{layer}.{name}" for name in self.names.norms]
        p = self._p(arch.hidden_dropout)
        h = arch.hidden
        if arch.placement == "pre":
            x = g.add(x, g.dropout(self.attention(layer, index, self.norm(norms[0], x, h)), p), name="residual")
            return g.add(x, g.dropout(self.mlp(layer, self.norm(norms[1], x, h)), p), name="residual")
        if arch.placement == "post":
            x = self.norm(norms[0], g.add(g.dropout(self.attention(layer, index, x), p), x, name="residual"), h)
            self.kept = (*self.kept, x)  # `attention_output`
            return self.norm(norms[1], g.add(g.dropout(self.mlp(layer, x), p), x, name="residual"), h)
        if arch.placement == "sandwich":
            x = g.add(
                x, self.norm(norms[1], self.attention(layer, index, self.norm(norms[0], x, h)), h), name="residual"
            )
            return g.add(x, self.norm(norms[3], self.mlp(layer, self.norm(norms[2], x, h)), h), name="residual")
        if arch.placement == "post-branch":
            x = g.add(x, self.norm(norms[0], self.attention(layer, index, x), h), name="residual")
            return g.add(x, self.norm(norms[1], self.mlp(layer, x), h), name="residual")
        first = self.norm(norms[0], x, h)
        attended = g.dropout(self.attention(layer, index, first), p)
        second = self.norm(norms[1], x, h) if arch.parallel_norms == 2 else first
        return g.add(g.add(g.dropout(self.mlp(layer, second), p), attended, name="residual"), x, name="residual")

    # -- embeddings --------------------------------------------------------------------------------------------------------------------------------

    def lookup(self, path: str, rows: float, width: float, *, tied: bool = False) -> Tensor:
        """An embedding: backward writes a dense gradient of the whole table."""
        g = self.graph
        table = self.share(path + ".weight", (rows, width)) if tied else self.weight(path + ".weight", (rows, width))
        if self.s.adaptation.copies(path):
            table = g.parameter(
                Parameter(path + ".copy.weight", (rows, width), self._adapter_type(), True, adapter=True)
            )
        y = g.new((self.b, self.t, width), table.dtype, table.requires_grad, "embedding")
        moved = 2 * y.bytes
        g.add_operation(
            "embedding",
            "embedding",
            (table,),
            (y,),
            (),
            (Kernel("elementwise", moved),),
            (Kernel("elementwise", table.bytes + 2 * moved),),
        )
        return y

    def embed(self, require_grad: bool) -> Tensor:
        """Token (and position, and segment) embeddings. require_grad: peft lets the output require a gradient so
        that checkpointed blocks have one to pass."""
        arch, n, g = self.arch, self.names, self.graph
        width = arch.embedding_width or arch.hidden
        x = self.lookup(n.embedding, arch.vocab, width, tied=arch.tied and self.head_kind != "sequence-classification")
        if require_grad and not x.requires_grad:
            x = g.leaf(x)
        if not n.embedding_norm and self.s.eager:
            self.held = (x,)  # `inputs_embeds`
        if self.s.attention == "eager" and arch.causal:
            mask = g.new((self.b, 1, self.t, self.t), x.dtype, False, "mask")
            g.add_operation("mask", "elementwise", (x,), (mask,), (), (Kernel("elementwise", mask.bytes),), ())
            self.held = (*self.held, mask)
        if arch.embedding_width:
            x = self.linear("model.decoder.project_in", x, arch.hidden, base=False)
        if arch.embedding_scaled:
            x = g.unary("embedding_scale", x, save="none")
        if arch.token_types:
            x = g.add(x, self.lookup(n.token_types, arch.token_types, arch.hidden))
        if arch.learned_positions:
            x = g.add(x, self._positions(n.positions, arch.learned_positions))
        if n.embedding_norm:
            x = self.norm(n.embedding_norm, x, arch.hidden)
        x = g.dropout(x, self._p(arch.embedding_dropout))
        if n.embedding_norm and self.s.eager:
            self.held = (*self.held, x)  # `embedding_output`
        return x

    def _positions(self, path: str, rows: float) -> Tensor:
        """Learned positions are looked up once for all sequences of the batch."""
        g = self.graph
        table = self.weight(path + ".weight", (rows, self.arch.hidden))
        y = g.new((1, self.t, self.arch.hidden), table.dtype, table.requires_grad, "positions")
        g.add_operation(
            "embedding",
            "embedding",
            (table,),
            (y,),
            (),
            (Kernel("elementwise", 2 * y.bytes),),
            (Kernel("elementwise", table.bytes + 2 * y.bytes),),
        )
        return y

    head_kind: str = "causal-lm"
    held: tuple[Tensor, ...] = ()

    # -- heads and losses --------------------------------------------------------------------------------------------------------------------------

    def head(self, x: Tensor) -> Tensor:
        """Final norm, output head and loss; returns the loss."""
        arch, g, kind = self.arch, self.graph, self.head_kind
        if arch.final_norm:
            x = self.norm(self.names.final_norm, x, arch.hidden)
        if arch.embedding_width:
            x = self.linear("model.decoder.project_out", x, arch.embedding_width, base=False)
        if kind == "none":
            return self._scalar(x)
        if kind == "sequence-classification":
            return self._classify(x)
        if kind == "masked-lm":
            x = self._transform(x)
        width = arch.embedding_width or arch.hidden
        tied = arch.tied
        g.category = "logits"
        head = self.names.head + (".decoder" if arch.head_transform else "")
        weight = self.weight(self.names.embedding + ".weight", (arch.vocab, width)) if tied else None
        if self.s.stack.loss == "chunked":
            return self._chunked_loss(
                x, weight if weight is not None else self.weight(head + ".weight", (arch.vocab, width))
            )
        logits = self.linear(head, x, arch.vocab, bias=arch.head_bias, base=False, weight=weight)
        if arch.logit_softcap:
            logits = g.unary(
                "scale", g.unary("softcap", g.unary("scale", logits, save="none"), save="output"), save="none"
            )
        return self._cross_entropy(logits)

    def _transform(self, x: Tensor) -> Tensor:
        """The masked-LM head's dense layer, activation and norm."""
        prefix = "cls.predictions.transform" if self.names.head == "cls.predictions" else "lm_head"
        norm = ".LayerNorm" if prefix.startswith("cls") else ".layer_norm"
        x = self.linear(prefix + ".dense", x, self.arch.hidden, bias=True, base=False)
        return self.norm(prefix + norm, self.graph.unary("gelu", x), self.arch.hidden)

    def _scalar(self, x: Tensor) -> Tensor:
        """A mean over everything: the stand-in loss of a headless model."""
        g = self.graph
        loss = g.new((1,), "fp32", x.requires_grad, "loss")
        g.add_operation(
            "loss", "loss", (x,), (loss,), (), (Kernel("reduction", x.bytes),), (Kernel("elementwise", x.bytes),)
        )
        return loss

    def _classify(self, x: Tensor) -> Tensor:
        """Encoders classify their first token, decoders score every token and take the last."""
        arch, g, n = self.arch, self.graph, self.names
        if arch.pooler or arch.classifier_hidden:
            x = g.split(x, [(self.b, arch.hidden)])[0]
            dense = "bert.pooler.dense" if arch.pooler else f"{n.classifier}.dense"
            if arch.classifier_hidden:
                x = g.dropout(x, self._p(arch.classifier_dropout))
            x = g.unary("tanh", self._classifier(dense, x, arch.hidden, trained=not arch.pooler), save="output")
            x = g.dropout(x, self._p(arch.classifier_dropout))
        name = f"{n.classifier}.out_proj" if arch.classifier_hidden else n.classifier
        logits = self._classifier(name, x, arch.num_labels, trained=True)
        loss = g.new((1,), "fp32", logits.requires_grad, "loss")
        log_probabilities = g.softmax(logits, "fp32" if g.autocast else None, name="log_softmax")
        g.add_operation(
            "nll_loss",
            "loss",
            (log_probabilities,),
            (loss,),
            (),
            (Kernel("reduction", logits.bytes),),
            (Kernel("elementwise", logits.bytes),),
        )
        return loss

    def _classifier(self, path: str, x: Tensor, out: float, *, trained: bool) -> Tensor:
        """peft trains a copy of the classification head beside the frozen original (task type SEQ_CLS)."""
        bias = self.arch.classifier_bias
        if trained and self.s.adaptation.peft:
            copy = replace(self.s.adaptation, copies=lambda p: True)
            writer = Writer(replace(self.s, adaptation=copy), self.graph, self.shared)
            if bias:
                self.weight(path + ".bias", (out,))
            return writer.linear(path, x, out, bias=bias, base=False)
        return self.linear(path, x, out, bias=bias, base=False)

    def _chunked_loss(self, x: Tensor, weight: Tensor) -> Tensor:
        """Head and loss in chunks (Hsu et al. 2024, arXiv:2410.10989, sec. 3.2): gradients are formed in forward, chunk by chunk, and only they are kept."""
        g = self.graph
        x, w = g.lower(x), g.lower(weight)
        vocab, width = weight.shape
        rows = x.numel / width
        chunk = 2.0 ** math.ceil(math.log2(max(1.0, rows / max(1.0, vocab / width))))
        loss = g.new((1,), "fp32", x.requires_grad or weight.requires_grad, "loss")
        product = x.dtype
        kernels = [matmul_kernel(rows, vocab, width, product), Kernel("reduction", 4 * rows * vocab * BYTES[x.dtype])]
        if x.requires_grad:
            kernels.append(matmul_kernel(rows, width, vocab, product, layout="dgrad"))
        if weight.requires_grad:
            kernels.append(matmul_kernel(vocab, width, rows, product, layout="wgrad"))
        gradient = g.new(x.shape, x.dtype, False, "logit_gradient")
        saved = [gradient] if x.requires_grad else []
        scratch = min(chunk, rows) * vocab * (BYTES[x.dtype] + 4.0)
        back = (Kernel("elementwise", 2 * x.bytes),)
        g.add_operation(
            "chunked_loss", "matmul", (x, w), (loss, gradient), saved, kernels, back, temporary=(scratch, 0.0)
        )
        return loss

    def _cross_entropy(self, logits: Tensor) -> Tensor:
        """Token loss. upcast: transformers' `logits.float()`, log_softmax, nll_loss; in-place: Megatron's vocab-parallel loss; compiled: no fp32 copy."""
        g, style, kind = self.graph, self.s.stack.loss, self.head_kind
        loss = g.new((1,), "fp32", logits.requires_grad, "loss")
        if kind == "masked-lm" and style == "upcast":  # encoders hand the logits to CrossEntropyLoss as they are
            logits = g.raise_(logits)
            probabilities = g.softmax(logits, name="log_softmax")
            back = (Kernel("elementwise", probabilities.bytes),)
            g.add_operation(
                "nll_loss", "loss", (probabilities,), (loss,), (), (Kernel("elementwise", 8 * self.b * self.t),), back
            )
            return loss
        if style == "compiled":
            moved = logits.bytes
            saved = (logits,) if logits.requires_grad else ()
            g.add_operation(
                "cross_entropy",
                "loss",
                (logits,),
                (loss,),
                saved,
                (Kernel("reduction", 2 * moved),),
                (Kernel("reduction", 2 * moved),),
            )
            return loss
        g.hold(logits)
        wide = g.cast(logits, "fp32", name="logits_upcast")
        if style == "in-place":
            saved = (wide,) if wide.requires_grad else ()
            kernels = tuple(Kernel("reduction", 2 * wide.bytes) for _ in range(4))
            g.add_operation(
                "cross_entropy",
                "loss",
                (wide,),
                (loss,),
                saved,
                kernels,
                (Kernel("elementwise", 2 * wide.bytes),),
                alias=False,
            )
            g.release(logits)
            return loss
        if self.s.sharded and self.s.stack.output_copies and g.autocast:
            copies = g.new(logits.shape, "fp32", False, "output_copy")
            g.add_operation(
                "output_copy",
                "loss",
                (wide,),
                (copies,),
                (copies,),
                (Kernel("elementwise", wide.bytes + copies.bytes),),
                (),
            )
        probabilities = g.softmax(wide, name="log_softmax")
        g.hold(wide)
        back = (Kernel("elementwise", probabilities.bytes),)
        g.add_operation(
            "nll_loss", "loss", (probabilities,), (loss,), (), (Kernel("elementwise", 8 * self.b * self.t),), back
        )
        g.release(wide)
        g.release(logits)
        return loss


def last_kept_only_inputs(operations: list[Operation]) -> int:
    """How many trailing operations a non-reentrant checkpoint's recomputation skips: it stops once the last saved tensor has been rebuilt.

    A saved input exists before its operation runs, so the operation that saves only inputs need not run either (torch.utils.checkpoint, early stop).
    """
    for position in range(len(operations) - 1, -1, -1):
        operation = operations[position]
        kept = [t for t in operation.saved if t.parameter is None]
        if kept:
            produced = {id(t) for t in operation.outputs}
            return len(operations) - position - (1 if any(id(t) in produced for t in kept) else 0)
    return len(operations)
