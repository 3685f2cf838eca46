"""The symbolic graph: tensors, operations, and what autograd keeps of them for backward.

A `Graph` is written to like torch is: `y = graph.linear(x, w)`. Each call appends an `Operation` that knows its kernels forward and backward, the storages it
creates, and the tensors that autograd saves given what requires a gradient. Nothing here knows hardware. Shapes are
numbers, and every rule states PyTorch's own
(`tools/autograd/derivatives.yaml`, `aten/src/ATen/autocast_mode.h`), so that time, memory and FLOPs all follow from this one list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

Kind = Literal["matmul", "attention", "norm", "elementwise", "loss", "embedding", "dequantize", "collective", "solve"]

BYTES: dict[str, float] = {
    "fp32": 4,
    "tf32": 4,
    "bf16": 2,
    "fp16": 2,
    "fp8": 1,
    "fp8-block": 1 + 4 / 128,
    "mxfp8": 1 + 1 / 32,
    "nvfp4": 0.5 + 1 / 16,
    "bf16-2:4": 1.125,
    "fp16-2:4": 1.125,
    "int8": 1,
    "bool": 1,
    "int64": 8,
    "nf4": 0.5,
}
"""Bytes of one element; fp8-block, mxfp8 and nvfp4 with their scales, nf4 without its scales, which `precision.py` adds."""


FUSED_ATTENTION = "attention"
"""Name of the operation whose temporaries are scratch inside one kernel."""
BATCH = "batch"
"""Name of the storage of inputs that are large enough to count, such as images."""


class Storage:
    """Memory behind one or more tensors [bytes]; views share it, so that it counts once."""

    __slots__ = ("bytes", "category", "name")

    def __init__(self, size: float, category: str, name: str) -> None:
        self.bytes, self.category, self.name = size, category, name


class Tensor:
    """Shape, type and storage. `parameter` marks a leaf that lives outside the step.

    kept_as: the smaller tensor that backward makes this one from again, and that is kept in its place.
    """

    __slots__ = ("dtype", "kept_as", "numel", "parameter", "requires_grad", "shape", "storage")

    def __init__(
        self,
        shape: tuple[float, ...],
        dtype: str,
        storage: Storage,
        requires_grad: bool,
        parameter: Parameter | None = None,
    ) -> None:
        numel: float = 1
        for size in shape:
            numel *= size
        self.shape, self.dtype, self.storage, self.numel = shape, dtype, storage, numel
        self.requires_grad, self.parameter = requires_grad, parameter
        self.kept_as: Tensor | None = None

    @property
    def bytes(self) -> float:
        """Size of the values [bytes]."""
        return self.numel * BYTES[self.dtype]


class Parameter:
    """A weight: its path in the model, shape, storage type, and whether it is trained. buffer: it takes memory and is no parameter ·
    idle: nothing that depends on it reaches the loss, so it gets neither gradient nor optimizer state ·
    pinned: it has this type whatever the model's."""

    __slots__ = ("adapter", "buffer", "dtype", "idle", "name", "numel", "pinned", "shape", "shared", "trainable")

    def __init__(
        self,
        name: str,
        shape: tuple[float, ...],
        dtype: str,
        trainable: bool,
        *,
        adapter: bool = False,
        shared: bool = False,
        buffer: bool = False,
        pinned: bool = False,
    ) -> None:
        numel: float = 1
        for size in shape:
            numel *= size
        self.name, self.shape, self.dtype, self.trainable, self.numel = name, shape, dtype, trainable, numel
        self.adapter, self.shared, self.buffer, self.pinned = adapter, shared, buffer, pinned
        self.idle = False

    @property
    def expert(self) -> bool:
        """Stacked over experts, which expert parallelism divides."""
        return len(self.shape) == 3


class Kernel(NamedTuple):
    """One launch. `matmul` has its shape, `attention` its geometry in `extra`, all others only the bytes that they move.

    Of a convolution `extra` says so; the type of `dequantize` is that of the packed weight.

    times: launches of it one after the other, as in a loop over tokens.
    """

    kind: str
    moved: float = 0.0
    flops: float = 0.0
    m: float = 0.0
    n: float = 0.0
    k: float = 0.0
    batch: float = 1.0
    dtype: str = "fp32"
    layout: str = "forward"
    extra: Any = None
    times: float = 1.0


