"""MPNet (BERT's blocks with one relative bias for all of them) and Megatron's BERT (its norms in front of the branches)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from planner.workload.architecture import Architecture
from planner.workload.families.encoders import bert_like
from planner.workload.families.fields import Fields, family
from planner.workload.graph import Kernel, Tensor
from planner.workload.seq2seq import RelativeBias

if TYPE_CHECKING:
    from planner.workload.writer import Writer


@dataclass(frozen=True)
class SpreadBias(RelativeBias):
    """A relative bias that the encoder looks up once and copies for every sequence (transformers MPNetEncoder)."""

    def write(self, w: Writer, layer: str, index: int) -> Tensor:
        key = "encoder position bias"
        if key in w.carried:
            return w.carried[key]
        g, a, t = w.graph, float(w.arch.heads), w.t
        table = w.weight(f"{self.name}.weight", (float(self.buckets), a))
        values = g.new((1, a, t, t), table.dtype, table.requires_grad, "position_bias")
        buckets = g.new((t, t), "int64", False, "buckets")
        moved = (Kernel("elementwise", values.bytes + 10 * buckets.bytes),)
        saved = (buckets,) if table.requires_grad else ()
        g.add_operation("position_bias", "embedding", (table,), (values, buckets), saved, moved, moved)
        bias = g.copy(values, (w.b, a, t, t), name="spread_bias")
        w.carried[key], w.local = bias, (*w.local, bias)
        return bias


@family("mpnet")
def _(f: Fields) -> Architecture:
    positions = f.size("max_position_embeddings", default=512)
    base = bert_like(
        f,
        "mpnet",
        classifier_hidden=True,
        max_positions=max(1, positions - 2),
        token_types=0,
        sdpa=False,
        scores_kept=True,
        probabilities_returned=False,
        classifier_dropout=f.fraction("hidden_dropout_prob", default=0.1),
        position_bias=SpreadBias(
            f.size("relative_attention_num_buckets", default=32), True, "mpnet.encoder.relative_attention_bias"
        ),
    )
    names = replace(
        base.names,
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        out="attention.attn.o",
        norms=("attention.LayerNorm", "output.LayerNorm"),
    )
    return replace(base, names=names)


@family("megatron-bert")
def _(f: Fields) -> Architecture:
    base = bert_like(f, "bert", placement="pre", final_norm=True, pooler=True, sdpa=False, scores_kept=True)
    names = replace(base.names, norms=("attention.ln", "ln"), embedding_norm="", final_norm="bert.encoder.ln")
    return replace(base, names=names)
