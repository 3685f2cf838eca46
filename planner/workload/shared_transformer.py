"""A transformer block whose weights several layers share, in front of each one's Mamba-2 mixer (Zamba 2).

Glorioso et al. 2024, arXiv:2411.15242 (fig. 2): the block reads the running hidden states beside the token embeddings, its weights have low-rank additions
of each use, and its result, through a linear layer of the use, is added to the mixer's input. Source: transformers 5.24 `modeling_zamba2.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.workload.attention import core, rotate
from planner.workload.graph import Tensor
from planner.workload.moe import glu
from planner.workload.state_space_dual import StateSpaceDual
from planner.workload.writer import Writer, idle_adapters


@dataclass(frozen=True)
class MambaBlock:
    """Norm, mixer, residual sum. within: path of the block inside the layer."""

    mixer: StateSpaceDual
    within: str = ""

    @property
    def kernels(self) -> str:
        """Packages of the mixer's fused path."""
        return self.mixer.kernels

    @property
    def label(self) -> str:
        """What it is, in the model's summary."""
        return self.mixer.label

    @property
    def linears(self) -> tuple[str, ...]:
        return tuple(f"{self.within}{name}" for name in self.mixer.linears)

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        return self.after(w, layer, index, x, x)

    def after(self, w: Writer, layer: str, index: int, x: Tensor, h: Tensor) -> Tensor:
        """x plus the mixer of h's norm."""
        inner = f"{layer}.{self.within}".rstrip(".")
        normed = w.norm(f"{inner}.{w.names.norms[0]}", h, w.arch.hidden)
        return w.graph.add(x, self.mixer.write(w, inner, index, normed), name="residual")


@dataclass(frozen=True)
class SharedTransformer:
    """The shared block before a Mamba block. owner: the layer that holds the shared weights.

    use: number of this layer among those that have the block · peers: uses of the same weights, this one among them ·
    rank: of the additions of each use to gate and up projection, and to
    queries, keys and values where `attends` says so.
    """

    block: MambaBlock
    owner: int
    use: int
    peers: tuple[int, ...]
    rank: int
    attends: bool
    path: str = "shared_transformer"

    @property
    def kernels(self) -> str:
        """Packages of the mixer's fused path."""
        return self.block.kernels

    @property
    def label(self) -> str:
        """What stands beside attention, in the model's summary."""
        return self.block.label

    @property
    def linears(self) -> tuple[str, ...]:
        attention = tuple(f"{self.path}.self_attn.{name}_proj" for name in "qkvo")
        mlp = (f"{self.path}.feed_forward.gate_up_proj", f"{self.path}.feed_forward.down_proj")
        return (*attention, *mlp, "linear", *self.block.linears)

    def write(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        g, arch, h = w.graph, w.arch, w.arch.hidden
        both = g.cat((x, w.carried["embeddings"]), (w.b, w.t, 2 * h), "embeddings_beside")
        normed = self._norm(w, layer, "input_layernorm", both, 2 * h)
        attended = self._norm(w, layer, "pre_ff_layernorm", self._attention(w, layer, index, normed), h)
        made = self._linear(w, layer, "feed_forward.gate_up_proj", attended, 2 * arch.ffn, arch.mlp_bias)
        made = self._added(w, layer, "feed_forward.gate_up_proj_adapter_list", attended, made)
        gate, up = g.split(made, [(w.b, w.t, arch.ffn)] * 2)
        product = g.mul(w.activation(gate), up) if w.s.eager else glu(w, gate, up)
        out = self._linear(w, layer, "feed_forward.down_proj", product, h, arch.mlp_bias)
        added = w.linear(f"{layer}.linear", out, h)
        y = self.block.after(w, layer, index, x, g.add(x, added))
        g.release(added)
        return y

    def _attention(self, w: Writer, layer: str, index: int, x: Tensor) -> Tensor:
        g, arch = w.graph, w.arch
        heads, kv, d = arch.heads, arch.kv_heads, arch.head_dim
        made = []
        for name, count in (("q", heads), ("k", kv), ("v", kv)):
            y = self._linear(w, layer, f"self_attn.{name}_proj", x, count * d)
            if self.attends:
                y = self._added(w, layer, f"self_attn.linear_{name}_adapter_list", x, y)
            made.append(g.view(y, (w.b, count, w.t, d)))
        q, k, v = made
        if arch.rotary_dim:
            q, k = rotate(w, q, heads, x.dtype), rotate(w, k, kv, x.dtype)
        k, v = w.s.adaptation.prefix(w, index, k, v)
        y = core(w, q, k, v, index)
        out = self._linear(w, layer, "self_attn.o_proj", g.view(y, (w.b, w.t, heads * d)), arch.hidden)
        g.release(x, q, k, v)
        return out

    def _owned(self, w: Writer, name: str) -> str:
        return f"{w.names.layer.replace('{i}', str(self.owner))}.{self.path}.{name}"

    def _linear(self, w: Writer, layer: str, name: str, x: Tensor, out: float, bias: bool = False) -> Tensor:
        """A linear layer whose weights belong to the owner."""
        weight = w.share(f"{self._owned(w, name)}.weight", (out, x.shape[-1]), base=True)
        path, owned = f"{layer}.{self.path}.{name}", f"{self._owned(w, name)}.bias"
        if bias:  # the same parameter under this layer's name
            w.share(owned, (out,))
            w.shared[f"{path}.bias"] = w.shared[owned]
        return w.linear(path, x, out, bias=bias, weight=weight)

    def _norm(self, w: Writer, layer: str, name: str, x: Tensor, width: float) -> Tensor:
        w.share(f"{self._owned(w, name)}.weight", (width,))
        return w.norm(self._owned(w, name), x, width)

    def _added(self, w: Writer, layer: str, name: str, x: Tensor, y: Tensor) -> Tensor:
        """The low-rank addition of this use."""
        path, adapts = f"{self._owned(w, name)}.{self.use}", w.s.adaptation.adapts
        inner = w.linear(f"{path}.0", x, self.rank)
        added = w.graph.add(y, w.linear(f"{path}.1", inner, y.shape[-1]))
        for (
            peer
        ) in self.peers:  # a method's adapters of the additions of other uses, which this layer holds and does not run
            idle = f"{layer}.{self.path}.{name}.{peer}"
            if peer != self.use and adapts(f"{idle}.0"):
                idle_adapters(w, f"{idle}.0", x, self.rank)
                idle_adapters(w, f"{idle}.1", inner, y.shape[-1])
        return added