class Operation:
    """One node: kernels forward and backward, storages created, tensors saved.

    `alias` marks operations whose gradient is passed on without new memory (add, view). `temporary` is scratch
    during the operation [bytes], forward and backward. `attached` are tensors that the autograd node refers to as plain attributes:
    they live until backward is over, checkpointed or not.
    """

    __slots__ = ("alias", "attached", "backward", "forward", "grads", "inputs", "kind", "name", "outputs", "saved", "temporary")

    def __init__(
        self,
        name: str,
        kind: str,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        saved: Sequence[Tensor],
        forward: Sequence[Kernel],
        backward: Sequence[Kernel],
        alias: bool = False,
        temporary: tuple[float, float] = (0.0, 0.0),
        attached: Sequence[Tensor] = (),
    ) -> None:
        self.attached = attached
        self.name, self.kind, self.inputs, self.outputs = name, kind, inputs, outputs
        self.saved = [t.kept_as or t for t in saved]
        self.forward, self.backward, self.alias, self.temporary = forward, backward, alias, temporary
        self.grads = any(t.requires_grad for t in inputs)


def matmul_kernel(m: float, n: float, k: float, dtype: str, *, batch: float = 1.0, layout: str = "forward") -> Kernel:
    """[m, k] × [k, n], `batch` times: 2·m·n·k FLOP each."""
    return Kernel("matmul", 0.0, 2.0 * m * n * k * batch, m, n, k, batch, dtype, layout)


def _wider(x: Tensor, y: Tensor) -> Tensor:
    """The operand whose shape the result has. Of as many elements, the one with more axes: a row of one token is still a row."""
    return x if (x.numel, len(x.shape)) >= (y.numel, len(y.shape)) else y


