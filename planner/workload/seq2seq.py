"""What an encoder-decoder has that a single stack has not: target tokens, attention over another stack's output, position biases.

Vaswani et al. 2017, arXiv:1706.03762 (sec. 3.2.3); Raffel et al. 2020, arXiv:1910.10683 (sec. 2.1) for the relative bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from planner.errors import PlanError
from planner.run import Batch
from planner.workload.embeddings import embed
from planner.workload.graph import Graph, Kernel, Tensor
from planner.workload.writer import Writer

Zeros = Literal["", "shared", "own"]


@dataclass(frozen=True)
class TargetTokens:
    """The decoder's front: embeddings of `batch.target_len` tokens. limit: learned positions, None when there is no limit.

    usual: length when the run says nothing and the source is no text.
    """

    limit: int | None = None
    usual: int = 128
    fields: tuple[str, ...] = ("target_len",)

    def resolve(self, batch: Batch) -> Batch:
        """As long as the source, where that is text; no longer than the positions."""
        length = batch.target_len
        if length is None:
            length = batch.seq_len or self.usual
            length = length if self.limit is None else min(length, self.limit)
        if self.limit is not None and length > self.limit:
            raise PlanError(
                "batch.target_len",
                length,
                f"is more than the {self.limit} positions of the decoder",
                f"Use at most {self.limit}.",
            )
        return batch.model_copy(update={"target_len": length})

    def tokens(self, batch: Batch) -> int:
        return batch.target_len or 0

    def sequences(self, batch: Batch) -> int:
        return batch.micro

    def counted(self, batch: Batch) -> int:
        return batch.target_len or 0

    def write(self, w: Writer, require_grad: bool) -> Tensor:
        return embed(w, require_grad)


@dataclass(frozen=True)
class Cross:
    """Attention of each decoder block over the output of the tower `source`, between self-attention and MLP.

    Names are relative to the block. zeros: a position bias of zeros, made once (`shared`) or in every layer (`own`), as T5 does.
    """

    query: str = "encoder_attn.q_proj"
    key: str = "encoder_attn.k_proj"
    value: str = "encoder_attn.v_proj"
    out: str = "encoder_attn.out_proj"
    norm: str = "encoder_attn_layer_norm"
    source: str = "encoder"
    zeros: Zeros = ""

    @property
    def linears(self) -> tuple[str, ...]:
        return self.query, self.key, self.value, self.out


@dataclass(frozen=True)
class RelativeBias:
    """A learned bias of every head for each bucket of distances, added to the scores (Raffel et al. 2020).

    shared: the first layer's bias serves all layers (T5), else each layer has its own (UMT5).
    """

    buckets: int
    shared: bool
    name: str = "layer.0.SelfAttention.relative_attention_bias"

    def write(self, w: Writer, layer: str, index: int) -> Tensor:
        """The bias [1, a, t, keys] of this layer: looked up, or taken from the first."""
        key = f"{w.arch.tower or 'decoder'} position bias"
        if self.shared and key in w.carried:
            return w.carried[key]
        g, a, t, keys = w.graph, w.arch.heads, w.t, w.keys
        table = w.weight(f"{layer}.{self.name}.weight", (float(self.buckets), float(a)))
        bias = g.new((1, a, t, keys), table.dtype, table.requires_grad, "position_bias")
        buckets = g.new((t, keys), "int64", False, "buckets")
        saved = (buckets,) if table.requires_grad else ()
        moved = (Kernel("elementwise", bias.bytes + 10 * buckets.bytes),)
        g.add_operation("position_bias", "embedding", (table,), (bias, buckets), saved, moved, moved)
        if self.shared:
            hand_on(w, key, bias)
        return bias


def hand_on(w: Writer, key: str, bias: Tensor, *, leaf: bool = False) -> None:
    """The first layer's bias for the others. A checkpoint makes its own again, while the others' argument lives until backward."""
    g = w.graph
    if w.checkpointed:
        argument = g.new(bias.shape, bias.dtype, bias.requires_grad, "argument")
        g.add_operation("hand_on", "view", (bias,), (argument,), (), (), (), alias=True)
        w.carried[key] = argument
        if leaf:  # autograd refers to it until the end
            w.lasting = (*w.lasting, argument)
        else:
            w.handed = (*w.handed, argument)
        return
    w.carried[key], w.local = bias, (*w.local, bias)


def zero_bias(w: Writer, cross: Cross, keys: float, dtype: str) -> Tensor | None:
    """T5's cross-attention adds zeros for its position bias."""
    if not cross.zeros:
        return None
    key = "cross position bias"
    if cross.zeros == "shared" and key in w.carried:
        return w.carried[key]
    bias = w.graph.new((1, w.arch.heads, w.t, keys), dtype, False, "zero_bias")
    w.graph.add_operation("zero_bias", "elementwise", (), (bias,), (), (Kernel("elementwise", bias.bytes),), ())
    if w.checkpointed and cross.zeros == "shared":  # made to require a gradient, so that checkpoints can be reentrant
        bias = w.graph.leaf(bias)
    if cross.zeros == "shared":
        hand_on(w, key, bias, leaf=w.checkpointed)
    return bias


def additive_mask(g: Graph, bias: Tensor, batch: float, *, causal: bool, learned: bool) -> Tensor:
    """The bias as a mask of sdpa: with the causal pattern written in (`torch.where`), or a copy without the permutation
    (transformers create_position_bias_mask); every sequence of the batch sees the same memory, and has a gradient of its own."""
    if causal and bias.shape[-1] > bias.shape[-2]:  # a cache before the tokens: the pattern is a mask of each sequence
        bias = g.copy(bias, (batch, *bias.shape[1:]), name="masked_bias")
    elif causal:
        bias = g.unary("masked_bias", bias, save="none")
    elif learned:
        bias = g.copy(bias)
    shape, bias = bias.shape, g.lower(bias)
    if columns := -shape[-1] % 8:  # rows of the bias are aligned to 8 elements
        bias = g.view(g.copy(bias, (*shape[:-1], shape[-1] + columns), name="aligned_bias"), shape)
    return g.expand(bias, (batch, *shape[1:]))
