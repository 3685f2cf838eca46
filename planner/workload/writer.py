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
from planner.workload.graph import Graph, Kernel, Parameter, Tensor
from planner.workload.methods.base import Adaptation
from planner.workload.precision import QUANTIZED, Formats
from planner.workload.quantized import quantized_linear
from planner.workload.scaled import scaled_linear
from planner.workload.sparse24 import SUFFIX, sparse_linear
from planner.workload.split import Split
from planner.workload.stacks import Stack
from planner.workload.virtual_tokens import prompted_stack
from planner.workload.written_out import WRITTEN_OUT, gelu_erf, xielu


@dataclass(frozen=True)
class Setting:
    """Everything that the layers need to know beside the graph they write to.

    arch: the main stack · batch, seq: sequences of a micro step and the user's tokens of each · given: the run's batch,
    for stacks that count in other units · checkpoint_every, checkpoint_keep: which blocks are checkpointed, which kinds of operations they keep ·
    fused_mixers: state-space and linear-attention layers run their published fused kernels, not separate operators ·
    processor: it runs on a CPU.
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
    split: Split = field(default_factory=Split)
    checkpoint_every: int = 1
    checkpoint_keep: tuple[str, ...] = ()
    fused_mixers: bool = True
    processor: bool = False

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
        self.prompted = prompted_stack(setting.arch) == self.arch.tower
        """Whether virtual tokens stand in this stack."""
        self.b = setting.batch if front is None else front.sequences(setting.given)
        self.t: float = (setting.seq / setting.split.cp if setting.split.cp > 1 else setting.seq) if front is None else front.tokens(setting.given)
        self.alone = bool(self.arch.tower)
        """Not divided: a tower stands whole on every rank."""
        self.t += setting.adaptation.virtual_tokens if self.prompted else 0
        self.keys = self.t + (setting.adaptation.prefix_tokens if main else 0)
        self.carried: dict[Hashable, Tensor] = {}
        """What an earlier part made for later ones: the prefix of each layer (by its number), a tower's output (by its name)."""
        self.quantised: dict[int, tuple[Tensor, Tensor]] = {}
        """Low-precision copies of a tensor that several layers read, by storage: by rows and by columns."""
        self.joined: dict[int, Tensor] | None = None
        """While layers are written that are one product in the stack: copies of their input that 4-bit products keep, by storage."""
        self.head_kind = "causal-lm"
        self.checkpointed = False
        """Whether blocks are recomputed."""
        self.kept: tuple[Tensor, ...] = ()
        """Local variables of the block's forward."""
        self.held: tuple[Tensor, ...] = ()
        """Local variables of the model's forward."""
        self.outer: tuple[Tensor, ...] = ()
        """Local variables of the model's forward that a tower's front makes: they outlive the tower's own forward."""
        self.local: tuple[Tensor, ...] = ()
        """Local variables of the stack's forward, which ends before a later stack or the head begins."""
        self.handed: tuple[Tensor, ...] = ()
        """What a checkpointed block made for later ones."""
        self.lasting: tuple[Tensor, ...] = ()
        """What a block made that lives until backward is over."""
        self.arguments: tuple[Tensor, ...] = ()
        """Tensors that every block receives beside its input: mask, cosine and sine."""

    def weight(self, path: str, shape: tuple[float, ...], *, base: bool = False, replaced: bool = False) -> Tensor:
        """A parameter of the base model. base: a linear weight of a block, which a quantized base stores in fewer bits ·
        replaced: a trained copy runs in its place."""
        known = self.shared.get(path) or self.graph.named(path)
        if known is not None:
            return self.graph.parameter(known)
        if self.arch.shared_layers and path.startswith(self.names.layer.partition("{i}")[0]):
            return self._shared_weight(path, shape, base)
        formats = self.s.formats
        dtype = formats.base if base and formats.base else formats.graph
        trained = not replaced and self.s.adaptation.trains(path)
        if base and formats.sparse and not trained and len(shape) == 2:
            dtype += SUFFIX
        parameter = Parameter(path, shape, dtype, trained)
        return self.graph.parameter(parameter)

    def fixed(self, path: str, shape: tuple[float, ...]) -> Tensor:
        """A parameter that no method trains (sinusoidal positions)."""
        return self.graph.parameter(Parameter(path, shape, self.s.formats.graph, False))

    def buffer(self, path: str, shape: tuple[float, ...]) -> Tensor:
        """A tensor of the model that is stored beside the parameters."""
        return self.graph.parameter(Parameter(path, shape, self.s.formats.graph, False, buffer=True))

    def precise(self, path: str, shape: tuple[float, ...], *, trained: bool = True) -> Tensor:
        """A parameter that is fp32 in every model (transformers' `_keep_in_fp32_modules_strict`). trained: it can be."""
        trainable = trained and self.s.adaptation.trains(path)
        return self.graph.parameter(Parameter(path, shape, "fp32", trainable, pinned=self.s.formats.graph != "fp32"))

    def _shared_weight(self, path: str, shape: tuple[float, ...], base: bool) -> Tensor:
        """A weight of one of several layers that share it: counted where it is first used."""
        formats = self.s.formats
        dtype = formats.base if base and formats.base else formats.graph
        trained = self.s.adaptation.trains(path)
        self.shared[path] = Parameter(path, shape, dtype, trained, shared=True)
        return self.graph.parameter(Parameter(path, shape, dtype, trained))

    def share(self, path: str, shape: tuple[float, ...], *, base: bool = False) -> Tensor:
        """A parameter that a later stretch uses too (tied embeddings, blocks that share weights)."""
        tensor = self.weight(path, shape, base=base)
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
                return quantized_linear(self, v, w, offset)
            if self.s.formats.sparse and base and w.parameter is not None and not w.parameter.adapter:
                return sparse_linear(self, v, w, offset)
            scaled = self.s.formats.scaled
            if scaled is not None and base and scaled.takes(w) and w.parameter is not None and not w.parameter.adapter:
                return scaled_linear(self, v, w, offset)
            return self.graph.linear(v, w, offset)

        if adaptation.beside is None or not adaptation.adapts(path):
            return layer(x)
        return adaptation.beside(self, path, x, out, layer)

    def copied(self, path: str, x: Tensor, out: float, bias: bool) -> Tensor:
        """peft's modules_to_save: a trained copy runs, the frozen original stays in memory."""
        g = self.graph
        self.weight(path + ".weight", (out, x.shape[-1]), replaced=True)
        if bias:
            self.weight(path + ".bias", (out,), replaced=True)
        copied = self.copy_of(path + ".weight", (out, x.shape[-1]))
        offset = self.copy_of(path + ".bias", (out,)) if bias else None
        return g.linear(x, copied, offset)

    def copy_of(self, path: str, shape: tuple[float, ...]) -> Tensor:
        """The trained copy of a base parameter; it keeps the base's type, since peft casts only its own layers."""
        return self.added(path + ".copy", shape, self.s.formats.graph, True)

    def with_tokens(self, table: Tensor) -> Tensor:
        """The embedding table with the rows of trained tokens put in (peft.tuners.trainable_tokens): a copy of the whole table at every use."""
        count, g = self.s.adaptation.tokens, self.graph
        if not count:
            return table
        name = "token_adapter.trainable_tokens_delta"
        known = self.shared.get(name)
        rows = g.parameter(known) if known is not None else self.adapter(name, (count, table.shape[-1]))
        assert rows.parameter is not None
        if self.arch.tied and known is None:
            self.shared[name] = Parameter(name, rows.shape, rows.dtype, True, adapter=True, shared=True)
        cast = g.cast(rows, table.dtype)
        merged = g.new(table.shape, table.dtype, True, "merged_tokens")
        moved = (Kernel("elementwise", 2 * merged.bytes),)
        g.add_operation("merge_tokens", "elementwise", (table, cast), (merged,), (), moved, moved)
        return merged

    def adapter(self, path: str, shape: tuple[float, ...], *, trainable: bool = True) -> Tensor:
        """A parameter that a method adds. peft upcasts half-precision adapters to fp32 (autocast_adapter_dtype);
        other stacks keep the model's type."""
        known = self.shared.get(path) or self.graph.named(path)
        if known is not None:  # a module that runs a second time
            return self.graph.parameter(known)
        if self.arch.shared_layers:
            self.shared[path] = Parameter(path, shape, self.adapter_type, trainable, adapter=True, shared=True)
        return self.added(path, shape, self.adapter_type, trainable)

    def added(self, path: str, shape: tuple[float, ...], dtype: str, trainable: bool) -> Tensor:
        """A parameter of the active adapter; the others in memory have a frozen one like it."""
        for i in range(1, self.s.adaptation.loaded):
            self.graph.parameter(Parameter(f"{path}.{i}", shape, dtype, False, adapter=True))
        return self.graph.parameter(Parameter(path, shape, dtype, trainable, adapter=True))

    @property
    def adapter_type(self) -> str:
        """Storage type of added parameters."""
        wanted = self.s.adaptation.adapter_dtype
        return wanted or ("fp32" if self.s.stack.name.startswith("hf") else self.s.formats.graph)

    def active(self, probability: float) -> float:
        """A dropout probability of the config, 0 where the stack trains without dropout."""
        return probability if self.s.stack.dropout else 0.0

    def affine(self, path: str, width: float, rows: float = 0) -> Tensor:
        """Weight or bias of a norm, or its trained copy. rows: how many weights of that width there are."""
        copied, shape = self.s.adaptation.copies(path.rsplit(".", 1)[0]), (rows, width) if rows else (width,)
        original = self.weight(path, shape, replaced=copied)
        return self.copy_of(path, shape) if copied else original

    def norm(self, path: str, x: Tensor, width: float, *, rows: float = 0) -> Tensor:
        """A norm over the last `width` features. rows: how many weights of that width there are, when each head has its own."""
        kind = self.arch.norm
        if kind == "layer":
            affine = self.arch.norm_affine
            weight = self.affine(path + ".weight", width, rows) if affine else None
            bias = self.affine(path + ".bias", width) if affine and self.arch.norm_bias and not rows else None
            return self.graph.layer_norm(x, weight, bias, fused_dtype=None if self.s.eager else x.dtype)
        if kind in WRITTEN_OUT:
            return WRITTEN_OUT[kind](self, path, x, width)
        if kind == "layer-offset":
            return self.offset_layer_norm(path, x, width)
        return self.rms_norm(path, x, width)

    def offset_layer_norm(self, path: str, x: Tensor, width: float) -> Tensor:
        """LayerNorm with weight 1 + w, which under autocast works in autocast's own type (transformers NemotronLayerNorm1P)."""
        g = self.graph
        weight, bias = self.affine(path + ".weight", width), self.affine(path + ".bias", width)
        if not self.s.eager:
            return g.layer_norm(x, weight, bias, fused_dtype=x.dtype)
        dtype = g.autocast or x.dtype
        offset = g.cast(g.unary("one_plus", weight, save="none"), dtype)
        return g.layer_norm(g.cast(x, dtype), offset, g.cast(bias, dtype), fused_dtype=dtype)

    def rms_norm(self, path: str, x: Tensor, width: float) -> Tensor:
        """RMS norm (Zhang & Sennrich 2019, arXiv:1910.07467), in the three orders of casts that the families use."""
        g, kind = self.graph, self.arch.norm
        weight = self.affine(path + ".weight", width)
        if not self.s.eager:
            return g.layer_norm(x, weight, None, fused_dtype=x.dtype, name="rms_norm")
        normed = self.normalized(x, width)
        if kind == "rms-own":
            return g.mul(weight, normed if weight.dtype == "fp32" else g.cast(normed, weight.dtype), name="norm_weight")
        if kind == "rms":
            y = g.mul(weight, g.cast(normed, x.dtype, name="norm_downcast"), name="norm_weight")
            g.release(normed)  # a local variable of the norm's forward
            return y
        if kind == "rms-offset":
            offset = g.unary("one_plus", g.cast(weight, "fp32"), save="none")
            return g.cast(g.mul(normed, offset, name="norm_weight"), x.dtype, name="norm_downcast")
        return g.cast(g.mul(g.cast(weight, "fp32"), normed, name="norm_weight"), x.dtype, name="norm_downcast")

    def normalized(self, x: Tensor, width: float) -> Tensor:
        """x over the root of the mean of its squares, in fp32."""
        g, kind = self.graph, self.arch.norm
        x32 = g.cast(x, "fp32", name="norm_upcast")
        square = g.unary("pow", x32, scratch=2.0)
        rows = x.numel / width
        mean = g.new((rows, 1), "fp32", x.requires_grad, "mean")
        back = Kernel("elementwise", square.bytes)
        g.add_operation("mean", "norm", (square,), (mean,), (), (Kernel("reduction", square.bytes),), (back,))
        inverse = g.unary("rsqrt", mean, save="output", kernels=2)
        if kind == "rms-own":
            return g.mul(x, inverse, name="normalize")
        return g.mul(x32, inverse, name="normalize")

    def activation(self, x: Tensor, path: str = "") -> Tensor:
        """The activation function; `gelu_new` is eight operators in transformers' eager code (NewGELUActivation), else one."""
        g, name = self.graph, self.arch.activation
        if name == "bloom_gelu":  # an autograd function that forms the derivative from the input
            return g.unary("gelu", x, kernels=8 if self.s.eager else 1, scratch=4.0)
        if name == "xielu":
            return xielu(self, path, x)
        if name == "gelu_erf" and self.s.eager:
            return gelu_erf(self, x)
        if name in ("relu", "tanh"):
            return g.unary(name, x, save="output")
        if name == "relu2" and self.s.eager:  # squared ReLU (So et al. 2021, arXiv:2109.08668)
            return g.unary("pow", g.raise_(g.unary("relu", x, save="output")), scratch=2.0)
        if name == "quick_gelu" and self.s.eager:
            gate = g.unary("sigmoid", g.unary("scale", x, save="none"), save="output")
            y = g.mul(x, gate)
            g.release(x)
            return y
        if name not in ("gelu_new", "gelu_fast") or not self.s.eager or self.s.stack.own_modules:
            return g.unary(name, x)
        if name == "gelu_fast":
            return self._gelu_fast(x)
        half = g.unary("half", x, save="none")
        cube = g.unary("scale", g.unary("pow", g.raise_(x), scratch=2.0), save="none")
        inner = g.unary("scale", g.add(x, cube), save="none")
        tanh = g.unary("tanh", inner, save="output")
        y = g.mul(half, g.unary("one_plus", tanh, save="none"))
        g.release(x)
        return y

    def _gelu_fast(self, x: Tensor) -> Tensor:
        """`0.5·x·(1 + tanh(0.798·x·(1 + 0.0447·x·x)))`, operator by operator (transformers FastGELUActivation)."""
        g = self.graph
        half, scaled = (g.unary("scale", x, save="none") for _ in range(2))
        square = g.mul(g.unary("scale", x, save="none"), x)
        inner = g.mul(scaled, g.unary("one_plus", square, save="none"))
        y = g.mul(half, g.unary("one_plus", g.unary("tanh", inner, save="output"), save="none"))
        g.release(x)
        return y

def idle_adapters(w: Writer, path: str, x: Tensor, out: float) -> None:
    """The adapter of a linear layer that the model holds and does not run: its weights, without operations."""
    aside = Writer(w.s, Graph(w.graph.autocast, w.graph.compute, w.graph.processor), dict(w.shared), w.arch)
    aside.linear(path, x, out)
    for parameter in aside.graph.parameters:
        if parameter.adapter:
            w.graph.parameter(parameter)