class Graph:
    """Records the operations of one stretch of the model (embeddings, one block, the head).

    autocast: type that torch.autocast casts matrix products to, or None · processor: it runs on a CPU, whose kernels differ in places.
    A tensor lives until its last use; `release` is the last use of one that a local variable of the model's code still refers to.
    """

    def __init__(self, autocast: str | None = None, compute: str = "fp32", processor: bool = False) -> None:
        self.autocast = autocast
        self.processor = processor
        self.compute = compute
        self.operations: list[Operation] = []
        self.parameters: list[Parameter] = []
        self.category = "activations"
        self._weight_casts: dict[str, Tensor] = {}
        self._parameter_tensors: dict[int, Tensor] = {}

    # -- leaves ------------------------------------------------------------------------------------------------------------------------------------

    def parameter(self, parameter: Parameter) -> Tensor:
        """Use a weight; it is registered once."""
        known = self._parameter_tensors.get(id(parameter))
        if known is None:
            if not parameter.shared:
                self.parameters.append(parameter)
            dtype = parameter.dtype if parameter.dtype in BYTES else "nf4"
            known = Tensor(
                parameter.shape, dtype, Storage(0.0, "weights", parameter.name), parameter.trainable, parameter
            )
            self._parameter_tensors[id(parameter)] = known
        return known

    def named(self, name: str) -> Parameter | None:
        """A weight that this stretch already uses."""
        return next((p for p in self.parameters if p.name == name), None)

    def new(self, shape: tuple[float, ...], dtype: str, requires_grad: bool, name: str = "") -> Tensor:
        """A fresh tensor with its own storage."""
        tensor = Tensor(shape, dtype, Storage(0.0, self.category, name), requires_grad)
        tensor.storage.bytes = tensor.bytes
        return tensor

    def release(self, *tensors: Tensor) -> None:
        """The Python variables are gone: their last use is here."""
        self.operations.append(Operation("release", "hold", tensors, (), (), (), ()))

    def add_operation(self, *args: Any, **kwargs: Any) -> None:
        self.operations.append(Operation(*args, **kwargs))

    # -- autocast ----------------------------------------------------------------------------------------------------------------------------------

    def lower(self, x: Tensor) -> Tensor:
        """Autocast's cast of an operand of a matrix product; casts of trained fp32 leaves are cached until the forward ends."""
        if self.autocast is None or x.dtype == self.autocast or x.dtype not in ("fp32", "bf16", "fp16"):
            return x
        if x.parameter is not None and x.requires_grad:
            cached = self._weight_casts.get(x.parameter.name)
            if cached is None:
                cached = self._weight_casts[x.parameter.name] = self.cast(x, self.autocast, name="autocast_weight")
            return cached
        return self.cast(x, self.autocast, name="autocast")

    def share_casts(self, casts: dict[str, Tensor]) -> None:
        """Use the autocast copies of earlier stretches, whose weights this one uses again."""
        self._weight_casts = casts

    @property
    def cached_casts(self) -> tuple[Tensor, ...]:
        """Autocast's copies of trained weights: alive until the forward is over, whether backward needs them or not."""
        return tuple(self._weight_casts.values())

    def raise_(self, x: Tensor) -> Tensor:
        """Autocast's cast to fp32 for operations that need its range."""
        return self.cast(x, "fp32", name="autocast_fp32") if self.autocast is not None and x.dtype != "fp32" else x

    # -- elementwise -------------------------------------------------------------------------------------------------------------------------------

    def cast(self, x: Tensor, dtype: str, name: str = "cast") -> Tensor:
        """`x.to(dtype)`; nothing when it already is."""
        if x.dtype == dtype:
            return x
        y = self.new(x.shape, dtype, x.requires_grad, name)
        moved = x.bytes + y.bytes
        self.add_operation(
            name, "elementwise", (x,), (y,), (), (Kernel("elementwise", moved),), (Kernel("elementwise", moved),)
        )
        return y

    def view(self, x: Tensor, shape: tuple[float, ...]) -> Tensor:
        """Another shape of the same storage; its gradient is the same memory too."""
        y = Tensor(shape, x.dtype, x.storage, x.requires_grad)
        self.operations.append(Operation("view", "view", (x,), (y,), (), (), (), alias=True))
        return y

    def expand(self, x: Tensor, shape: tuple[float, ...]) -> Tensor:
        """`x.expand(shape)`: the same memory at a larger shape; backward sums a gradient of that shape."""
        y = Tensor(shape, x.dtype, x.storage, x.requires_grad)
        back = (Kernel("reduction", y.bytes + x.bytes),) if y.numel > x.numel else ()
        self.operations.append(Operation("expand", "elementwise", (x,), (y,), (), (), back, alias=y.numel == x.numel))
        return y

    def input(self, shape: tuple[float, ...], dtype: str, name: str) -> Tensor:
        """Data of the batch: in memory before the step, as the batch itself is."""
        return Tensor(shape, dtype, Storage(0.0, self.category, name), False)

    def leaf(self, x: Tensor) -> Tensor:
        """`x.requires_grad_(True)` on a tensor without history: autograd refers to it until backward is over."""
        x.requires_grad = True
        y = Tensor(x.shape, x.dtype, x.storage, True)
        self.operations.append(Operation("leaf", "view", (x,), (y,), (x,), (), (), alias=True))
        return y

    def split(self, x: Tensor, shapes: Sequence[tuple[float, ...]], kernels: int = 1) -> list[Tensor]:
        """Views of parts; backward writes one gradient of the whole."""
        parts = [Tensor(shape, x.dtype, x.storage, x.requires_grad) for shape in shapes]
        self.operations.append(
            Operation(
                "split", "elementwise", (x,), parts, (), (), [Kernel("elementwise", 2 * x.bytes / kernels)] * kernels
            )
        )
        return parts

    def copy(self, x: Tensor, shape: tuple[float, ...] | None = None, name: str = "contiguous") -> Tensor:
        """A contiguous copy (also `repeat_kv`, where the copy is larger; its backward sums)."""
        y = self.new(shape or x.shape, x.dtype, x.requires_grad, name)
        moved = x.bytes + y.bytes
        same = y.numel == x.numel
        backward = () if same else (Kernel("elementwise", moved),)
        self.add_operation(name, "elementwise", (x,), (y,), (), (Kernel("elementwise", moved),), backward, alias=same)
        return y

    def unary(
        self,
        name: str,
        x: Tensor,
        *,
        save: Literal["input", "output", "none"] = "input",
        kernels: int = 1,
        scratch: float = 0.0,
    ) -> Tensor:
        """An activation function or the like; saves its input (silu, gelu), its output (relu, tanh) or nothing (scaling, negation).

        scratch: temporaries of its backward formula, in units of the input.
        """
        y = self.new(x.shape, x.dtype, x.requires_grad, name)
        saved: tuple[Tensor, ...] = ()
        if x.requires_grad and save != "none":
            saved = (x,) if save == "input" else (y,)
        moved = x.bytes + y.bytes
        back = moved if save == "none" else moved + x.bytes
        self.add_operation(
            name,
            "elementwise",
            (x,),
            (y,),
            saved,
            (Kernel("elementwise", moved),) * kernels,
            (Kernel("elementwise", back),) * kernels,
            temporary=(0.0, scratch * x.bytes),
        )
        return y

    def add(self, x: Tensor, y: Tensor, name: str = "add") -> Tensor:
        """Sum; a gradient passes to both operands without a copy unless types differ or one broadcasts."""
        dtype = x.dtype if BYTES[x.dtype] >= BYTES[y.dtype] else y.dtype
        big = _wider(x, y)
        z = self.new(big.shape, dtype, x.requires_grad or y.requires_grad, name)
        moved = x.bytes + y.bytes + z.bytes
        backward: list[Kernel] = [] if x.bytes == y.bytes else [Kernel("elementwise", z.bytes + min(x.bytes, y.bytes))]
        self.add_operation(name, "elementwise", (x, y), (z,), (), (Kernel("elementwise", moved),), backward, alias=True)
        return z

    def mul(self, x: Tensor, y: Tensor, name: str = "mul") -> Tensor:
        """Product: keeps x when y needs a gradient, and y when x does."""
        dtype = x.dtype if BYTES[x.dtype] >= BYTES[y.dtype] else y.dtype
        big = _wider(x, y)
        z = self.new(big.shape, dtype, x.requires_grad or y.requires_grad, name)
        saved = ([y] if x.requires_grad else []) + ([x] if y.requires_grad else [])
        moved = x.bytes + y.bytes + z.bytes
        backward: list[Kernel] = []
        temporary = 0.0
        for one, other in ((x, y), (y, x)):
            if one.requires_grad:
                backward.append(Kernel("elementwise", z.bytes + other.bytes + big.numel * BYTES[dtype]))
                # a broadcast or narrower operand: the product is formed at full size and type, then summed or cast
                if one.numel < big.numel:
                    backward.append(Kernel("reduction", big.numel * BYTES[dtype]))
                if one.bytes < big.numel * BYTES[dtype]:
                    temporary = big.numel * BYTES[dtype]
        self.add_operation(
            name,
            "elementwise",
            (x, y),
            (z,),
            saved,
            (Kernel("elementwise", moved),),
            backward,
            temporary=(0.0, temporary),
        )
        return z

    def cat(self, parts: Sequence[Tensor], shape: tuple[float, ...], name: str = "cat") -> Tensor:
        """`torch.cat`: a copy in the widest type; its backward hands out views of the gradient."""
        wide = max(parts, key=lambda t: BYTES[t.dtype]).dtype
        y = self.new(shape, wide, any(t.requires_grad for t in parts), name)
        moved = sum(t.bytes for t in parts) + y.bytes
        casts = [Kernel("elementwise", 2 * t.bytes) for t in parts if t.dtype != wide]
        self.add_operation(name, "elementwise", parts, (y,), (), (Kernel("elementwise", moved),), casts)
        return y

    def dropout(self, x: Tensor, p: float) -> Tensor:
        """`native_dropout`: keeps a one-byte mask. A CPU has no such kernel: its mask has the type of x (aten/native/Dropout.cpp)."""
        if not p:
            return x
        y = self.new(x.shape, x.dtype, x.requires_grad, "dropout")
        mask = self.new(x.shape, x.dtype if self.processor else "bool", False, "dropout_mask")
        moved = x.bytes + y.bytes + mask.bytes
        saved = (mask,) if x.requires_grad else ()
        self.add_operation(
            "dropout",
            "elementwise",
            (x,),
            (y, mask),
            saved,
            (Kernel("elementwise", moved),),
            (Kernel("elementwise", moved),),
        )
        return y

    def softmax(self, x: Tensor, dtype: str | None = None, name: str = "softmax") -> Tensor:
        """Softmax over the last dimension, optionally with a fused conversion to fp32; keeps its result."""
        y = self.new(x.shape, dtype or x.dtype, x.requires_grad, name)
        moved = x.bytes + y.bytes
        saved = (y,) if x.requires_grad else ()
        self.add_operation(
            name, "norm", (x,), (y,), saved, (Kernel("reduction", moved),), (Kernel("reduction", moved + y.bytes),)
        )
        return y

    # -- norms -------------------------------------------------------------------------------------------------------------------------------------

    def layer_norm(
        self,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        *,
        fused_dtype: str | None = None,
        name: str = "layer_norm",
    ) -> Tensor:
        """`native_layer_norm` or a fused RMS norm: keeps its input and one or two fp32 statistics per row. Under autocast it runs in fp32."""
        if fused_dtype is None:
            x = self.raise_(x)
        rows = x.numel / x.shape[-1]
        affine = [t for t in (weight, bias) if t is not None]
        needs = x.requires_grad or any(t.requires_grad for t in affine)
        y = self.new(x.shape, fused_dtype or x.dtype, needs, name)
        statistics = [
            self.new((rows, 1), "fp32", False, "statistics")
            for _ in range(2 if bias is not None or weight is None else 1)
        ]
        moved = x.bytes + y.bytes
        backward = [Kernel("reduction", 2 * x.bytes + y.bytes)]
        if any(t.requires_grad for t in affine):
            backward.append(Kernel("reduction", x.bytes + y.bytes))
        self.add_operation(
            name,
            "norm",
            (x, *affine),
            (y, *statistics),
            (x, *statistics) if needs else (),
            (Kernel("reduction", moved),),
            backward,
        )
        return y

    # -- matrix products ---------------------------------------------------------------------------------------------------------------------------

    def linear(
        self, x: Tensor, weight: Tensor, bias: Tensor | None = None, *, name: str = "linear", dtype: str | None = None
    ) -> Tensor:
        """`x @ weight.T + bias`: keeps x when the weight is trained, the weight when x needs a gradient; a frozen weight has no weight gradient.

        dtype: type of the product when the weight is stored in another (a dequantized base).
        """
        x, w = self.lower(x), self.lower(weight)
        bias = self.lower(bias) if bias is not None else None
        out_features, in_features = weight.shape
        rows = x.numel / x.shape[-1]
        operand = dtype or x.dtype
        product = self._product_type(operand)
        needs = x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
        y = self.new((*x.shape[:-1], out_features), operand, needs, name)
        saved = ([x] if weight.requires_grad else []) + ([w] if x.requires_grad else [])
        backward: list[Kernel] = []
        if x.requires_grad:
            backward.append(matmul_kernel(rows, in_features, out_features, product, layout="dgrad"))
        if weight.requires_grad:
            backward.append(matmul_kernel(out_features, in_features, rows, product, layout="wgrad"))
        inputs = [x, w]
        if bias is not None:
            inputs.append(bias)
            if bias.requires_grad:
                backward.append(Kernel("reduction", y.bytes))
        forward = (matmul_kernel(rows, out_features, in_features, product),)
        self.add_operation(name, "matmul", inputs, (y,), saved, forward, backward)
        return y

    def convolution(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        shape: tuple[float, ...],
        *,
        groups: float = 1,
        name: str = "convolution",
    ) -> Tensor:
        """`aten.convolution` of x [batch, c_in, …] with weight [c_out, c_in / groups, …]; `shape` is the output's, [batch, c_out, …].

        Keeps x and the weight whenever anything requires a gradient: its derivative is one formula for all three inputs
        (derivatives.yaml, `convolution_backward`), which forms the gradients that are asked for. Each product is 2 FLOP per
        output element and element of the filter: as an implicit matrix product per group, or, with one channel a group, a
        kernel that memory bounds.
        """
        x, w = self.lower(x), self.lower(weight)
        bias = self.lower(bias) if bias is not None else None
        inputs = [x, w] if bias is None else [x, w, bias]
        y = self.new(shape, x.dtype, any(t.requires_grad for t in inputs), name)
        product = self._product_type(x.dtype)
        rows, columns = y.numel / shape[1], shape[1] / groups
        inner = weight.numel / shape[1]

        def kernel(m: float, n: float, k: float, layout: str) -> Kernel:
            if columns == 1 and groups > 1:
                return Kernel("elementwise", x.bytes + w.bytes + y.bytes, 2.0 * rows * shape[1] * inner)
            return matmul_kernel(m, n, k, product, batch=groups, layout=layout)._replace(extra="convolution")

        backward: list[Kernel] = []
        if x.requires_grad:
            backward.append(kernel(rows, inner, columns, "dgrad"))
        if weight.requires_grad:
            backward.append(kernel(columns, inner, rows, "wgrad"))
        if bias is not None and bias.requires_grad:
            backward.append(Kernel("reduction", y.bytes))
        forward = (kernel(rows, columns, inner, "forward"),)
        self.add_operation(name, "matmul", inputs, (y,), (x, w) if y.requires_grad else (), forward, backward)
        return y

    def batched_matmul(
        self, a: Tensor, b: Tensor, m: float, n: float, k: float, batch: float, shape: tuple[float, ...], name: str
    ) -> Tensor:
        """`batch` products [m, k] × [k, n]; keeps each operand that the other's gradient needs."""
        a, b = self.lower(a), self.lower(b)
        y = self.new(shape, a.dtype, a.requires_grad or b.requires_grad, name)
        saved = ([b] if a.requires_grad else []) + ([a] if b.requires_grad else [])
        product = self._product_type(a.dtype)
        backward = []
        if a.requires_grad:
            backward.append(matmul_kernel(m, k, n, product, batch=batch, layout="dgrad"))
        if b.requires_grad:
            backward.append(matmul_kernel(k, n, m, product, batch=batch, layout="wgrad"))
        forward = (matmul_kernel(m, n, k, product, batch=batch),)
        self.add_operation(name, "attention", (a, b), (y,), saved, forward, backward)
        return y

    def fused_attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        batch: float,
        heads: float,
        kv_heads: float,
        seq: float,
        head_dim: float,
        causal: bool,
        window: int | None,
        keys: float | None = None,
        bias: Tensor | None = None,
        spread: int = 1,
    ) -> Tensor:
        """Flash attention (Dao 2023, arXiv:2307.08691): keeps q, k, v, the output and one fp32 log-sum-exp per query, never the scores.

        keys: length of k and v, where it is not that of q · spread: ranks that share every sequence (context parallel), each with
        an equal part of the scores · bias: added to the scores (the memory-efficient kernel), and kept.
        FLOP count of the whole square, as torch's FlopCounterMode counts it: forward 4·b·a·s²·d, backward 10·b·a·s²·d (the scores are recomputed).
        """
        keys = seq if keys is None else keys
        q, k, v = self.lower(q), self.lower(k), self.lower(v)
        size = head_dim
        if (
            head_dim % 8 and q.dtype != "fp32" and bias is None
        ):  # flash kernels take head sizes that are multiples of 8: torch pads copies
            head_dim = -(-head_dim // 8) * 8
            q = self.copy(q, (batch, heads, seq, head_dim), name="pad")
            k, v = (self.copy(t, (batch, kv_heads, keys, head_dim), name="pad") for t in (k, v))
        needs = any(t.requires_grad for t in (q, k, v, *(() if bias is None else (bias,))))
        out = self.new((batch, heads, seq, head_dim), q.dtype, needs, "attention_output")
        lse = self.new((batch, heads, seq), "fp32", False, "log_sum_exp")
        square = batch * heads * seq * keys * spread * head_dim
        geometry = {
            "batch": batch / spread,
            "heads": heads,
            "kv_heads": kv_heads,
            "q_len": seq * spread,
            "kv_len": keys * spread,
            "head_dim": head_dim,
            "causal": causal,
            "window": window,
        }
        product = self._product_type(q.dtype)
        forward = (Kernel("attention", 0.0, 4.0 * square, dtype=product, layout="forward", extra=geometry),)
        backward = (Kernel("attention", 0.0, 10.0 * square, dtype=product, layout="backward", extra=geometry),)
        inputs = (q, k, v) if bias is None else (q, k, v, bias)
        saved = (*inputs, out, lse) if needs else ()
        scratch = 4.0 * batch * heads * seq * (head_dim + 1)  # backward accumulates dq in fp32, and one delta per query
        self.add_operation(
            FUSED_ATTENTION, "attention", inputs, (out, lse), saved, forward, backward, temporary=(0.0, scratch)
        )
        return out if size == head_dim else self.copy(out, (batch, heads, seq, size), name="unpad")

    def _product_type(self, dtype: str) -> str:
        return self.compute if dtype == "fp32" and self.compute in ("fp32", "tf32") else dtype
