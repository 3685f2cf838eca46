"""Writes layers to a `Graph`: parameters, linear layers, norms and activations, as eager code or a stack's fused kernels execute them.

b: sequences · s: tokens per sequence · T = b·s. Sources: transformers 5.24 `modeling_*.py`; fused kernels:
Apex/Transformer Engine norms, Hsu et al. 2024 (Liger,
arXiv:2410.10989).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from planner.run import Batch
from planner.workload.architecture import Architecture
from planner.workload.graph import BYTES, Graph, Kernel, Parameter, Tensor
from planner.workload.methods.base import Adaptation
from planner.workload.pointwise import WRITTEN_OUT, xielu
from planner.workload.precision import QUANTIZED, Formats
from planner.workload.stacks import Stack


@dataclass(frozen=True)
class Setting:
    """Everything that the layers need to know beside the graph they write to.

    arch: the main stack · batch, seq: sequences of a micro step and the user's tokens of each · given: the run's batch,
    for stacks that count in other units.
    """

    arch: Architecture
    adaptation: Adaptation
    formats: Formats
    stack: Stack
    batch: int
    seq: int
    attention: str
    recompute_attention: bool = False
    sharded: bool = False
    given: Batch = field(default_factory=Batch)

    @property
    def eager(self) -> bool:
        return self.stack.fusion == "eager"

    @property
    def compiled(self) -> bool:
        return self.stack.fusion == "compiled"


class Writer:
    """Writes the layers of one part of a stack; `path` prefixes come from the stack's names."""

    def __init__(
        self, setting: Setting, graph: Graph, shared: dict[str, Parameter], arch: Architecture | None = None
    ) -> None:
        self.s, self.graph, self.shared = setting, graph, shared
        self.arch = setting.arch if arch is None else arch
        self.names, front = self.arch.names, self.arch.front
        main = not self.arch.tower
        self.b = setting.batch if front is None else front.sequences(setting.given)
        self.t = setting.seq if front is None else front.tokens(setting.given)
        self.t += setting.adaptation.virtual_tokens if main else 0
        self.keys = self.t + (setting.adaptation.prefix_tokens if main else 0)
        self.carried: dict[Hashable, Tensor] = {}
        """What an earlier part made for later ones: the prefix of each layer (by its number), a tower's output (by its name)."""
        self.head_kind = "causal-lm"
        self.kept: tuple[Tensor, ...] = ()
        """Local variables of the block's forward."""
        self.held: tuple[Tensor, ...] = ()
        """Local variables of the model's forward."""
        self.arguments: tuple[Tensor, ...] = ()
        """Tensors that every block receives beside its input: mask, cosine and sine."""

    def weight(self, path: str, shape: tuple[float, ...], *, base: bool = False) -> Tensor:
        """A parameter of the base model. base: a linear weight of a block, which a quantized base stores in fewer bits."""
        known = self.shared.get(path) or self.graph.named(path)
        if known is not None:
            return self.graph.parameter(known)
        if self.arch.shared_layers and path.startswith(self.names.layer.partition("{i}")[0]):
            return self._shared_weight(path, shape, base)
        formats = self.s.formats
        dtype = formats.base if base and formats.base else formats.graph
        parameter = Parameter(path, shape, dtype, self.s.adaptation.trains(path))
        return self.graph.parameter(parameter)

    def _shared_weight(self, path: str, shape: tuple[float, ...], base: bool) -> Tensor:
        """A weight of one of several layers that share it: counted where it is first used."""
        formats = self.s.formats
        dtype = formats.base if base and formats.base else formats.graph
        trained = self.s.adaptation.trains(path)
        self.shared[path] = Parameter(path, shape, dtype, trained, shared=True)
        return self.graph.parameter(Parameter(path, shape, dtype, trained))

    def share(self, path: str, shape: tuple[float, ...]) -> Tensor:
        """A parameter that a later stretch uses too (tied embeddings)."""
        tensor = self.weight(path, shape)
        if path not in self.shared and tensor.parameter is not None:
            original = tensor.parameter
            self.shared[path] = Parameter(path, shape, original.dtype, original.trainable, shared=True)
        return tensor

    def linear(
        self, path: str, x: Tensor, out: float, *, bias: bool = False, base: bool = True, weight: Tensor | None = None
    ) -> Tensor:
        """A linear layer of the base model, with what the method puts beside it."""
        adaptation = self.s.adaptation
        if adaptation.copies(path):
            return self.copied(path, x, out, bias)

        def layer(v: Tensor) -> Tensor:
            w = weight if weight is not None else self.weight(path + ".weight", (out, v.shape[-1]), base=base)
            offset = self.weight(path + ".bias", (out,)) if bias else None
            if base and bias and self.arch.bias_added:
                return self.graph.add(self.graph.linear(v, w), self.weight(path + ".bias", (out,)), name="bias_add")
            if w.parameter is not None and w.parameter.dtype in QUANTIZED:
                return self._quantized(v, w, offset)
            return self.graph.linear(v, w, offset)

        if adaptation.beside is None or not adaptation.adapts(path):
            return layer(x)
        return adaptation.beside(self, path, x, out, layer)

    def copied(self, path: str, x: Tensor, out: float, bias: bool) -> Tensor:
        """peft's modules_to_save: a trained copy runs, the frozen original stays in memory."""
        g = self.graph
        self.weight(path + ".weight", (out, x.shape[-1]))
        if bias:
            self.weight(path + ".bias", (out,))
        copied = self.copy_of(path + ".weight", (out, x.shape[-1]))
        offset = self.copy_of(path + ".bias", (out,)) if bias else None
        return g.linear(x, copied, offset)

    def copy_of(self, path: str, shape: tuple[float, ...]) -> Tensor:
        """The trained copy of a base parameter; it keeps the base's type, since peft casts only its own layers."""
        return self.graph.parameter(Parameter(path + ".copy", shape, self.s.formats.graph, True, adapter=True))

    def adapter(self, path: str, shape: tuple[float, ...], *, trainable: bool = True) -> Tensor:
        """A parameter that a method adds. peft upcasts half-precision adapters to fp32 (autocast_adapter_dtype);
        other stacks keep the model's type."""
        known = self.shared.get(path) or self.graph.named(path)
        if known is not None:
            return self.graph.parameter(known)
        if self.arch.shared_layers:
            self.shared[path] = Parameter(path, shape, self.adapter_type, trainable, adapter=True, shared=True)
        return self.graph.parameter(Parameter(path, shape, self.adapter_type, trainable, adapter=True))

    @property
    def adapter_type(self) -> str:
        """Storage type of added parameters."""
        wanted = self.s.adaptation.adapter_dtype
        return wanted or ("fp32" if self.s.stack.name.startswith("hf") else self.s.formats.graph)

    def active(self, probability: float) -> float:
        """A dropout probability of the config, 0 where the stack trains without dropout."""
        return probability if self.s.stack.dropout else 0.0

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

    def norm(self, path: str, x: Tensor, width: float, *, rows: float = 0) -> Tensor:
        """A norm over the last `width` features. rows: how many weights of that width there are, when each head has its own."""
        kind = self.arch.norm
        if kind == "layer":
            affine = self.arch.norm_affine
            shape = (rows, width) if rows else (width,)
            weight = self.weight(path + ".weight", shape) if affine else None
            bias = self.weight(path + ".bias", (width,)) if affine and self.arch.norm_bias and not rows else None
            return self.graph.layer_norm(x, weight, bias, fused_dtype=None if self.s.eager else x.dtype)
        if kind in WRITTEN_OUT:
            return WRITTEN_OUT[kind](self, path, x, width)
        if kind == "layer-offset":
            return self.offset_layer_norm(path, x, width)
        return self.rms_norm(path, x, width)

    def offset_layer_norm(self, path: str, x: Tensor, width: float) -> Tensor:
        """LayerNorm with weight 1 + w, which under autocast works in autocast's own type (transformers NemotronLayerNorm1P)."""
        g = self.graph
        weight, bias = self.weight(path + ".weight", (width,)), self.weight(path + ".bias", (width,))
        if not self.s.eager:
            return g.layer_norm(x, weight, bias, fused_dtype=x.dtype)
        dtype = g.autocast or x.dtype
        offset = g.cast(g.unary("one_plus", weight, save="none"), dtype)
        return g.layer_norm(g.cast(x, dtype), offset, g.cast(bias, dtype), fused_dtype=dtype)

    def rms_norm(self, path: str, x: Tensor, width: float) -> Tensor:
        """RMS norm (Zhang & Sennrich 2019, arXiv:1910.07467), in the three orders of casts that the families use."""
        g, kind = self.graph, self.arch.norm
        weight = self.weight(path + ".weight", (width,))
        if not self.s.eager:
            return g.layer_norm(x, weight, None, fused_dtype=x.dtype, name="rms_norm")
        x32 = g.cast(x, "fp32", name="norm_upcast")
        square = g.unary("pow", x32, scratch=2.0)
        rows = x.numel / width
        mean = g.new((rows, 1), "fp32", x.requires_grad, "mean")
        back = Kernel("elementwise", square.bytes)
        g.add_operation("mean", "norm", (square,), (mean,), (), (Kernel("reduction", square.bytes),), (back,))
        inverse = g.unary("rsqrt", mean, save="output", kernels=2)
        normed = g.mul(x32, inverse, name="normalize")
        if kind == "rms":
            y = g.mul(weight, g.cast(normed, x.dtype, name="norm_downcast"), name="norm_weight")
            g.release(normed)  # a local variable of the norm's forward
            return y
        if kind == "rms-offset":
            offset = g.unary("one_plus", g.cast(weight, "fp32"), save="none")
            return g.cast(g.mul(normed, offset, name="norm_weight"), x.dtype, name="norm_downcast")
        return g.cast(g.mul(g.cast(weight, "fp32"), normed, name="norm_weight"), x.dtype, name="norm_downcast")

    def activation(self, x: Tensor, path: str = "") -> Tensor:
        """The activation function; `gelu_new` is eight operators in eager code (transformers NewGELUActivation), one in fused stacks."""
        g, name = self.graph, self.arch.activation
        if name == "bloom_gelu":  # an autograd function that forms the derivative from the input
            return g.unary("gelu", x, kernels=8 if self.s.eager else 1, scratch=4.0)
        if name == "xielu":
            return xielu(self, path, x)
        if name in ("relu", "tanh"):
            return g.unary(name, x, save="output")
        if name == "relu2" and self.s.eager:  # squared ReLU (So et al. 2021, arXiv:2109.08668)
            return g.unary("pow", g.raise_(g.unary("relu", x, save="output")), scratch=2.0)
        if name not in ("gelu_new", "gelu_fast") or not self.s.eager:
            return g.unary(name, x)
        half = g.unary("half", x, save="none")
        cube = g.unary("scale", g.unary("pow", g.raise_(x), scratch=2.0), save="none")
        inner = g.unary("scale", g.add(x, cube), save="none")
        tanh = g.unary("tanh", inner, save="output")
        y = g.mul(half, g.unary("one_plus", tanh, save="none"))
        g.release(x)
        return y
